"""The pages say what is true: every code block runs from top to bottom of its page, and the site builds without a warning.

HTML comments, which readers do not see, say what a page needs:

    <!-- files: NAME=PATH ... -->   files of the project, copied to where the page runs
    <!-- run: PATH -->              a script of the project, run there
    <!-- needs: MODULE ... -->      the next block runs where these are installed
    <!-- skip: REASON -->           the next block is only parsed
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if ROOT / "docs" / "passes" not in path.parents
)
PIECE = re.compile(r"^<!-- (files|run|needs|skip): (.*?) -->$|^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = ("python", "sh")
SHOWN = ("json", "text", "toml")


@dataclass
class Piece:
    language: str
    code: str
    line: int
    needs: list[str] = field(default_factory=list)
    skip: str = ""


def pieces(page: str) -> tuple[list[Piece], list[str], list[str]]:
    """Blocks, files and scripts of a page."""
    text = (ROOT / page).read_text("utf-8")
    blocks, files, scripts, needs, skip = [], [], [], [], ""
    for found in PIECE.finditer(text):
        what, said, language, code = found.groups()
        if what == "files":
            files += said.split()
        elif what == "run":
            scripts.append(said)
        elif what == "needs":
            needs = said.split()
        elif what == "skip":
            skip = said
        else:
            blocks.append(Piece(language, code, text[: found.start()].count("\n") + 1, needs, skip))
            needs, skip = [], ""
    return blocks, files, scripts


def missing(modules: list[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_has_a_language_and_is_sound(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    blocks, _, _ = pieces(page)
    fences = re.findall(r"^```(\S*)", text, re.MULTILINE)
    assert len(blocks) == len(fences) / 2, "a block has no language"
    for block in blocks:
        where = f"{page}:{block.line}"
        assert block.language in (*RUN, *SHOWN, "{toctree}"), where
        if block.language == "python":
            compile(block.code, where, "exec", dont_inherit=True)
        elif block.language == "sh":
            done = subprocess.run(["bash", "-n"], input=block.code, text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{where}: {done.stderr}"
        elif block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "json":
            json.loads(block.code)


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language in RUN for block in pieces(page)[0])])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks, files, scripts = pieces(page)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path, "PYTHONPATH": str(ROOT), "QCOMPILER_CACHE": str(tmp_path / ".cache"), "NO_COLOR": "1",
        "PYTHONWARNINGS": "default",
    }  # fmt: skip
    for entry in files:
        name, _, source = entry.partition("=")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, tmp_path / name)
    for script in scripts:
        subprocess.run([sys.executable, ROOT / script], cwd=tmp_path, env=environment, check=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "a_page"}
    ran = 0
    for block in blocks:
        where = f"{page}:{block.line}"
        if block.skip or missing(block.needs) or block.language not in RUN:
            continue
        ran += 1
        if block.language == "python":
            with warnings.catch_warnings():  # of libraries that the reader has, too
                warnings.simplefilter("default")
                exec(compile(block.code, where, "exec", dont_inherit=True), names)
        else:
            command = ["bash", "-euo", "pipefail", "-c", block.code]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{where}\n{done.stderr[-2000:]}"
    assert ran or all(block.skip or missing(block.needs) for block in blocks if block.language in RUN)


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    copied = tmp_path / "project"
    copied.mkdir()
    shutil.copytree(ROOT / "docs", copied / "docs", ignore=shutil.ignore_patterns("passes"))
    (copied / "qcompiler").symlink_to(ROOT / "qcompiler")  # a page shows the schema as the code has it
    words = ["-m", "sphinx", "-W", "--keep-going", "-q", "docs", "site"]
    done = subprocess.run(
        [sys.executable, *words], cwd=copied, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list((copied / "site").rglob("*.html"))
    assert len(pages) > 60
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]*src=["']?(?:https?:)?//|<link[^>]*href=["']?(?:https?:)?//[^>]*stylesheet"""
    )
    assert not [page for page in pages if loaded.search(page.read_text("utf-8"))]
    assert not [page for page in pages if "Not run here" in page.read_text("utf-8") and page.stem != "recover"]


def test_each_pass_changes_its_example() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import pass_pages
    finally:
        sys.path.pop(0)
    from qcompiler.passes import builtin_passes

    examples = {path.stem for path in (ROOT / "docs" / "pass-examples").glob("*.txt")}
    assert examples == set(builtin_passes())
    for name in sorted(examples - ({"recover"} if missing(["torch"]) else set())):
        found = pass_pages.run(ROOT / "docs" / "pass-examples" / f"{name}.txt")
        assert pass_pages.format_model(found.before, most=64) != pass_pages.format_model(found.after, most=64), name
        if builtin_passes()[name].lossless and found.decibels is not None:
            assert found.decibels > 100, name
        assert "| |" not in pass_pages.options_of(builtin_passes()[name]), name
