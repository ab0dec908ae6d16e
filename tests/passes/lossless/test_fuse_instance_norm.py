"""Instance normalization as exporters write it in pieces."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import FuseInstanceNorm


def pieces(
    axes: str = "2, 3", square: str = "Pow(d, two)", scale: str = "float[3,1,1] k = {2, -1, 0.5}", keep: int = 1
) -> str:
    return f"""g (float[2,3,4,5] x) => (float[2,3,4,5] y)
        <float two = {{2}}, float e = {{0.001}}, {scale}, float[1,3,1,1] c = {{1, 2, 3}}> {{
          mean = ReduceMean<axes = [{axes}]>(x) d = Sub(x, mean)
          q = {square} v = ReduceMean<axes = [{axes}], keepdims = {keep}>(q)
          w = Add(v, e) r = Sqrt(w) n = Div(d, r) s = Mul(k, n) y = Add(s, c) }}"""


@pytest.mark.parametrize("square", ["Pow(d, two)", "Mul(d, d)"])
@pytest.mark.parametrize("axes", ["2, 3", "-1, -2"])
def test_pieces_scale_and_shift(rewrite: Callable[..., Any], axes: str, square: str) -> None:
    done = rewrite(pieces(axes, square), FuseInstanceNorm())
    assert done.ops == ["InstanceNormalization"]
    assert done.model.graph.constants and sorted(done.constant(i).tolist() for i in (0, 1)) == [[1, 2, 3], [2, -1, 0.5]]
    (node,) = done.model.nodes()
    assert node.attr("epsilon") == pytest.approx(0.001)


def test_one_number_for_all_channels(rewrite: Callable[..., Any]) -> None:
    assert rewrite(pieces(scale="float k = {3}"), FuseInstanceNorm()).ops == ["InstanceNormalization"]


@pytest.mark.parametrize("scale", ["float[5] k = {1, 2, 3, 4, 5}", "float[4,1] k = {1, 2, 3, 4}"])
def test_a_factor_along_the_image_stays(rewrite: Callable[..., Any], scale: str) -> None:
    assert rewrite(pieces(scale=scale), FuseInstanceNorm()).ops == ["InstanceNormalization", "Mul", "Add"]


@pytest.mark.parametrize("axes", ["1, 2, 3", "3", "2"])
def test_other_axes_stay(rewrite: Callable[..., Any], axes: str) -> None:
    done = rewrite(pieces(axes), FuseInstanceNorm(), explain=True)
    assert done.changed == 0 and any("all spatial axes" in reason for reason in done.reasons)
