"""The example of a plug-in as a stranger uses it: installed, found by name, run by its recipe; and a bad one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3] x) => (float[n,3] y) <float a = {-1}, float b = {1}, float c = {0}, float d = {6}, float k = {8}> {
    t = Clip(x, a, b)  u = Clip(t, c, d)  v = Identity(u)  y = Div(v, k)
}"""

BAD = '''
from dataclasses import dataclass
import qcompiler as qc
from qcompiler import op

@qc.rule(lambda x, k: op.Div(x, k))
def wrong(rw, m):
    """Not the same number."""
    return rw.op.Mul(m.x, m.k)

@qc.rule(lambda x: op.Clip(x, qc.maybe(None), qc.maybe(None)))
def idle(rw, m):
    return m.no("never")

@dataclass(frozen=True)
class Bad(qc.Pass):
    """Wrong."""
    rules = (idle, wrong)
    lossless = True

RECIPE = """
name = "bad"
[[pass]]
name = "bad"
[[pass]]
name = "simplify"
"""
'''


def run(*words: object, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (path, root))), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it."""
    source, target = tmp_path_factory.mktemp("source") / "tidy", tmp_path_factory.mktemp("site")
    shutil.copytree(root / "examples" / "qcompiler-tidy", source)
    words = ("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, source)
    done = run(*words, cwd=source, path=target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(TEXT), tmp_path / "model.onnx")
    return tmp_path


def test_its_own_tests_pass(root: Path, installed: Path, tmp_path: Path) -> None:
    shutil.copy(root / "examples" / "qcompiler-tidy" / "test_qcompiler_tidy.py", tmp_path)
    done = run("pytest", "-q", "-p", "no:cacheprovider", tmp_path, cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout


def test_it_is_listed(installed: Path, tmp_path: Path) -> None:
    passes = json.loads(run("qcompiler", "passes", "--json", cwd=tmp_path, path=installed).stdout)
    mine = {item["name"]: item for item in passes if item["name"] in ("merge-clips", "multiply")}
    assert mine["merge-clips"]["rules"] == ["clip-of-clip"]
    assert mine["multiply"]["lossless"] is True
    recipes = json.loads(run("qcompiler", "recipes", "--json", cwd=tmp_path, path=installed).stdout)
    assert "tidy" in [item["name"] for item in recipes]


def test_its_recipe_compiles_and_explains(installed: Path, folder: Path) -> None:
    done = run(
        "qcompiler", "compile", "model.onnx", "--recipe", "tidy", "-o", "build", "-q", cwd=folder, path=installed
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "build/report.json").read_text())
    assert report["compiled"]["ops"] == {"Clip": 1, "Mul": 1}
    done = run("qcompiler", "explain", "build", cwd=folder, path=installed)
    assert "clip-of-clip" in done.stdout


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A plug-in as pip leaves it, without pip."""
    site = tmp_path / "site"
    info = site / "bad-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "bad_plugin.py").write_text(BAD)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    points = "[qcompiler.passes]\nbad = bad_plugin:Bad\n[qcompiler.recipes]\nbad = bad_plugin:RECIPE\n"
    (info / "entry_points.txt").write_text(points)
    return site


@pytest.mark.parametrize("strict", [False, True])
def test_a_wrong_rule_is_named_and_left_out_and_strict_ends_there(bad: Path, folder: Path, strict: bool) -> None:
    words = ["compile", "model.onnx", "--recipe", "bad", "-o", "build", "-q", *(["--strict"] if strict else [])]
    done = run("qcompiler", *words, cwd=folder, path=bad)
    said = "pass 'bad': rule 'wrong' was rolled back: output 'y' is off by"
    assert said in done.stderr
    assert "first after 'wrong' at Div y" in done.stderr
    if strict:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert not (folder / "build").exists()
        return
    assert done.returncode == 0
    report: Any = json.loads((folder / "build/report.json").read_text())
    assert report["compiled"]["ops"] == {"Clip": 2, "Div": 1}
    assert any(said in text for text in report["warnings"])
