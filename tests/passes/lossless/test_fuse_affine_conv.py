"""Scales and shifts in front of convolutions: input normalization, and networks that normalize before they convolve."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import FuseAffineConv

RNG = np.random.default_rng(0)
CHANNELS = {"float[4,1,1] k": (4, 1, 1), "float[1,4,1,1] k": (1, 4, 1, 1), "float k": (), "float[1] k": (1,)}
# operator: weight [..] for 4 input channels, attributes
CONVS = {
    "Conv": ("6,4,3,3", ""),
    "grouped Conv": ("6,2,3,3", "<group = 2>"),
    "depthwise Conv": ("4,1,3,3", "<group = 4>"),
    "strided Conv": ("2,4,3,2", "<strides = [2, 1], dilations = [1, 2]>"),
    "ConvTranspose": ("4,5,3,3", ""),
    "grouped ConvTranspose": ("4,3,3,3", "<group = 2>"),
}


def filled(text: str) -> str:
    """``text`` with elements for the constants that are declared in the first angle brackets; arrays come instead."""

    def elements(found: re.Match[str]) -> str:
        sizes = [int(size) for size in (found[2] or "").split(",") if size]
        return f"{found[0]} = {{{', '.join(['1'] * math.prod(sizes))}}}"

    head, bracket, rest = text.partition("<")
    inside, end, tail = rest.partition(">")
    return head + bracket + re.sub(r"(float(?:16)?)(?:\[([\d,]*)\])? (\w+)", elements, inside) + end + tail


def through(rewrite: Callable[..., Any], nodes: str, weight: str, constant: str, bias: int = 0, **more: Any) -> Any:
    shape = tuple(map(int, weight.split(",")))
    biases = f", float[{bias}] b" if bias else ""
    text = f"g (float[n,4,9,9] x) => (float y) <float[{weight}] w, {constant}{biases}> {{ {nodes} }}"
    arrays = {
        "w": RNG.normal(size=shape).astype(np.float32),
        "k": RNG.uniform(0.5, 2, CHANNELS[constant]).astype(np.float32),
    }
    if bias:
        arrays["b"] = RNG.normal(size=bias).astype(np.float32)
    return rewrite(filled(text), FuseAffineConv(), sizes={"n": 2}, **arrays, **more)


@pytest.mark.parametrize("constant", CHANNELS)
@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("scale", ["Mul(x, k)", "Mul(k, x)", "Div(x, k)"])
def test_a_scale(rewrite: Callable[..., Any], conv: str, scale: str, constant: str) -> None:
    weight, attrs = CONVS[conv]
    done = through(rewrite, f"s = {scale} y = {conv.split()[-1]} {attrs} (s, w)", weight, constant)
    assert done.ops == [conv.split()[-1]]


@pytest.mark.parametrize("conv", [name for name in CONVS if "Transpose" not in name])
@pytest.mark.parametrize("shift", ["Add(x, k)", "Add(k, x)", "Sub(x, k)", "Sub(k, x)"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_shift(rewrite: Callable[..., Any], conv: str, shift: str, bias: bool) -> None:
    weight, attrs = CONVS[conv]
    outputs = int(weight.partition(",")[0])
    nodes = f"s = {shift} y = Conv {attrs} (s, w{', b' if bias else ''})"
    assert through(rewrite, nodes, weight, "float[4,1,1] k", outputs if bias else 0).ops == ["Conv"]


def test_both_in_a_row_as_images_are_normalized(rewrite: Callable[..., Any]) -> None:
    nodes = "d = Sub(x, k) s = Div(d, k) y = Conv(s, w, b)"
    done = through(rewrite, nodes, "6,4,3,3", "float[4,1,1] k", 6)
    assert (done.ops, done.counts) == (["Conv"], {"scale-conv": 1, "shift-conv": 1})


@pytest.mark.parametrize(
    ("nodes", "weight"),
    [
        ("s = Add(x, k) y = Conv <pads = [1, 1, 1, 1]> (s, w)", "6,4,3,3"),
        ("s = Add(x, k) y = Conv <auto_pad = \"SAME_UPPER\"> (s, w)", "6,4,3,3"),
        ("s = Add(x, k) y = ConvTranspose(s, w)", "4,5,3,3"),
    ],
)  # fmt: skip
def test_a_shift_that_a_border_does_not_get(rewrite: Callable[..., Any], nodes: str, weight: str) -> None:
    done = through(rewrite, nodes, weight, "float[4,1,1] k", explain=True)
    assert done.changed == 0
    assert "ConvTranspose" in nodes or any("at the edges" in reason for reason in done.reasons)


def test_a_scale_with_a_border(rewrite: Callable[..., Any]) -> None:
    done = through(rewrite, "s = Mul(x, k) y = Conv <pads = [1, 1, 1, 1]> (s, w)", "6,4,3,3", "float[4,1,1] k")
    assert done.ops == ["Conv"]


NORM = """g (float[n,4,9,9] x) => (float y) <float[6,4,3,3] w, float[4] s, float[4] h, float[4] m, float[4] v> {
    b = BatchNormalization <epsilon = 0.001> (x, s, h, m, v)  y = %s }"""


def statistics(**more: Any) -> dict[str, Any]:
    made = {name: RNG.uniform(0.5, 2, 4).astype(np.float32) for name in "shmv"}
    return made | {"w": RNG.normal(size=(6, 4, 3, 3)).astype(np.float32)} | more


def test_batch_normalization(rewrite: Callable[..., Any]) -> None:
    assert rewrite(filled(NORM) % "Conv(b, w)", FuseAffineConv(), sizes={"n": 2}, **statistics()).ops == ["Conv"]
    padded = rewrite(
        filled(NORM) % "Conv <pads = [0, 0, 1, 0]> (b, w)", FuseAffineConv(), sizes={"n": 2}, **statistics()
    )
    assert padded.changed == 0
    still = statistics(h=np.zeros(4, np.float32), m=np.zeros(4, np.float32))
    padded = rewrite(filled(NORM) % "Conv <pads = [0, 0, 1, 0]> (b, w)", FuseAffineConv(), sizes={"n": 2}, **still)
    assert padded.ops == ["Conv"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("g (float[n,1,9,9] x) => (float y) <float[6,4,3,3] w, float[4,1,1] k> { s = Mul(x, k) y = Conv(s, w) }", "other axes or channels"),
        ("g (float[4,9,9] x) => (float y) <float[6,4,3,3] w, float[1,4,1,1] k> { s = Mul(x, k) y = Conv(s, w) }", "other axes or channels"),
        ("g (float[n,4,9,9] x) => (float y) <float[6,4,3,3] w, float[1,9] k> { s = Mul(x, k) y = Conv(s, w) }", "not one number per channel"),
        ("g (float[n,4,9,9] x, float[4,1,1] k) => (float y) <float[6,4,3,3] w> { s = Mul(x, k) y = Conv(s, w) }", "no input of a commutative operator fits"),
        ("g (float[n,4,9,9] x, float[6,4,3,3] w) => (float y) <float[4,1,1] k> { s = Mul(x, k) y = Conv(s, w) }", "computed at run time"),
        ("g (float[n,4,9,9] x) => (float y, float s) <float[6,4,3,3] w, float[4,1,1] k> { s = Mul(x, k) y = Conv(s, w) }", "output of the graph"),
    ],
)  # fmt: skip
def test_what_stays(rewrite: Callable[..., Any], text: str, why: str) -> None:
    done = rewrite(filled(text), FuseAffineConv(), sizes={"n": 2}, explain=True)
    assert done.changed == 0
    assert any(why in reason for reason in done.reasons), done.reasons


def test_division_by_zero_and_what_float16_cannot_hold(rewrite: Callable[..., Any]) -> None:
    text = "g (float[n,4,9,9] x) => (float y) <float[6,4,3,3] w, float[4,1,1] k> { s = Div(x, k) y = Conv(s, w) }"
    assert rewrite(filled(text), FuseAffineConv(), run=False, k=np.float32([1, 0, 1, 1]).reshape(4, 1, 1)).changed == 0
    half = text.replace("float", "float16").replace("Div", "Mul")
    weight = np.full((6, 4, 3, 3), 300, np.float16)
    assert (
        rewrite(filled(half), FuseAffineConv(), run=False, w=weight, k=np.full((4, 1, 1), 300, np.float16)).changed == 0
    )
