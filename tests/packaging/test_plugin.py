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
    assert "10 passed" in done.stdout


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


def test_its_target_is_listed_and_compiled_for(installed: Path, folder: Path) -> None:
    targets = json.loads(run("qcompiler", "targets", "--json", cwd=folder, path=installed).stdout)
    assert "old-cpu" in [item["name"] for item in targets]
    words = ("compile", "model.onnx", "--target", "old-cpu", "--data", "random", "-o", "build", "-q")
    done = run("qcompiler", *words, cwd=folder, path=installed)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "build/report.json").read_text())["target"] == "old-cpu"


def test_its_importer_reads_files_by_their_ending(installed: Path, folder: Path) -> None:
    (folder / "model.onnxtxt").write_text(TEXT)
    done = run("qcompiler", "compile", "model.onnxtxt", "-o", "build", "-q", cwd=folder, path=installed)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "build/report.json").read_text())
    assert report["source"]["path"] == "model.onnxtxt"
    assert json.loads(run("qcompiler", "inspect", "model.onnxtxt", "--json", cwd=folder, path=installed).stdout)["ops"]
    (folder / "bad.onnxtxt").write_text("no model")
    done = run("qcompiler", "compile", "bad.onnxtxt", "-o", "none", "-q", cwd=folder, path=installed)
    assert done.returncode == 3
    assert "importer onnxtxt could not read bad.onnxtxt: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


KERNEL = """
import importlib.util
import os
os.environ["TRITON_INTERPRET"] = "1"
import numpy as np, onnx
from onnx import parser
import qcompiler as qc
from qcompiler.kernels import KERNELS
from qcompiler.lower import OrtCuda, kernel_node, open_program
from qcompiler.onnx_io import open_session

assert "TidyAbs" not in list(KERNELS)  # it is loaded when it is asked for
model = qc.load(parser.parse_model(
    '<ir_version: 10, opset_import: ["" : 21]> g (int8[n,3] x) => (int8[n,3] y) { y = Identity(x) }'))
(old,) = model.graph
node = kernel_node(model, "TidyAbs", [old.input(0)], {}, name="abs")
model.graph.insert_before(old, node)
old.set_input(0, node.output)
x = np.array([[-128, -1, 5]], np.int8)
wanted = [[127, 1, 5]]
assert open_session(model).run({"x": x})["y"].tolist() == wanted  # by its body, in a stock onnxruntime
assert OrtCuda().open(model, 1).run({"x": x})["y"].tolist() == wanted  # by its reference
assert KERNELS.get("Nothing") is None
if importlib.util.find_spec("triton"):
    program = open_program(model, device="cpu", kernels="interpreter")
    assert program.run({"x": x})["y"].tolist() == wanted  # by Triton's interpreter
print("both")
"""


def test_its_kernel_runs_by_its_reference_and_by_its_body(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(KERNEL)
    done = run("runpy", "script", cwd=tmp_path, path=installed)
    assert (done.returncode, done.stdout.strip()) == (0, "both"), done.stderr


SPOILT = """
[qcompiler.passes]
missing = no_such_module:Pass
number = bad_plugin:NUMBER
[qcompiler.targets]
raising = bad_plugin:Raising
[qcompiler.recipes]
odd = bad_plugin:ODD
[qcompiler.importers]
odd = no_such_module:read
[qcompiler.kernels]
Odd = bad_plugin:NUMBER
"""


@pytest.fixture
def spoilt(bad: Path) -> Path:
    (bad / "bad-1.0.dist-info" / "entry_points.txt").write_text(SPOILT)
    lines = "from qcompiler import Target\nclass Raising(Target):\n    name = 'raising'\n    description = ''\n"
    (bad / "bad_plugin.py").write_text(f"NUMBER = 7\nODD = '[[pass]]\\nname = 3'\n{lines}")
    return bad


def test_broken_plugins_are_named_and_the_rest_works(spoilt: Path, folder: Path) -> None:
    done = run("qcompiler", "compile", "model.onnx", "-o", "build", "-q", cwd=folder, path=spoilt)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "was not loaded" in line]
    for name in ("passes:missing", "passes:number", "targets:raising", "recipes:odd", "importers:odd"):
        assert sum(f"plug-in {name} was not loaded: " in line for line in said) == 1, name
    (folder / "model.odd").write_text("")
    done = run("qcompiler", "inspect", "model.odd", cwd=folder, path=spoilt)
    assert done.returncode == 3
    assert "importer odd cannot be used: ModuleNotFoundError" in done.stderr
    script = "from qcompiler.kernels import KERNELS\nfrom qcompiler.compiler import plugin_problems\n"
    script += "assert KERNELS.get('Odd') is None\nprint(plugin_problems()['kernels:Odd'])"
    (folder / "script.py").write_text(script)
    assert "it is no qcompiler.kernels.Kernel" in run("runpy", "script", cwd=folder, path=spoilt).stdout
