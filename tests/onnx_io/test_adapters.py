"""Models that other libraries hold: all come in the same way, and what is no model is refused by its type."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir
import pytest

from qcompiler.ir import difference, verify
from qcompiler.onnx_io import load, to_proto

Proto = Callable[..., onnx.ModelProto]
Run = Callable[..., list[Any]]
TEXT = """g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
  a = Add(x, w)
  y = If(c) <then_branch = t () => (float[2] p) { p = Relu(a) }, else_branch = e () => (float[2] q) { q = Neg(a) }>
}"""
X = np.array([1.0, -5.0], np.float32)


@pytest.fixture
def source(proto: Proto) -> onnx.ModelProto:
    return proto(TEXT)


@pytest.mark.parametrize("form", ["path", "text of a path", "bytes", "ModelProto", "onnx_ir.Model"])
def test_every_form_is_the_same_model(source: onnx.ModelProto, tmp_path: Path, form: str) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(source, path)
    forms = {"path": path, "text of a path": str(path), "bytes": path.read_bytes(), "ModelProto": source}
    given = forms[form] if form in forms else onnx_ir.from_proto(source)
    model = load(given)
    verify(model)
    assert difference(model, load(source)) == ""


def test_a_graphsurgeon_graph(source: onnx.ModelProto, run: Run) -> None:
    graph = gs.import_onnx(source)
    model = load(graph)
    verify(model)
    for c in (True, False):
        np.testing.assert_array_equal(run(to_proto(model), x=X, c=c)[0], run(source, x=X, c=c)[0])


def test_an_onnx_ir_model_edited_by_its_own_means(source: onnx.ModelProto, run: Run) -> None:
    held = onnx_ir.from_proto(source)
    (add, _) = held.graph
    add.replace_input_with(1, add.inputs[0])
    np.testing.assert_array_equal(run(to_proto(load(held)), x=X, c=True)[0], [2, 0])


def test_what_we_give_out_is_read_by_the_others(source: onnx.ModelProto, run: Run) -> None:
    given = to_proto(load(source))
    for back in (onnx_ir.to_proto(onnx_ir.from_proto(given)), gs.export_onnx(gs.import_onnx(given))):
        np.testing.assert_array_equal(run(back, x=X, c=True)[0], run(source, x=X, c=True)[0])


def test_a_torch_program_is_known_by_its_class(source: onnx.ModelProto) -> None:
    kind = type("ONNXProgram", (), {"__module__": "torch.onnx._internal", "model_proto": source})
    assert difference(load(kind()), load(source)) == ""


@pytest.mark.parametrize("given", [None, 3, [1], {"graph": 1}, np.zeros(2)], ids=lambda x: type(x).__name__)
def test_what_is_no_model_is_refused_by_its_type(given: Any, refusal: Callable[[Any], str]) -> None:
    name = f"{type(given).__module__}.{type(given).__qualname__}"
    message = refusal(given)
    assert message.startswith(f"{name} is not a model; give a path, bytes, onnx.ModelProto, onnx_ir.Model")


def test_a_broken_object_of_a_known_library_is_refused(proto: Proto, refusal: Callable[[Any], str]) -> None:
    held = onnx_ir.from_proto(proto(TEXT))
    held.graph[0].op_type = "NoSuchOp"
    assert refusal(held).startswith("the given onnx_ir.Model is not a valid ONNX model: No Op registered for NoSuchOp")


def test_what_torch_exports_is_compiled_straight_away() -> None:
    """In a process of its own: exporting loads half of torch, and warns of torch's own future."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("torch")
    script = (
        "import numpy as np, torch\n"
        "import qcompiler as qc\n"
        "net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)).eval()\n"
        "program = torch.onnx.export(net, (torch.zeros(1, 64),), dynamo=True, verbose=False, input_names=['x'])\n"
        "x = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)\n"
        "result = qc.compile(program, data=[{'x': x}], recipe='lossless')\n"
        "(y,) = result.run({'x': x}).values()\n"
        "np.testing.assert_allclose(y, net(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)\n"
        "print(result.report['compiled']['ops'])\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "'Gemm': 2" in done.stdout
