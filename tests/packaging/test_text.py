"""Files stay short, links lead somewhere, and nothing speaks of the machine it was written on."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

LONGEST = 600  # lines; one idea a file
FOREIGN = "/" + "work" + "/"  # a path on somebody's machine; in two parts, or this file would hold it
GENERATED = {"__pycache__", "build", "demo-build", "dist"}

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|^\s*\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)


def links(text: str) -> list[str]:
    """The relative targets of the links in a Markdown text, without their fragments."""
    found = [inline or named for inline, named in LINK.findall(CODE.sub("", FENCE.sub("", text)))]
    return [unquote(target.partition("#")[0]) for target in found if not re.match(r"[a-z]+:|#|//", target)]


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    """Every file that is in the repository, or would be after ``git add``; without git, all that was not generated."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return [root / name for name in listed if name and (root / name).is_file()]
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = [one for one in inner if not one.startswith(".") and one not in GENERATED]
        found += [Path(folder, name) for name in names]
    return found


def test_no_file_of_the_package_is_long(root: Path, package_files: list[Path]) -> None:
    counted = {path: (root / path).read_bytes().count(b"\n") for path in package_files if path.suffix != ".pyc"}
    assert {str(path): lines for path, lines in counted.items() if lines > LONGEST} == {}


def test_no_file_names_a_path_of_one_machine(root: Path, tracked: list[Path]) -> None:
    assert [str(path.relative_to(root)) for path in tracked if FOREIGN.encode() in path.read_bytes()] == []


def test_links_lead_somewhere(root: Path) -> None:
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "models").glob("*.md")]
    dead = [
        f"{page.relative_to(root)}: {target}"
        for page in pages
        for target in links(page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_links_are_found_outside_of_code() -> None:
    text = "\n".join(
        [
            "[a](docs/a%20b.md#part) ![b](<b.png>) [c](https://example.com) [d](#here) `[e](e.md)`",
            "```",
            "[f](f.md)",
            "```",
            "[g]: g.md",
        ]
    )
    assert links(text) == ["docs/a b.md", "b.png", "g.md"]
