"""Operators that hand on what they were given, and what looks like them and is not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import Simplify

INT_MAX = 2**63 - 1


def between(node: str, shape: str = "2,3", constants: str = "", element: str = "float", result: str = "") -> str:
    """``node``, which computes y from x, between two operators that stay."""
    return (
        f"g ({element}[{shape}] a) => ({element}[{result or shape}] b) {constants} {{ x = Neg(a) {node} b = Abs(y) }}"
    )


GONE = [
    ("identity", between("y = Identity(x)"), 17),
    ("dropout", between("y = Dropout(x)"), 17),
    ("dropout", between("y = Dropout<ratio = 0.7>(x)"), 7),
    ("dropout", between("y, mask = Dropout(x, r, t)", constants="<float r = {0.5}, bool t = {0}>"), 17),
    ("same-cast", between("y = Cast<to = 1>(x)"), 17),
    ("same-cast-like", between("y = CastLike(x, a)"), 17),
    ("full-slice", between("y = Slice<starts = [0, 0], ends = [2, 3]>(x)"), 9),
    ("full-slice", between(f"y = Slice<starts = [0], ends = [{INT_MAX}], axes = [1]>(x)", "n,m"), 9),
    ("full-slice", between("y = Slice<starts = [-9], ends = [99], axes = [-1]>(x)"), 9),
    ("full-slice", between("y = Slice(x, s, e, i, t)", "n,3", "<int64[1] s = {0}, int64[1] e = {3}, int64[1] i = {1}, "
                           "int64[1] t = {1}>"), 17),
    ("same-expand", between("y = Expand(x, s)", constants="<int64[2] s = {1, 3}>"), 17),
    ("same-expand", between("y = Expand(x, s)", "n,m", "<int64[1] s = {1}>"), 17),
    ("tile-once", between("y = Tile(x, r)", "n,m", "<int64[2] r = {1, 1}>"), 17),
    ("zero-pad", between("y = Pad<pads = [0, 0, 0, 0]>(x)"), 10),
    ("zero-pad", between('y = Pad<mode = "reflect">(x, p)', "n,m", "<int64[4] p = {0, 0, 0, 0}>"), 17),
    ("unbounded-clip", between("y = Clip(x)"), 17),
    ("unbounded-clip", between("y = Clip(x)"), 8),
    ("unbounded-clip", between("y = Clip<min = -3.4028234663852886e38, max = 3.4028234663852886e38>(x)"), 8),
    ("only-one-input", between("y = Concat<axis = 0>(x)"), 17),
    ("only-one-input", between("y = Sum(x)"), 17),
    ("only-one-input", between("y = Max(x)"), 17),
    ("only-one-input", between("y = Min(x)"), 17),
    ("only-one-input", between("y = Mean(x)"), 17),
    ("split-into-one", between("y = Split<axis = 1, split = [3]>(x)"), 11),
    ("split-into-one", between("y = Split(x, s)", constants="<int64[1] s = {2}>"), 17),
    ("relu-twice", between("r = Relu(x) y = Relu(r)"), 17),
    ("times-one", between("y = Mul(o, x)", "n,m", "<float[1] o = {1}>"), 17),
    ("times-one", between("y = Mul(x, o)", constants="<float[2,3] o = {1, 1, 1, 1, 1, 1}>"), 17),
    ("times-one", between("y = Div(x, o)", constants="<float o = {1}>"), 17),
    ("times-one", between("y = Pow(x, o)", constants="<int64 o = {1}>"), 17),
    ("plus-zero", between("y = Add(o, x)", "n,m", "<float[1,1] o = {0}>"), 17),
    ("plus-zero", between("y = Sub(x, o)", constants="<float[3] o = {0, 0, 0}>"), 17),
    ("plus-zero", between("y = Add(x, o)", constants="<int64 o = {0}>", element="int64"), 17),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "opset"), GONE)
def test_it_goes(rewrite: Callable[..., Any], rule: str, text: str, opset: int) -> None:
    done = rewrite(text, Simplify(), opset=opset)
    assert done.counts == {rule: 1}
    assert [op for op in done.ops if op != "Relu"] == ["Neg", "Abs"]
    assert done.model.opset == opset


STAYS = [
    ("dropout", "its mask is used", between("y, mask = Dropout(x) m = Cast<to = 1>(mask)"), 17),
    ("dropout", "it may be in training mode", between("y = Dropout(x, r, t)", constants="<float r = {0.5}, bool t = {1}>"), 17),
    ("dropout", "it is in training mode", between("y = Dropout<is_test = 0>(x)"), 6),
    ("same-cast", "it changes the element type", between("h = Cast<to = 10>(x) y = Cast<to = 1>(h)"), 17),
    ("same-cast-like", "it changes the element type",
     "g (float[2] a, double[2] l) => (double[2] b) { x = Neg(a) y = CastLike(x, l) b = Abs(y) }", 17),
    ("full-slice", "it may end before axis 0 does", between("y = Slice<starts = [0], ends = [9]>(x)", "n,m"), 9),
    ("full-slice", "it may end before axis 1 does", between("y = Slice<starts = [0], ends = [2], axes = [1]>(x)", result="2,2"), 9),
    ("full-slice", "it does not start at the front of axis 1",
     between("y = Slice<starts = [1], ends = [3], axes = [1]>(x)", result="2,2"), 9),
    ("full-slice", "it does not start at the front of axis 0",
     between("y = Slice<starts = [-2], ends = [9]>(x)", "n,3", result="m,3"), 9),
    ("full-slice", "it does not start at the front of axis -1",
     between("y = Slice(x, s, e, i, t)", constants="<int64[1] s = {2}, int64[1] e = {-9}, int64[1] i = {-1}, "
             "int64[1] t = {-1}>"), 17),
    ("full-slice", "its bounds are computed at run time",
     "g (float[2] a, int64[1] e) => (float[n] b) <int64[1] s = {0}> { x = Neg(a) y = Slice(x, s, e) b = Abs(y) }", 17),
    ("same-expand", "it may grow x", between("y = Expand(x, s)", "n,1", "<int64[2] s = {2, 1}>", result="2,1"), 17),
    ("same-expand", "it may grow x", between("y = Expand(x, s)", "2", "<int64[2] s = {1, 2}>", result="1,2"), 17),
    ("same-expand", "the shape is computed at run time",
     "g (float[2] a, int64[1] s) => (float[n] b) { x = Neg(a) y = Expand(x, s) b = Abs(y) }", 17),
    ("zero-pad", "it pads", between("y = Pad<pads = [0, 1]>(x)", "2", result="3"), 10),
    ("zero-pad", "the pads are computed at run time",
     "g (float[2] a, int64[2] p) => (float[n] b) { x = Neg(a) y = Pad(x, p) b = Abs(y) }", 17),
    ("unbounded-clip", "it has bounds", between("y = Clip<min = -3.4028234663852886e38>(x)", element="double"), 8),
    ("unbounded-clip", "it has bounds", between("y = Clip(x, l)", constants="<float l = {0}>"), 17),
    ("unbounded-clip", "its bounds are computed at run time",
     "g (float[2] a, float h) => (float[2] b) { x = Neg(a) y = Clip(x, , h) b = Abs(y) }", 17),
    ("split-into-one", "it has several outputs",
     between("y, z = Split<axis = 0>(x)", result="1,3"), 11),
    ("times-one", "the one may change the shape by broadcasting",
     between("y = Mul(x, o)", "3", "<float[2,1] o = {1, 1}>", result="2,3"), 17),
    ("times-one", "the one may change the shape by broadcasting",
     between("y = Mul(x, o)", "n", "<float[2] o = {1, 1}>", result="2"), 17),
    ("plus-zero", "the zero may change the shape by broadcasting",
     between("y = Add(x, o)", "1", "<float[2] o = {0, 0}>", result="2"), 17),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "reason", "text", "opset"), STAYS)
def test_it_stays(rewrite: Callable[..., Any], rule: str, reason: str, text: str, opset: int) -> None:
    run = "Dropout" not in text and "double" not in text and "run time" not in reason
    done = rewrite(text, Simplify(), opset=opset, run=run)
    assert done.changed == 0
    assert {miss.reason for miss in done.context.trace.near_misses if miss.rule == rule} == {reason}


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (10, 11, False),  # float -> float16 -> double rounds
        (11, 10, True),  # float -> double -> float16
        (6, 7, False),  # float -> int32 rounds
    ],
)
def test_casts_in_a_row(rewrite: Callable[..., Any], first: int, second: int, merged: bool) -> None:
    kinds = {10: "float16", 11: "double", 7: "int64"}
    text = f"g (float[2] a) => ({kinds[second]}[2] b) {{ x = Neg(a) w = Cast<to = {first}>(x) b = Cast<to = {second}>(w) }}"
    done = rewrite(text, Simplify())
    assert done.ops == (["Neg", "Cast"] if merged else ["Neg", "Cast", "Cast"])
    assert ("the type in between may round or wrap" in done.reasons) is not merged


@pytest.mark.parametrize(
    ("narrow", "wide", "holds"),
    [
        ("bool", 2, True), ("bool", 10, True), ("uint8", 10, True), ("int16", 10, False), ("int16", 1, True),
        ("int32", 1, False), ("int32", 11, True), ("uint8", 3, False), ("int8", 2, False), ("uint8", 5, True),
        ("int32", 7, True), ("uint32", 7, True), ("uint32", 6, False), ("float16", 1, True), ("float16", 16, False),
        ("float", 16, False), ("int64", 11, False), ("float", 9, False),
    ],
)  # fmt: skip
def test_a_cast_there_and_back(rewrite: Callable[..., Any], narrow: str, wide: int, holds: bool) -> None:
    numbers = {
        "bool": 9,
        "uint8": 2,
        "int8": 3,
        "int16": 5,
        "int32": 6,
        "uint32": 12,
        "int64": 7,
        "float16": 10,
        "float": 1,
    }
    back = f"g ({narrow}[2] x) => ({narrow}[2] y) {{ w = Cast<to = {wide}>(x) y = Cast<to = {numbers[narrow]}>(w) }}"
    done = rewrite(back, Simplify(), run=wide != 16)
    # What is left of it is the Identity that keeps the name of the output.
    assert (done.ops == ["Identity"]) is holds


def test_minus_zero_loses_its_sign_only_where_zero_is_added(rewrite: Callable[..., Any]) -> None:
    done = rewrite(between("y = Add(x, o)", constants="<float o = {-0.0}>"), Simplify())
    assert done.counts == {"plus-zero": 1}


def test_an_output_keeps_its_name(rewrite: Callable[..., Any]) -> None:
    """The node before takes the name over; where there is none to take it, an Identity stays or comes."""
    done = rewrite("g (float[2] x) => (float[2] y) { t = Neg(x) y = Identity(t) }", Simplify())
    assert done.nodes == ["y = Neg(x)"]
    done = rewrite("g (float[2] x) => (float[2] y) { y = Identity(x) }", Simplify())
    assert done.nodes == ["y = Identity(x)"]
    assert done.reasons == ["an output of the graph must keep its name"]
    done = rewrite("g (float[2] x) => (float[2] y) <float o = {1}> { y = Mul(x, o) }", Simplify())
    assert done.nodes == ["y = Identity(x)"]
    done = rewrite("g (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Identity(y) }", Simplify())
    assert done.nodes == ["y = Neg(x)", "z = Identity(y)"]


def test_a_value_in_the_middle_may_be_an_output(rewrite: Callable[..., Any]) -> None:
    done = rewrite("g (float[2] x) => (float[2] r, float[2] y) { r = Relu(x) s = Relu(r) y = Neg(s) }", Simplify())
    assert done.nodes == ["r = Relu(x)", "y = Neg(r)"]


def test_nothing_is_assumed_of_what_a_caller_may_override(rewrite: Callable[..., Any]) -> None:
    done = rewrite("g (float[2] x, float o = {1}) => (float[2] y) { t = Mul(x, o) y = Neg(t) }", Simplify())
    assert done.ops == ["Mul", "Neg"]


def test_empty_tensors(rewrite: Callable[..., Any]) -> None:
    empty = "<float[0] o = {}>"
    done = rewrite(between("y = Add(x, o)", "0", empty), Simplify())
    assert done.changed == 0  # nothing fills it, so nothing is said of it
    done = rewrite(between("y = Slice<starts = [0], ends = [0]>(x)", "0,2"), Simplify(), opset=9)
    assert done.counts == {"full-slice": 1}


BRANCHES = """g (bool c, float[2] x) => (float[2] y) <float o = {1}> {
    w = Neg(x)
    y = If(c) <
        then_branch = t () => (float[2] p) { i = Identity(w) p = Mul(i, o) },
        else_branch = e () => (float[2] q) { d = Dropout(w) q = Abs(d) }
    >
}"""


def test_inside_of_branches(rewrite: Callable[..., Any]) -> None:
    """What a branch captures cannot be its output, so there an Identity remains."""
    done = rewrite(BRANCHES, Simplify())
    assert done.ops == ["Neg", "If", "Identity", "Abs"]
    assert done.counts == {"identity": 1, "times-one": 1, "dropout": 1}


def test_an_attribute_that_a_call_fills_in_is_not_read(rewrite: Callable[..., Any]) -> None:
    """The Clip looks as if it had no lower bound; the Identity beside it goes."""
    function = (
        '<domain: "local", opset_import: ["": 8]> f <m> (x) => (y) { t = Identity(x) y = Clip<min: float = @m>(t) }'
    )
    done = rewrite(
        "g (float[2] x) => (float[2] y) { y = local.f<m = 0.0>(x) }" + function, Simplify(), run=False, opset=8
    )
    assert done.ops == ["f", "Clip"]


def test_bfloat16_is_compared_by_value(rewrite: Callable[..., Any]) -> None:
    text = "g (bfloat16[2] x) => (bfloat16[2] y) <bfloat16 o = {0}> { t = Add(x, o) y = Neg(t) }"
    done = rewrite(text, Simplify(), run=False)
    assert done.ops == ["Neg"]
    assert done.model.graph.outputs[0].dtype.numpy == np.dtype("bfloat16")
