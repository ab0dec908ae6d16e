"""InstanceNormalization in pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.passes.lossless.channels import channel_vector
from qcompiler.passes.lossless.fuse_layer_norm import normal
from qcompiler.passes.lossless.known import listed
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, const, op, rule

__all__ = ["FuseInstanceNorm"]


@rule(normal)
def instance_norm_in_pieces(rw: Rewriter, m: Match) -> Any:
    """(x - mean) / sqrt(variance + epsilon) over all spatial axes is InstanceNormalization (Ulyanov et al., 2016)."""
    axes, again = listed(m.mean, "axes", 1), listed(m.variance, "axes", 1)
    rank, sizes = m.x.rank, m.x.shape
    if axes is None or again is None or rank is None or rank < 3:
        return m.no("the axes or the rank are not known, or there are no spatial axes")
    if not sorted(axis % rank for axis in axes) == sorted(axis % rank for axis in again) == list(range(2, rank)):
        return m.no("mean and variance do not go along all spatial axes")
    if not m.mean.attr("keepdims", 1) or not m.variance.attr("keepdims", 1):
        return m.no("a reduced axis is dropped, so that other elements meet")
    epsilon = m.array("epsilon")
    if m.x.dtype is not DType.FLOAT or epsilon.size != 1 or not isinstance(sizes[1], int):
        return m.no("it is not float, epsilon is not one number, or the channels are not known")
    scale, shift = np.ones(sizes[1], np.float32), np.zeros(sizes[1], np.float32)
    return rw.op.InstanceNormalization(m.x, scale, shift, epsilon=float(epsilon.reshape(-1)[0]))


@rule(lambda x, s, b, k: op.Mul(op.InstanceNormalization(x, const(s), const(b), _as="norm"), const(k)))
def instance_norm_scale(rw: Rewriter, m: Match) -> Any:
    """A factor for each channel goes into scale and shift."""
    factor = _for_each_channel(m)
    if factor is None:
        return m.no("the factor is not one number for each channel")
    scale, shift = ((held * factor).astype(held.dtype) for held in (m.array("s"), m.array("b")))
    return rw.op.InstanceNormalization(m.x, scale, shift, **m.norm.attrs)


@rule(lambda x, s, b, k: op.Add(op.InstanceNormalization(x, const(s), const(b), _as="norm"), const(k)))
def instance_norm_shift(rw: Rewriter, m: Match) -> Any:
    """A summand for each channel goes into the shift."""
    summand = _for_each_channel(m)
    if summand is None:
        return m.no("the summand is not one number for each channel")
    shift = m.array("b")
    return rw.op.InstanceNormalization(m.x, m.bindings["s"], (shift + summand).astype(shift.dtype), **m.norm.attrs)


def _for_each_channel(m: Match) -> Any:
    """The constant as float64 [channels]; None when it varies along another axis, or the rank is not known."""
    return None if m.x.rank is None else channel_vector(m.array("k"), m.array("s").shape[0], m.x.rank)


@dataclass(frozen=True)
class FuseInstanceNorm(Pass):
    """Mean and variance over all spatial axes, scale and shift become InstanceNormalization.

    onnxruntime does not do it itself; on its processor provider the one operator takes a third to a half of the time.
    """

    rules = (instance_norm_in_pieces, instance_norm_scale, instance_norm_shift)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
