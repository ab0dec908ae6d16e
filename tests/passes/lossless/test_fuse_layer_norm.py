"""LayerNormalization in pieces."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import FuseLayerNorm

HEAD = """<float two = {2}, float half = {0.5}, float one = {1}, float e = {0.00001}, float[4] s = {1, 2, 3, 4},
    float[4] t = {0, 1, 0, -1}>"""
ROOTS = {
    "PyTorch": "q = Sqrt(f) n = Div(d, q)",
    "Keras": "q = Sqrt(f) r = Reciprocal(q) n = Mul(d, r)",
    "power": "q = Pow(f, half) n = Div(d, q)",
    "one over": "q = Sqrt(f) r = Div(one, q) n = Mul(r, d)",
}
SQUARES = {"power": "p = Pow(d, two)", "product": "p = Mul(d, d)", "twice": "d2 = Sub(x, m) p = Pow(d2, two)"}


def text(root: str, square: str, tail: str = "k = Mul(n, s) y = Add(k, t)", axes: str = "-1", again: str = "-1") -> str:
    return f"""g (float[2,3,4] x) => (float[2,3,4] y) {HEAD} {{
        m = ReduceMean<axes = [{axes}]>(x) d = Sub(x, m) {SQUARES[square]} v = ReduceMean<axes = [{again}]>(p)
        f = Add(v, e) {ROOTS[root]} {tail} }}"""


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("square", SQUARES)
def test_mean_variance_scale_and_shift(rewrite: Callable[..., Any], root: str, square: str) -> None:
    done = rewrite(text(root, square), FuseLayerNorm())
    assert done.nodes == ["y = LayerNormalization(x, %0, %1) {axis=-1, epsilon=1e-05}"]
    assert [done.constant(place).tolist() for place in (0, 1)] == [[1, 2, 3, 4], [0, 1, 0, -1]]


def test_without_scale_or_shift(rewrite: Callable[..., Any]) -> None:
    done = rewrite(text("PyTorch", "power", "y = Identity(n)"), FuseLayerNorm())
    assert done.ops == ["LayerNormalization", "Identity"] and done.constant(0).tolist() == [1, 1, 1, 1]
    assert rewrite(text("PyTorch", "power", "y = Add(t, n)"), FuseLayerNorm()).ops == ["LayerNormalization"]


def test_over_two_axes_a_narrow_scale_is_spread(rewrite: Callable[..., Any]) -> None:
    done = rewrite(text("PyTorch", "power", axes="1, 2", again="-2, -1"), FuseLayerNorm())
    assert done.ops == ["LayerNormalization"] and done.constant(0).shape == (3, 4)


@pytest.mark.parametrize(("axes", "again", "reason"), [("1", "1", "same last axes"), ("-1", "1", "same last axes")])
def test_refusals(rewrite: Callable[..., Any], axes: str, again: str, reason: str) -> None:
    done = rewrite(text("PyTorch", "power", axes=axes, again=again), FuseLayerNorm(), explain=True)
    assert done.changed == 0 and any(reason in each for each in done.reasons)


def test_before_operator_set_17_there_is_none(rewrite: Callable[..., Any]) -> None:
    assert rewrite(text("PyTorch", "power"), FuseLayerNorm(), opset=16).changed == 0


def test_a_scale_that_others_use_stays_as_it_is(rewrite: Callable[..., Any]) -> None:
    done = rewrite(text("PyTorch", "power", "k = Mul(n, s) l = Add(k, t) y = Mul(l, s)"), FuseLayerNorm())
    assert done.ops == ["LayerNormalization", "Mul"]
