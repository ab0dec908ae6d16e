"""Reductions over all of an image."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import FusePooling


@pytest.mark.parametrize(("kind", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "GlobalMaxPool")])
@pytest.mark.parametrize("axes", ["2, 3", "-1, -2"])
def test_the_spatial_axes(rewrite: Callable[..., Any], kind: str, pool: str, axes: str) -> None:
    text = f"g (float[2,3,4,5] x) => (float[2,3,a,b] y) {{ r = Relu(x) y = {kind}<axes = [{axes}]>(r) }}"
    assert rewrite(text, FusePooling()).ops == ["Relu", pool]


def test_dropped_axes(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2,3,4,5] x) => (float[2,3] y) { r = Relu(x) y = ReduceMean<axes = [2, 3], keepdims = 0>(r) }"
    assert rewrite(text, FusePooling()).ops == ["Relu", "GlobalAveragePool", "Flatten"]


@pytest.mark.parametrize("axes", ["1, 2, 3", "2", "1"])
def test_other_axes(rewrite: Callable[..., Any], axes: str) -> None:
    text = f"g (float[2,3,4,5] x) => (float[a,b,c,d] y) {{ r = Relu(x) y = ReduceMean<axes = [{axes}]>(r) }}"
    done = rewrite(text, FusePooling(), explain=True)
    assert done.changed == 0 and "other axes" in done.reasons[0]
