"""Means over all of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.passes.lossless.known import listed
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, any_of, maybe, op, rule

__all__ = ["FusePooling"]


@rule(lambda x, axes: any_of(op.ReduceMean(x, maybe(axes), _as="reduce"), op.ReduceMax(x, maybe(axes), _as="reduce")))
def reduce_to_global_pool(rw: Rewriter, m: Match) -> Any:
    """A mean over all axes behind the channels is GlobalAveragePool, the largest element GlobalMaxPool.

    Convolutions give their results in a blocked layout on some targets, which pooling reads and a reduction does not.
    """
    axes = listed(m.reduce, "axes", 1)
    if axes is None or m.x.rank is None or m.x.rank < 4:  # of three axes it may be a part of a normalization
        return m.no("the axes or the rank are not known, or there are no two spatial axes")
    if sorted(axis % m.x.rank for axis in axes) != list(range(2, m.x.rank)):
        return m.no("it goes along other axes")
    maker = m.x.producer
    if m.x.dtype is None or not m.x.dtype.is_float or maker is None:
        return m.no("its elements are no floats, or it reads an input")
    pooled = rw.node("GlobalAveragePool" if m.reduce.op_type == "ReduceMean" else "GlobalMaxPool", m.x)
    if m.reduce.attr("keepdims", 1):
        return pooled
    return rw.op.Flatten(pooled, axis=1)


@dataclass(frozen=True)
class FusePooling(Pass):
    """ReduceMean and ReduceMax over the spatial axes become global pooling."""

    rules = (reduce_to_global_pool,)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
