"""Focus stems: phases of an image as channels, then a convolution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import FuseFocus, Simplify

TEXT = """g (float[1,2,%(size)s] x) => (float[1,m,h,w] y%(more)s)
    <int64[1] o = {0}, int64[1] i = {1}, int64[1] e = {9223372036854775807}, int64[1] two = {2}, int64[1] three = {3},
     int64[1] last = {-1}, float[4,8,3,3] k = {%(zeros)s}, float[4] b = {1, 2, 3, 4}>
{
    top = Slice(x, o, e, two, two) low = Slice(x, i, e, two, two)
    p = Slice(top, o, e, three, two) q = Slice(low, o, e, three, two)
    r = Slice(top, %(start)s, e, last, two) s = Slice(low, i, e, three, two)
    c = Concat<axis = 1>(%(order)s)
    y = Conv<pads = [%(pads)s], strides = [%(strides)s]>(c, k, b) %(tail)s
}"""
USUAL = {
    "size": "8,10",
    "start": "i",
    "order": "p, q, r, s",
    "pads": "1,1,1,1",
    "strides": "1,1",
    "more": "",
    "tail": "",
    "zeros": ", ".join(["0"] * 288),
}
WEIGHT = np.random.default_rng(0).standard_normal((4, 8, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("pads", ["1,1,1,1", "0,1,2,0"])
@pytest.mark.parametrize("order", ["p, q, r, s", "s, r, q, p", "p, r, q, s"])
@pytest.mark.parametrize("strides", ["1,1", "2,1"])
def test_the_convolution_looks_at_the_image_itself(
    rewrite: Callable[..., Any], pads: str, order: str, strides: str
) -> None:
    done = rewrite(
        TEXT % (USUAL | {"pads": pads, "order": order, "strides": strides}), Simplify(), FuseFocus(), k=WEIGHT
    )
    assert done.ops == ["Conv"] and "kernel_shape=[6,6]" in done.nodes[0]


def test_sizes_that_are_not_known(rewrite: Callable[..., Any]) -> None:
    done = rewrite(TEXT % (USUAL | {"size": "h0,w0"}), Simplify(), FuseFocus(), k=WEIGHT, sizes={"h0": 12, "w0": 6})
    assert done.ops == ["Conv"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"start": "o"}, "a phase occurs twice"),
        ({"order": "p, q, r"}, "not a square number"),
        ({"more": ", float[1,8,h2,w2] z", "tail": "z = Neg(c)"}, "also used by"),
        ({"order": "p, q, r, x"}, "no Slice"),
    ],
)
def test_refusals(rewrite: Callable[..., Any], change: dict[str, str], reason: str) -> None:
    done = rewrite(TEXT % (USUAL | change), Simplify(), FuseFocus(), k=WEIGHT, explain=True, run=False)
    assert done.ops.count("Conv") == 1 and "Concat" in done.ops
    assert any(reason in text for text in done.reasons), done.reasons
