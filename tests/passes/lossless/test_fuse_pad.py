"""Pad in front of what can pad by itself."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import FusePad

CONV = "float[1,1,2,2] w = {1, 2, 3, 4}"
PADS = "int64[8] p = {0, 0, 1, 2, 0, 0, 0, 1}"


def of(nodes: str, constants: str, shape: str = "1,1,4,4", inputs: str = "") -> str:
    return f"g (float[{shape}] x{inputs}) => (float[1,1,k,l] y) <{constants}> {{ {nodes} }}"


FUSED = [
    (of("t = Pad(x, p) y = Conv(t, w)", f"{CONV}, {PADS}"), 17, {"pads": (1, 2, 0, 1)}),
    (of("t = Pad(x, p, v) y = Conv<pads = [1, 0, 1, 0]>(t, w)", f"{CONV}, {PADS}, float v = {{0}}"), 17,
     {"pads": (2, 2, 1, 1)}),
    (of('t = Pad(x, p) y = Conv<auto_pad = "VALID", strides = [2, 2]>(t, w)', f"{CONV}, {PADS}"), 13,
     {"pads": (1, 2, 0, 1), "strides": (2, 2)}),
    (of("t = Pad<pads = [0, 0, 1, 2, 0, 0, 0, 1]>(x) y = Conv(t, w)", CONV), 9, {"pads": (1, 2, 0, 1)}),
    (of("t = Pad(x, p, , i) y = Conv(t, w)", f"{CONV}, int64[4] p = {{1, 2, 0, 1}}, int64[2] i = {{2, -1}}"), 18,
     {"pads": (1, 2, 0, 1)}),
    (of("t = Pad(x, p) y = AveragePool<kernel_shape = [3, 3]>(t)", PADS), 17,
     {"pads": (1, 2, 0, 1), "kernel_shape": (3, 3), "count_include_pad": 1}),
    (of("t = Pad(x, p) y = AveragePool<kernel_shape = [4, 4], count_include_pad = 1, pads = [1, 1, 1, 1]>(t)", PADS), 17,
     {"pads": (2, 3, 1, 2), "kernel_shape": (4, 4), "count_include_pad": 1}),
    (of("t = Pad(x, p, v) y = MaxPool<kernel_shape = [3, 3]>(t)", f"{PADS}, float v = {{-inf}}"), 17,
     {"pads": (1, 2, 0, 1), "kernel_shape": (3, 3)}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "opset", "attrs"), FUSED)
def test_it_becomes_pads(rewrite: Callable[..., Any], text: str, opset: int, attrs: dict[str, Any]) -> None:
    done = rewrite(text, FusePad(), opset=opset)
    (node,) = done.model.nodes()
    assert {name: attr.value for name, attr in node.attrs.items()} == attrs
    assert not any(value.name == "p" for value in done.model.graph.constants)


def test_golden(rewrite: Callable[..., Any]) -> None:
    done = rewrite(FUSED[0][0], FusePad())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[1,1,4,4]) {",
        "  %0: float[1,1,2,2] = [1,2,3,4]",
        "  y = Conv(x, %0) {pads=[1,2,0,1]}",
        "  return y: float[1,1,k,l]",
        "}",
    ]


def test_one_axis(rewrite: Callable[..., Any]) -> None:
    text = """g (float[1,1,n] x) => (float[1,1,k] y) <float[1,1,2] w = {1, 2}, int64[6] p = {0, 0, 1, 0, 0, 2}>
        { t = Pad(x, p) y = Conv(t, w) }"""
    assert rewrite(text, FusePad(), sizes={"n": 5}).nodes == ["y = Conv(x, %0) {pads=[1,2]}"]


def test_a_weight_that_a_caller_may_override(rewrite: Callable[..., Any]) -> None:
    text = of("t = Pad(x, p) y = Conv(t, w)", PADS, inputs=", float[1,1,2,2] w = {1, 2, 3, 4}")
    assert rewrite(text, FusePad()).ops == ["Conv"]


REFUSED = [
    ("its mode is reflect", of('t = Pad<mode = "reflect">(x, p) y = Conv(t, w)', f"{CONV}, {PADS}"), 17),
    ("its mode is edge", of('t = Pad<mode = "edge", pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x) y = Conv(t, w)', CONV), 9),
    ("it does not pad with zeros", of("t = Pad(x, p, v) y = Conv(t, w)", f"{CONV}, {PADS}, float v = {{1}}"), 17),
    ("it does not pad with zeros",
     of("t = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1], value = 2.0>(x) y = Conv(t, w)", CONV), 9),
    ("it cuts off", of("t = Pad(x, p) y = Conv(t, w)", f"{CONV}, int64[8] p = {{0, 0, -1, 0, 0, 0, 0, 0}}"), 17),
    ("it pads the batch or the channels",
     of("t = Pad(x, p) u = Conv(t, w) y = Neg(u)", f"{CONV}, int64[8] p = {{1, 0, 0, 0, 0, 0, 0, 0}}").replace("1,1,k", "2,1,k"), 17),
    ("what it pads is computed at run time", of("t = Pad(x, p) y = Conv(t, w)", CONV, inputs=", int64[8] p"), 17),
    ("what it pads is computed at run time", of("t = Pad(x, p, v) y = Conv(t, w)", f"{CONV}, {PADS}", inputs=", float v"), 17),
    ("what it pads is computed at run time",
     of("t = Pad(x, p) y = AveragePool<kernel_shape = [3, 3]>(t)", "float z = {0}", inputs=", int64[8] p"), 17),
    ("what it pads is computed at run time",
     of("t = Pad(x, p) y = MaxPool<kernel_shape = [3, 3]>(t)", "float z = {0}", inputs=", int64[8] p"), 17),
    ("the number of axes is not known",
     of("v = Reshape(w, s) t = Pad(x, p) y = Conv(t, v)", f"{CONV}, {PADS}", inputs=", int64[k] s"), 17),
    ("the convolution computes its own pads", of('t = Pad(x, p) y = Conv<auto_pad = "SAME_UPPER">(t, w)', f"{CONV}, {PADS}"), 17),
    ("the pool has pads that it does not count",
     of("t = Pad(x, p) y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(t)", PADS), 17),
    ("windows may reach beyond the pads", of("t = Pad(x, p) y = AveragePool<kernel_shape = [3, 3], ceil_mode = 1>(t)", PADS), 17),
    ("wider than its window", of("t = Pad(x, p) y = AveragePool<kernel_shape = [2, 2]>(t)", PADS), 17),
    ("computes its own pads",
     of('t = Pad(x, p) y = AveragePool<kernel_shape = [3, 3], auto_pad = "SAME_LOWER">(t)', PADS), 17),
    ("it does not pad with zeros", of("t = Pad(x, p, v) y = AveragePool<kernel_shape = [3, 3]>(t)", f"{PADS}, float v = {{1}}"), 17),
    ("it does not pad with minus infinity", of("t = Pad(x, p) y = MaxPool<kernel_shape = [3, 3]>(t)", PADS), 17),
    ("a dilated window", of("t = Pad(x, p) y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(t)", PADS), 17),
    ("its indices are used", of("t = Pad(x, p, v) z, i = MaxPool<kernel_shape = [3, 3]>(t) j = Cast<to = 1>(i) y = Add(j, z)",
                                f"{PADS}, float v = {{-inf}}"), 17),
    ("wider than its window", of("t = Pad(x, p, v) y = MaxPool<kernel_shape = [2, 2]>(t)", f"{PADS}, float v = {{-inf}}"), 17),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "text", "opset"), REFUSED)
def test_refused(rewrite: Callable[..., Any], reason: str, text: str, opset: int) -> None:
    done = rewrite(text, FusePad(), opset=opset, run="run time" not in reason and "axes" not in reason)
    assert done.changed == 0
    assert len(done.reasons) == 1 and reason in done.reasons[0]


def test_a_pad_that_others_use(rewrite: Callable[..., Any]) -> None:
    """Each convolution pads by itself; Pad stays as long as somebody needs it, and no longer."""
    two = "t = Pad(x, p) u = Conv(t, w) v = Conv(t, w) y = Mul(u, v)"
    assert rewrite(of(two, f"{CONV}, {PADS}"), FusePad()).ops == ["Conv", "Conv", "Mul"]
    text = of("t = Pad(x, p) y = Conv(t, w)", f"{CONV}, {PADS}").replace("y)", "y, float[1,1,m,n] t)", 1)
    done = rewrite(text, FusePad())
    assert sorted(done.ops) == ["Conv", "Pad"]
