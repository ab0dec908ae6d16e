"""Slices in a row."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import Simplify

HEAD = """<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] end = {9223372036854775807},
    int64[1] last = {-1}>"""


def test_along_different_axes_they_are_one(rewrite: Callable[..., Any]) -> None:
    text = f"""g (float[1,2,4,6] x) => (float[1,2,2,3] y) {HEAD} {{
        a = Slice(x, one, end, two, two) y = Slice(a, zero, end, last, two) }}"""
    done = rewrite(text, Simplify())
    assert done.counts == {"slice-of-slice": 1} and done.ops == ["Slice"]


def test_what_others_use_may_stay(rewrite: Callable[..., Any]) -> None:
    text = f"""g (float[1,2,4,6] x) => (float[1,2,2,3] y, float[1,2,2,6] z) {HEAD} {{
        a = Slice(x, one, end, two, two) y = Slice(a, zero, end, three, two) z = Neg(a) }}"""
    assert rewrite(text, Simplify()).ops == ["Slice", "Slice", "Neg"]


@pytest.mark.parametrize(
    ("second", "reason"),
    [("Slice(a, zero, one, two, one)", "same axis"), ("Slice(a, s, end, three, one)", "computed at run time")],
)
def test_refusals(rewrite: Callable[..., Any], second: str, reason: str) -> None:
    text = f"""g (float[1,2,4,6] x, int64[1] s) => (float[p,q,r,t] y) {HEAD} {{
        a = Slice(x, one, end, two, two) y = {second} }}"""
    done = rewrite(text, Simplify(), explain=True)
    assert done.changed == 0 and any(reason in text for text in done.reasons)
