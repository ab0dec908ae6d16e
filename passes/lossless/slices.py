"""Slices of slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.passes.lossless.known import computed, listed
from qcompiler.rewrite import Match, Rewriter, Rule, maybe, op, rule

__all__ = ["SLICES", "bounds"]


@rule(lambda x, a, b, c, d, e, f, g, h: op.Slice(
    op.Slice(x, a, b, maybe(c), maybe(d), _as="inner", _shared=True), e, f, maybe(g), maybe(h), _as="outer",
))  # fmt: skip
def slice_of_slice(rw: Rewriter, m: Match) -> Any:
    """Two Slices along different axes are one along both (ONNX, Slice-10 and later)."""
    inner, outer = bounds(m.inner, m.x), bounds(m.outer, m.x)
    if inner is None or outer is None:
        return m.no("bounds are computed at run time, or a negative axis meets an unknown rank")
    if inner.keys() & outer.keys():
        return m.no("both cut the same axis")
    both = inner | outer
    columns = zip(*(both[axis] for axis in sorted(both)), strict=True)
    starts, ends, steps = (np.array(column, np.int64) for column in columns)
    return rw.op.Slice(m.x, starts, ends, np.array(sorted(both), np.int64), steps)


def bounds(node: Node, x: Value) -> dict[int, tuple[int, int, int]] | None:
    """Start, end and step by axis; None when they are not all numbers."""
    if computed(node, 1, 2, 3, 4):
        return None
    starts, ends = listed(node, "starts", 1), listed(node, "ends", 2)
    if not starts or not ends:
        return None
    axes = listed(node, "axes", 3) or tuple(range(len(starts)))
    steps = listed(node, "steps", 4) or (1,) * len(starts)
    if min(axes) < 0:
        if x.rank is None:
            return None
        axes = tuple(axis % x.rank for axis in axes)
    return dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))


SLICES: tuple[Rule, ...] = (slice_of_slice,)
