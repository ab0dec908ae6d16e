"""Group normalization as PyTorch's exporters write it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import FuseGroupNorm, FuseInstanceNorm

RNG = np.random.default_rng(0)
ARRAYS = {name: RNG.normal(size=(6, 1, 1)).astype(np.float32) for name in ("k", "c")}
TEXT = """g (float[n,6,4,5] x) => (float[n,6,4,5] y)
    <int64[3] groups = {0, 3, -1}, int64[4] whole = {0, 6, 4, 5}, float[3] s = {1, 1, 1}, float[3] b = {0, 0, 0},
     float[6,1,1] k = {1, 2, 3, 4, 5, 6}, float[6,1,1] c = {1, 2, 3, 4, 5, 6}> {
        r = Reshape(x, groups)  i = InstanceNormalization(r, s, b)  o = Reshape(i, whole)  %s
    }"""
PIECES = """g (float[n,6,4,5] x) => (float[n,6,4,5] y)
    <int64[3] groups = {0, 3, -1}, int64[4] whole = {0, 6, 4, 5}, float two = {2}, float e = {0.00001},
     float[6,1,1] k = {1, 2, 3, 4, 5, 6}, float[6,1,1] c = {1, 2, 3, 4, 5, 6}> {
        r = Reshape(x, groups)  m = ReduceMean <axes = [-1]> (r)  d = Sub(r, m)  q = Pow(d, two)
        v = ReduceMean <axes = [-1]> (q)  w = Add(v, e)  t = Sqrt(w)  i = Div(d, t)
        o = Reshape(i, whole)  f = Mul(o, k)  y = Add(f, c)
    }"""


@pytest.mark.parametrize("tail", ["f = Mul(o, k) y = Add(f, c)", "f = Mul(k, o) y = Add(c, f)"])
def test_torchscript(rewrite: Callable[..., Any], tail: str) -> None:
    done = rewrite(TEXT % tail, FuseGroupNorm(), sizes={"n": 2}, **ARRAYS)
    assert done.ops == ["Reshape", "InstanceNormalization", "Reshape", "BatchNormalization"]


def test_dynamo_and_whoever_writes_mean_and_variance(rewrite: Callable[..., Any]) -> None:
    done = rewrite(PIECES, FuseInstanceNorm(), FuseGroupNorm(), sizes={"n": 2}, **ARRAYS)
    assert done.ops == ["Reshape", "InstanceNormalization", "Reshape", "BatchNormalization"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("float[6,1,1] k = {1, 2, 3, 4, 5, 6}", "float[5] k = {1, 2, 3, 4, 5}"), "not one number for each channel"),
        (("=> (float[n,6,4,5] y)", "=> (float[n,6,4,5] y, float[n,6,4,5] o)"), "is an output of the graph"),
        (("whole = {0, 6, 4, 5}", "whole = {0, -1, 4, 5}"), ""),
    ],
)  # fmt: skip
def test_what_stays(rewrite: Callable[..., Any], change: tuple[str, str], why: str) -> None:
    text = (TEXT % "f = Mul(o, k) y = Add(f, c)").replace(*change)
    done = rewrite(text, FuseGroupNorm(), sizes={"n": 2}, explain=True)
    assert (done.changed == 0) == bool(why)
    assert not why or any(why in reason for reason in done.reasons), done.reasons
