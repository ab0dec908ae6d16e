"""A convolution followed by a scale and a shift per output channel is another convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.passes.lossless.known import not_constant
from qcompiler.rewrite import Match, Rewriter

__all__ = ["affine_conv", "channel_vector", "normalization", "out_channels"]

Array = np.ndarray[Any, np.dtype[Any]]


def out_channels(conv: Node) -> int | None:
    """Output channels of a Conv or ConvTranspose; None when its weight's shape is not known."""
    weight = conv.inputs[1]
    shape = weight.shape if weight is not None else None
    if shape is None or len(shape) < 2:
        return None
    if conv.is_op("Conv"):
        return shape[0] if isinstance(shape[0], int) else None
    return shape[1] * int(conv.attr("group", 1)) if isinstance(shape[1], int) else None


def channel_vector(array: Array, channels: int, rank: int) -> Array | None:
    """What ``array`` adds to, or multiplies with, each of ``channels`` along axis 1 of a tensor of ``rank`` axes.

    float64 [channels]; None when it varies along another axis, or would change the shape by broadcasting.
    """
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))


def normalization(m: Match) -> tuple[Array, Array] | str:
    """Factor and shift of the BatchNormalization ``norm`` of a match, or why it is no such thing.

    Both are float64 [channels]: k = scale / sqrt(var + epsilon) and shift - mean * k (Ioffe and Szegedy, 2015).
    """
    norm = m.norm
    if norm.attr("training_mode", 0) or norm.attr("is_test", 1) == 0:
        return "it normalizes by the statistics of the batch"
    if any(value.uses for value in norm.outputs[1:]):
        return "its statistics are used"
    if norm.attr("spatial", 1) == 0:
        return "it normalizes every position by itself (spatial is 0)"
    why = not_constant(scale=m.scale, shift=m.shift, mean=m.mean, variance=m.var)
    if why:
        return why
    scale, shift, mean, var = (np.asarray(m.array(name), np.float64) for name in ("scale", "shift", "mean", "var"))
    spread = var + norm.attr("epsilon", 1e-5)
    if not (spread > 0).all():
        return "a variance is negative, or zero without an epsilon"
    factor = scale / np.sqrt(spread)
    return factor, shift - mean * factor


def affine_conv(rw: Rewriter, m: Match, factor: Array | None, shift: Array) -> Any:
    """factor * conv(x) + shift as one convolution, for a match with ``conv``, ``x``, ``w`` and ``b``.

    ``factor`` and ``shift`` are float64 [output channels]; no factor leaves the weight as it is, constant or not.
    Computed in float64 and rounded once to the weight's own type. The weight that there is stays as it is, for
    whoever else uses it. Refuses what the type cannot hold.
    """
    conv = m.conv
    bias = np.zeros(shift.shape) if m.b is None else np.asarray(m.array("b"), np.float64)
    dtype = m.w.dtype if m.w.constant is None else m.w.constant.dtype
    if dtype is None:
        return m.no("the element type of the weight is not known")
    with np.errstate(over="ignore", invalid="ignore"):
        new_bias = (bias * (1.0 if factor is None else factor) + shift).astype(dtype.numpy)
        if factor is None:
            weight = m.w
        else:
            array = m.array("w")
            weight = (array.astype(np.float64) * _along_outputs(conv, factor, array.shape)).astype(dtype.numpy)
    for made in (weight, new_bias):
        if not isinstance(made, Value) and not np.isfinite(made.astype(np.float64)).all():
            return m.no(f"a weight or bias would leave the range of {dtype.name.lower()}")
    if not isinstance(weight, Value):
        weight = rw.constant(weight, m.w.name)
    bias_name = m.b.name if m.b is not None else f"{m.w.name}.bias"
    return rw.node(conv.op_type, m.x, weight, rw.constant(new_bias, bias_name), name=conv.name, **conv.attrs)


def _along_outputs(conv: Node, factor: Array, shape: tuple[int, ...]) -> Array:
    """``factor`` in a form that multiplies the weight.

    Conv: [out, in / group, ...]. ConvTranspose: [in, out / group, ...], where the rows of one group, in / group of
    them, make that group's outputs only.
    """
    ones = (1,) * (len(shape) - 2)
    if conv.is_op("Conv"):
        return factor.reshape(-1, 1, *ones)
    group = int(conv.attr("group", 1))
    return np.repeat(factor.reshape(group, -1), shape[0] // group, axis=0).reshape(shape[0], shape[1], *ones)
