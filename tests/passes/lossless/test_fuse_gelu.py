"""GELU and SiLU, as the operator set and the target have them."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.ir import clone_model
from qcompiler.lower import OrtCpu
from qcompiler.passes.lossless import FuseGelu
from qcompiler.pipeline import PassContext

HEAD = """<float r = {1.4142135}, float i = {0.70710678}, float one = {1}, float half = {0.5}, float three = {3},
    float c = {0.044715}, float k = {0.7978846}>"""
ERF = {
    "dynamo": "d = Div(x, r) e = Erf(d) a = Add(e, one) b = Mul(half, a) y = Mul(x, b)",
    "TorchScript": "d = Div(x, r) e = Erf(d) a = Add(e, one) b = Mul(x, a) y = Mul(b, half)",
    "tf2onnx": "d = Mul(x, i) e = Erf(d) a = Add(one, e) b = Mul(x, half) y = Mul(b, a)",
}
TANH = {
    "TorchScript": "p = Pow(x, three) q = Mul(p, c) s = Add(x, q) t = Mul(s, k) u = Tanh(t) a = Add(u, one)"
    " b = Mul(x, half) y = Mul(b, a)",
    "dynamo": "w = Mul(x, x) p = Mul(w, x) q = Mul(c, p) s = Add(x, q) t = Mul(k, s) u = Tanh(t) a = Add(u, one)"
    " b = Mul(half, a) y = Mul(x, b)",
    "tf2onnx": "w = Mul(x, x) q = Mul(w, c) s = Add(q, one) l = Mul(x, k) t = Mul(l, s) u = Tanh(t) a = Add(u, one)"
    " b = Mul(x, a) y = Mul(b, half)",
}


def text(nodes: str) -> str:
    return f"g (float[2,3] x) => (float[2,3] y) {HEAD} {{ {nodes} }}"


@pytest.mark.parametrize("nodes", [*ERF.values(), *TANH.values()], ids=[*ERF, *(f"tanh {key}" for key in TANH)])
def test_in_pieces(rewrite: Callable[..., Any], nodes: str) -> None:
    done = rewrite(text(nodes), FuseGelu(), opset=20, ir=9)
    assert done.ops == ["Gelu"] and ("tanh" in done.nodes[0]) == ("Tanh" in nodes)
    assert rewrite(text(nodes), FuseGelu()).changed == 0


@pytest.mark.parametrize(
    ("nodes", "made"),
    [(ERF["dynamo"], "Gelu"), (TANH["dynamo"], "FastGelu"), ("s = Sigmoid(x) y = Mul(s, x)", "QuickGelu")],
)
def test_onnxruntimes_own(
    model_of: Callable[..., Any], same_numbers: Callable[..., Any], feeds_for: Callable[..., Any], nodes: str, made: str
) -> None:
    source = model_of(text(nodes))
    model = clone_model(source)
    FuseGelu().run(model, PassContext(target=OrtCpu()))
    assert [(node.domain, node.op_type) for node in model.nodes()] == [("com.microsoft", made)]
    assert model.opsets["com.microsoft"] == 1
    same_numbers(source, model, feeds_for(source, {}))


def test_refusals(rewrite: Callable[..., Any]) -> None:
    nodes = ERF["dynamo"].replace("one", "three")
    done = rewrite(text(nodes), FuseGelu(), opset=20, ir=9, explain=True)
    assert done.changed == 0 and any("does not hold" in reason for reason in done.reasons)
    wide = text(ERF["dynamo"]).replace("float half = {0.5}", "float[1] half = {0.5}").replace("[2,3]", "")
    done = rewrite(wide.replace("float y", "float[1] y"), FuseGelu(), opset=20, ir=9, explain=True)
    assert done.changed == 0 and any("adds an axis" in reason for reason in done.reasons)
