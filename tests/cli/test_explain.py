"""``qcompiler explain``: what fired, what nearly fired and why not, and the history of a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,4,8,8] x) => (float[n,4,8,8] y, float[n,4,8,8] other)
<float[4,4,1,1] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}, float[4,1,1] k = {1,2,3,4}> {
    c = Conv(x, w)  y = Mul(c, k)  d = Conv(x, w)  e = Mul(d, k)  f = Abs(d)  g = Identity(e)  other = Add(f, g)
}"""


@pytest.fixture(scope="module")
def build(command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result in which Mul was folded into one Conv, and not into the other, which is used twice."""
    folder = tmp_path_factory.mktemp("explain")
    model = parser.parse_model(TEXT)
    for node in model.graph.node:
        node.name = f"{node.op_type}_{node.output[0]}"
    model.graph.initializer.append(onnx.helper.make_tensor("w2", 1, [4, 4, 1, 1], range(16)))
    model.graph.node[2].input[1] = "w2"
    onnx.save(model, folder / "model.onnx")
    done = command("compile", "model.onnx", "-o", "build", "-q", cwd=folder)
    assert done.status == 0, done.err
    return folder / "build"


def explained(command: Any, build: Path, *words: str) -> Any:
    done = command("explain", build.name, *words, "--json", cwd=build.parent)
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_rules_that_fired_and_that_nearly_did(command: Any, build: Path) -> None:
    found = explained(command, build)
    assert {
        "pass": "fuse-conv-affine",
        "rule": "conv-scale",
        "count": 1,
        "example": ["Mul Mul_y", "Conv Conv_c"],
    } in found["rules"]
    (miss,) = [item for item in found["near_misses"] if item["rule"] == "conv-scale"]
    assert (miss["reason"], miss["count"], miss["nodes"]) == ("a value is also used by a Abs", 1, ["Mul Mul_e"])
    assert found["undone"] == []
    assert found["layers"] == []


def test_a_node_that_stands(command: Any, build: Path) -> None:
    found = explained(command, build, "Mul_e")
    assert found["stands"] and found["op"] == "Mul"
    assert [item["rule"] for item in found["near_misses"]] == ["conv-scale"]
    assert "is also used by <Abs Abs_f>" in found["near_misses"][0]["reason"]


def test_a_node_that_is_gone_and_what_stands_in_its_place(command: Any, build: Path) -> None:
    found = explained(command, build, "Mul_y")
    assert not found["stands"]
    assert found["op"] == "Mul"
    assert found["became"] == ["Conv_c"]
    assert found["history"][-1]["rule"] == "conv-scale"
    found = explained(command, build, "Identity_g")
    assert (found["stands"], found["became"]) == (False, [])


def test_for_people(command: Any, build: Path) -> None:
    done = command("explain", build, cwd=build.parent)
    assert "conv-scale" in done.out and "a value is also used by a Abs" in done.out
    done = command("explain", build, "Mul_y", cwd=build.parent)
    assert done.out.splitlines()[0] == "Mul Mul_y: is gone; in its place stands Conv_c"
    done = command("explain", build, "Mul_e", cwd=build.parent)
    assert done.out.splitlines()[0] == "Mul Mul_e: stands in the compiled model"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("build", "Mul_z"), 2, "neither model has a node 'Mul_z'; did you mean 'Mul_"),
        (("nowhere",), 3, "there is no file nowhere/report.json; give a folder that `qcompiler compile` made"),
        (("model.onnx",), 3, "there is no file model.onnx/report.json"),
    ],
)
def test_what_cannot_be_explained(command: Any, build: Path, words: tuple[str, ...], status: int, said: str) -> None:
    done = command("explain", *words, cwd=build.parent)
    assert (done.status, done.out) == (status, "")
    assert said in done.err


def test_layers_tell_what_would_change_their_choice(command: Any, folder: Path) -> None:
    assert (
        command(
            "compile",
            "model.onnx",
            "-o",
            "int8",
            "--data",
            "data.npz",
            "--exclude",
            "Conv",
            "--min-speedup",
            "0",
            "-q",
            cwd=folder,
        ).status
        == 0
    )
    found = json.loads(command("explain", "int8", "--json", cwd=folder).out)
    (layer,) = [item for item in found["layers"] if item["op"] == "Conv"]
    assert layer["reason"]


def test_what_layers_became_and_what_would_change_it(command: Any, tmp_path: Path) -> None:
    import numpy as np

    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,64,256] x) => (float[1,64,256] y)
        { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"""
    model = parser.parse_model(text)
    random = np.random.default_rng(0)
    for name in "wv":
        array = random.normal(size=(256, 256)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=random.normal(size=(8, 1, 64, 256)).astype(np.float32))
    words = ("--data", "data.npz", "--exclude", "^y$", "--min-speedup", "0.01", "-q")
    done = command("compile", "model.onnx", "-o", "build", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    found = explained(command, tmp_path / "build")
    (form,) = found["chosen"]
    assert (form["choice"], form["count"]) == ("int8", 1)
    assert form["source_us"] > 0 and form["compiled_us"] > 0
    (left,) = found["layers"]
    assert (left["reason"], left["advice"]) == ("the user excluded it", "leave out the `--exclude` that names it")
    layer = explained(command, tmp_path / "build", "a")["layer"]
    assert layer["choice"] == "int8"
    assert layer["advice"] == "`--exclude '^a$'` would leave it float"
    assert "int8" in command("explain", "build", cwd=tmp_path).out
