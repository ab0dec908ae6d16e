"""Softmax in pieces and around Flatten."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import FuseSoftmax


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
def test_between_flatten_and_reshape(rewrite: Callable[..., Any], kind: str) -> None:
    text = f"""g (float[2,3,4] x) => (float[2,3,4] y) <int64[3] s = {{2, 3, 4}}> {{
        f = Flatten<axis = 2>(x) k = {kind}<axis = -1>(f) y = Reshape(k, s) }}"""
    assert rewrite(text, FuseSoftmax()).nodes == [f"y = {kind}(x) {{axis=2}}"]


def test_with_a_measured_shape(rewrite: Callable[..., Any]) -> None:
    text = """g (float[n,3,1,1] x) => (float[n,3,1,1] y) {
        f = Flatten<axis = 1>(x) k = Softmax(f) s = Shape(x) y = Reshape(k, s) }"""
    assert rewrite(text, FuseSoftmax()).ops == ["Softmax"]


@pytest.mark.parametrize(
    ("axis", "shape", "reason"), [(1, "2, 3, 4", "several axes"), (2, "3, 2, 4", "the shape may change")]
)
def test_refusals_of_flatten(rewrite: Callable[..., Any], axis: int, shape: str, reason: str) -> None:
    text = f"""g (float[2,3,4] x) => (float[a,b,c] y) <int64[3] s = {{{shape}}}> {{
        f = Flatten<axis = {axis}>(x) k = Softmax(f) y = Reshape(k, s) }}"""
    done = rewrite(text, FuseSoftmax(), explain=True)
    assert done.changed == 0 and any(reason in text for text in done.reasons)


PIECES = """g (float[2,3,4] x) => (float[2,3,4] y) <int64[1] a = {%s}> {
    m = ReduceMax<axes = [%s]>(x) d = Sub(x, m) e = Exp(d) t = ReduceSum(e, a) y = Div(e, t) }"""


@pytest.mark.parametrize(("axis", "same"), [("1", "1"), ("-1", "2"), ("-1", "-1"), ("0", "0")])
def test_in_pieces(rewrite: Callable[..., Any], axis: str, same: str) -> None:
    assert rewrite(PIECES % (axis, same), FuseSoftmax()).ops == ["Softmax"]


def test_without_the_maximum(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2,3] x) => (float[2,3] y) <int64[1] a = {1}> { e = Exp(x) t = ReduceSum(e, a) y = Div(e, t) }"""
    assert rewrite(text, FuseSoftmax()).ops == ["Softmax"]


def test_refusals_in_pieces(rewrite: Callable[..., Any]) -> None:
    """Largest and sum along different axes: what is left is the form without a maximum."""
    done = rewrite(PIECES % ("1", "2"), FuseSoftmax(), explain=True)
    assert done.counts == {"softmax-without-maximum": 1} and any("different axes" in text for text in done.reasons)
    assert "Sub" in done.ops


def test_before_operator_set_13_only_along_the_last_axis(rewrite: Callable[..., Any]) -> None:
    """There Softmax goes along all axes from the one that is named."""
    text = """g (float[2,3,4] x) => (float[2,3,4] y) {
        m = ReduceMax<axes = [%d]>(x) d = Sub(x, m) e = Exp(d) t = ReduceSum<axes = [%d]>(e) y = Div(e, t) }"""
    assert rewrite(text % (2, 2), FuseSoftmax(), opset=11).ops == ["Softmax"]
    assert rewrite(text % (1, 1), FuseSoftmax(), opset=11).changed == 0
