"""Reshape, Flatten, Squeeze and Unsqueeze alone and in chains."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.lossless import Simplify
from qcompiler.passes.lossless.views import _among_the_others


def of(nodes: str, shape: str, result: str, constants: str = "") -> str:
    return f"g (float[{shape}] x) => (float[{result}] y) <{constants}> {{ {nodes} }}"


def axes(name: str, *numbers: int) -> str:
    return f"int64[{len(numbers)}] {name} = {{{', '.join(map(str, numbers))}}}"


GONE = [
    ("same-reshape", of("t = Reshape(x, s) y = Neg(t)", "2,3", "2,3", axes("s", 2, 3)), 17),
    ("same-reshape", of("t = Reshape(x, s) y = Neg(t)", "2,3", "2,3", axes("s", -1, 3)), 17),
    ("same-reshape", of("t = Reshape(x, s) y = Neg(t)", "n,3", "n,3", axes("s", -1, 3)), 17),
    ("same-reshape", of("t = Reshape(x, s) y = Neg(t)", "n,m,3", "n,m,3", axes("s", 0, -1, 3)), 17),
    ("same-reshape", of("t = Reshape(x, s) y = Neg(t)", "n,m", "n,m", axes("s", 0, 0)), 17),
    ("same-reshape", of("t = Reshape<allowzero = 1>(x, s) y = Neg(t)", "0,2", "0,2", axes("s", 0, 2)), 17),
    ("flat-already", of("t = Flatten(x) y = Neg(t)", "n,m", "n,m"), 17),
    ("flat-already", of("t = Flatten<axis = -1>(x) y = Neg(t)", "n,m", "n,m"), 17),
    ("nothing-to-squeeze", of("t = Squeeze(x) y = Neg(t)", "2,3", "2,3"), 17),
    ("nothing-to-unsqueeze", of("t = Unsqueeze(x, a) y = Neg(t)", "2,3", "2,3", axes("a")), 17),
    ("squeeze-of-unsqueeze", of("u = Unsqueeze(x, a) t = Squeeze(u, b) y = Neg(t)", "n,m", "n,m",
                                axes("a", 0, 3) + ", " + axes("b", -1, 0)), 17),
    ("squeeze-of-unsqueeze", of("u = Unsqueeze<axes = [1]>(x) t = Squeeze<axes = [1]>(u) y = Neg(t)", "n,m", "n,m"), 11),
    ("unsqueeze-of-squeeze", of("u = Squeeze(x, a) t = Unsqueeze(u, b) y = Neg(t)", "n,1,m", "n,1,m",
                                axes("a", -2) + ", " + axes("b", 1)), 17),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "opset"), GONE)
def test_it_goes(rewrite: Callable[..., Any], rule: str, text: str, opset: int) -> None:
    done = rewrite(text, Simplify(), opset=opset)
    assert (done.counts, done.nodes) == ({rule: 1}, ["y = Neg(x)"])


MERGED = [
    (of("t = Reshape(x, s) y = Reshape(t, r)", "2,6", "3,4", axes("s", 4, 3) + "," + axes("r", 3, 4)), 17, "Reshape", [3, 4]),
    (of("t = Reshape(x, s) y = Reshape(t, r)", "2,6", "4,1,3", axes("s", 4, 3) + "," + axes("r", 0, 1, -1)), 17, "Reshape",
     [4, 1, -1]),
    (of("t = Flatten(x) y = Reshape(t, r)", "2,6,n", "k,4", axes("r", -1, 4)), 17, "Reshape", [-1, 4]),
    (of("t = Squeeze(x) y = Reshape(t, r)", "2,1,6", "3,4", axes("r", 3, 4)), 17, "Reshape", [3, 4]),
    (of("t = Unsqueeze(x, a) y = Reshape(t, r)", "2,6", "3,4", axes("r", 3, 4) + "," + axes("a", 1)), 17, "Reshape", [3, 4]),
    (of("t = Reshape(x, s) y = Reshape<allowzero = 1>(t, r)", "2,0", "0,5", axes("s", 0, 0, 1) + "," + axes("r", 0, 5)), 17,
     "Reshape", [0, 5]),
    (of("t = Reshape(x, s) y = Unsqueeze(t, a)", "2,6", "1,4,3,1", axes("s", 4, 3) + "," + axes("a", 0, -1)), 17,
     "Reshape", [1, 4, 3, 1]),
    (of("t = Reshape(x, s) y = Unsqueeze<axes = [0]>(t)", "2,2,3", "1,2,n", axes("s", 0, -1)), 11, "Reshape", [1, 2, -1]),
    (of("t = Reshape(x, s) y = Squeeze(t, a)", "n,6", "k,3", axes("s", -1, 1, 3) + "," + axes("a", 1)), 17, "Reshape", [-1, 3]),
    (of("t = Reshape(x, s) y = Squeeze(t)", "2,6", "4,3", axes("s", 1, 4, 1, 3)), 17, "Reshape", [4, 3]),
    (of("t = Reshape(x, s) y = Flatten<axis = 2>(t)", "2,6", "4,3", axes("s", 2, 2, 3)), 17, "Reshape", [4, 3]),
    (of("t = Reshape(x, s) y = Flatten<axis = -1>(t)", "n,6", "k,3", axes("s", -1, 2, 3)), 17, "Reshape", [-1, 3]),
    (of("t = Reshape(x, s) y = Flatten<axis = 0>(t)", "2,6", "1,12", axes("s", 4, 3)), 17, "Reshape", [1, 12]),
    (of("t = Reshape<allowzero = 1>(x, s) y = Unsqueeze(t, a)", "2,0", "1,0,3", axes("s", 0, 3) + "," + axes("a", 0)), 17,
     "Reshape", [1, 0, 3]),
    (of("t = Unsqueeze(x, a) y = Unsqueeze(t, b)", "2,3", "1,2,1,3,1", axes("a", 0, 2) + "," + axes("b", -1)), 17,
     "Unsqueeze", [0, 2, 4]),
    (of("t = Unsqueeze<axes = [1]>(x) y = Unsqueeze<axes = [0]>(t)", "n,3", "1,n,1,3"), 11, "Unsqueeze", [0, 2]),
    (of("t = Squeeze(x, a) y = Squeeze(t, b)", "1,2,1,3,1", "2,3", axes("a", 0, -1) + "," + axes("b", 1)), 17,
     "Squeeze", [0, 2, 4]),
    (of("t = Squeeze<axes = [1]>(x) y = Squeeze<axes = [1]>(t)", "n,1,1,3", "n,3"), 11, "Squeeze", [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "opset", "kind", "numbers"), MERGED)
def test_two_become_one(rewrite: Callable[..., Any], text: str, opset: int, kind: str, numbers: list[int]) -> None:
    done = rewrite(text, Simplify(), opset=opset, sizes={"n": 4})
    assert done.ops == [kind]
    (node,) = done.model.nodes()
    found = node.attr("axes") if "axes" in node.attrs else node.inputs[1].constant.numpy()
    assert list(found) == numbers
    assert ("axes" in node.attrs) is (opset < 13 and kind != "Reshape")


STAYS = [
    ("the shape may change", of("y = Reshape(x, s)", "2,6", "4,3", axes("s", 4, 3)), 17),
    ("the shape may change", of("y = Reshape(x, s)", "n,6", "2,6", axes("s", 2, 6)), 17),
    ("the shape may change", of("y = Reshape(x, s)", "n,m", "k,2", axes("s", -1, 2)), 17),
    ("the shape may change", of("y = Reshape<allowzero = 1>(x, s)", "n,0", "0,0", axes("s", 0, 0)), 17),
    ("the number of axes changes, or is not known", of("y = Reshape(x, s)", "2,6", "12", axes("s", -1)), 17),
    ("x is no matrix, or is not known to be one", of("y = Flatten(x)", "2,3,4", "2,12"), 17),
    ("x is no matrix, or is not known to be one", of("y = Flatten<axis = 0>(x)", "2,3", "1,6"), 17),
    ("there is an axis to drop, or may be", of("y = Squeeze(x)", "n,3", "k,3"), 17),
    ("there is an axis to drop, or may be", of("y = Squeeze(x)", "1,3", "3"), 17),
    ("it adds an axis", of("y = Unsqueeze(x, a)", "3", "1,3", axes("a", 0)), 17),
    ("the axes differ, or may", of("t = Unsqueeze(x, a) y = Squeeze(t, b)", "1,3", "3,1",
                                   axes("a", 2) + "," + axes("b", 0)), 17),
    ("the axes differ, or may", of("t = Squeeze(x, a) y = Unsqueeze(t, b)", "1,3", "3,1",
                                   axes("a", 0) + "," + axes("b", 1)), 17),
    ("the shape copies a size that is not known", of("t = Flatten(x) y = Reshape(t, s)", "n,2,3", "n,1,6",
                                                     axes("s", 0, 1, 6)), 17),
    ("the shape copies a size that is not known", of("t = Reshape(x, s) y = Unsqueeze(t, a)", "n,6", "1,n,2,3",
                                                     axes("s", 0, 2, 3) + "," + axes("a", 0)), 17),
    ("a size that is not known decides", of("t = Reshape(x, s) y = Squeeze(t)", "n,6", "k,3", axes("s", -1, 3)), 17),
    ("a size that is not known decides", of("t = Reshape(x, s) y = Squeeze(t, a)", "6", "2,3",
                                            axes("s", -1, 2, 3) + "," + axes("a", 0)), 17),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "text", "opset"), STAYS)
def test_it_stays(rewrite: Callable[..., Any], reason: str, text: str, opset: int) -> None:
    done = rewrite(text, Simplify(), opset=opset, run="n,0" not in text)
    assert done.changed == 0 and reason in done.reasons


@pytest.mark.parametrize(
    "nodes",
    ["t = Reshape(x, s) y = Flatten(t)", "t = Flatten(x) y = Reshape(t, s)", "t = Unsqueeze(x, s) y = Squeeze(t, s)",
     "t = Unsqueeze(x, s) y = Unsqueeze(t, s)", "t = Squeeze(x, s) y = Squeeze(t, s)"],
)  # fmt: skip
def test_lists_that_are_computed_are_not_guessed(rewrite: Callable[..., Any], nodes: str) -> None:
    done = rewrite(
        f"g (float[2,3,1,1] x, int64[1] s) => (float[...] y) {{ {nodes} }}".replace("[...]", ""), Simplify(), run=False
    )
    assert done.changed == 0 and len(done.ops) == 2


def test_negative_axes_need_a_rank(rewrite: Callable[..., Any]) -> None:
    for kind in ("Squeeze", "Unsqueeze"):
        text = f"g (float x, int64[k] s) => (float y) <{axes('a', -1)}> {{ r = Reshape(x, s) t = {kind}(r, a) y = {kind}(t, a) }}"
        done = rewrite(text, Simplify(), run=False)
        assert "negative axes, and the rank of x is not known" in done.reasons


def test_a_view_that_others_use_stays(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2,6] x) => (float[4,3] z, float[3,4] y) <int64[2] s = {4, 3}, int64[2] r = {3, 4}> {
        t = Reshape(x, s) y = Reshape(t, r) z = Neg(t)
    }"""
    done = rewrite(text, Simplify(), explain=True)
    assert done.changed == 0
    assert any("is also used by" in reason for reason in done.reasons)


@given(st.lists(st.integers(0, 9), unique=True), st.data())
@settings(max_examples=60)
def test_axes_among_the_others(taken: list[int], data: st.DataObject) -> None:
    left = [axis for axis in range(14) if axis not in taken]
    positions = tuple(sorted(data.draw(st.sets(st.integers(0, len(left) - 1)))))
    assert _among_the_others(positions, tuple(taken)) == tuple(left[position] for position in positions)
