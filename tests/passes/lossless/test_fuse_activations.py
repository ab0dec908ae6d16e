"""Activations in pieces."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import FuseActivations

HEAD = "<float zero = {0}, float six = {6}, float[1] three = {3}, float sixth = {0.16666667}, float one = {1}>"
RELU6 = {
    "Paddle and PyTorch": "c = Clip(a, zero, six)",
    "tf2onnx": "r = Relu(a) c = Min(r, six)",
    "by Max": "r = Max(a, zero) c = Min(r, six)",
}


@pytest.mark.parametrize("relu6", RELU6)
@pytest.mark.parametrize(
    "tail",
    ["m = Mul(x, c) y = Div(m, six)", "d = Div(c, six) y = Mul(x, d)", "m = Mul(c, x) y = Mul(m, sixth)",
     "d = Mul(c, sixth) y = Mul(d, x)", "d = Div(x, six) y = Mul(d, c)"],
)  # fmt: skip
def test_hard_swish(rewrite: Callable[..., Any], relu6: str, tail: str) -> None:
    text = f"g (float[2,3] x) => (float[2,3] y) {HEAD} {{ a = Add(x, three) {RELU6[relu6]} {tail} }}"
    assert rewrite(text, FuseActivations()).nodes == ["y = HardSwish(x)"]
    assert rewrite(text, FuseActivations(), opset=13).ops == ["HardSigmoid", "Mul"]


def test_hard_sigmoid(rewrite: Callable[..., Any]) -> None:
    text = f"g (float[2,3] x) => (float[2,3] y) {HEAD} {{ a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) }}"
    assert rewrite(text, FuseActivations()).ops == ["HardSigmoid"]


def test_softplus_and_mish_as_the_operator_set_has_them(rewrite: Callable[..., Any]) -> None:
    text = (
        f"g (float[4] x) => (float[4] y) {HEAD} {{ e = Exp(x) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(x, t) }}"
    )
    assert rewrite(text, FuseActivations()).ops == ["Softplus", "Tanh", "Mul"]
    assert rewrite(text, FuseActivations(), opset=18).ops == ["Mish"]


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        ("float[2] x", "a = Add(x, four) c = Clip(a, zero, six) y = Div(c, six)", "does not hold"),
        ("float[2] x", "a = Add(x, wide) c = Clip(a, zero, six) y = Div(c, six)", "adds an axis"),
        (
            "int32[2] i",
            "x = Cast<to = 1>(i) a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) z = Neg(c)",
            "also used",
        ),
    ],
)
def test_refusals(rewrite: Callable[..., Any], head: str, nodes: str, reason: str) -> None:
    more = HEAD[:-1] + ", float four = {4}, float[1,1] wide = {3}>"
    text = f"g ({head}) => (float[m] y) {more} {{ {nodes} }}".replace(
        "float[m] y", "float[p,q] y" if "wide" in nodes else "float[m] y"
    )
    done = rewrite(text, FuseActivations(), explain=True, run=False)
    assert done.changed == 0 and any(reason in text for text in done.reasons), done.reasons
