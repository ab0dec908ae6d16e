"""The page in a real browser, where there is one: a silent console, no sideways scroll, dark at night."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import pytest

from qcompiler.report import render_html

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
WIDTH = "<script>document.title = 'width ' + document.documentElement.scrollWidth;</script>"
FRAME = """<iframe width="{width}" height="2000" style="border: 0" srcdoc="{page}" onload="
  const root = this.contentDocument.documentElement;
  document.title = root.scrollWidth + ' in ' + root.clientWidth;"></iframe>"""


class Browser:
    """Chromium without a window, with a profile of its own."""

    def __init__(self, command: str, folder: Path) -> None:
        self.command = command
        self.folder = folder

    def open(self, html: str, *options: str, width: int = 1280, dark: bool = False) -> subprocess.CompletedProcess[str]:
        """Loads ``html``; what it says on the console is in stderr, after the word CONSOLE."""
        path = self.folder / "report.html"
        path.write_text(html, "utf-8")
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={self.folder / 'profile'}",
            f"--window-size={width},2400",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        ]
        command = [self.command, *flags, *options, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    command = next(filter(None, map(shutil.which, NAMES)), None)
    if command is None:
        pytest.skip("no chromium here")
    browser = Browser(command, tmp_path_factory.mktemp("browser"))
    try:
        browser.open("<p>hello</p>", "--dump-dom")
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{command} does not start: {error}")
    return browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["rich", "minimal"])
def test_the_page_is_drawn(
    browser: Browser, request: pytest.FixtureRequest, tmp_path: Path, kind: str, width: int, dark: bool
) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = tmp_path / "page.png"
    done = browser.open(render_html(request.getfixturevalue(kind)), f"--screenshot={picture}", width=width, dark=dark)
    assert "CONSOLE" not in done.stderr, done.stderr
    with image.open(picture) as opened:
        pixels = opened.convert("L")
    assert pixels.size == (width, 2400)
    histogram = pixels.histogram()
    paper, ink = pixels.getpixel((2, 2)), (255 if dark else 0)
    assert paper < 40 if dark else paper > 240
    assert sum(histogram[170:] if dark else histogram[:100]) > 2000, "hardly any text"
    assert abs(paper - ink) > 200


@pytest.mark.parametrize("width", [1280, 700, 390, 320])
def test_the_page_itself_never_scrolls_sideways(browser: Browser, rich: dict[str, Any], width: int) -> None:
    rich["layers"][0]["node"] = rich["passes"][0]["name"] = rich["warnings"][0] = "unbroken" * 40
    rich["quality"]["outputs"]["x" * 200] = rich["quality"]["outputs"]["boxes"]
    rich["source"]["path"] = "y" * 200
    page = POLICY.sub("", render_html(rich))
    # A frame, because some builds have no window narrower than 500.
    done = browser.open(FRAME.format(width=width, page=escape(page)), "--dump-dom", width=1400)
    assert f"<title>{width} in {width}</title>" in done.stdout


def test_a_script_that_slipped_in_would_not_run(browser: Browser, rich: dict[str, Any]) -> None:
    html = render_html(rich).replace("</body>", f"{WIDTH}</body>")
    done = browser.open(html, "--dump-dom")
    assert "<title>width" not in done.stdout
    assert "CONSOLE" in done.stderr  # which also shows that the console is heard
