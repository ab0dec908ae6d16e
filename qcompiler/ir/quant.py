"""Quantization as data on values. It becomes QuantizeLinear and DequantizeLinear only at lowering.

real = (quantized - zero_point) * scale, with quantized = clip(round_half_even(real / scale) + zero_point)
(ONNX QuantizeLinear; Jacob et al., 2018, equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.dtypes import DType

__all__ = ["QuantSpec", "Quantization", "affine_parameters", "integer_range", "quantize", "quantize_weight"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class QuantSpec:
    """How a value is quantized: integer type, symmetry and granularity.

    ``axis`` None means one scale for the tensor; an axis alone, one a slice; with ``block``, one a run of
    ``block`` elements along that axis. ``reduced`` leaves one bit unused (processors whose products saturate).
    """

    dtype: DType
    symmetric: bool = False
    axis: int | None = None
    block: int | None = None
    reduced: bool = False


@dataclass(slots=True)
class Quantization:
    """What is decided for one value.

    ``low`` and ``high`` are the real range that the integers cover, ``observed`` the least and largest value seen;
    ``scale`` is float32 and ``zero_point`` of ``spec.dtype``, scalars or [channels]. Values of one ``group`` share
    parameters. ``source`` says where the range came from; ``pinned`` keeps passes from changing it.
    """

    spec: QuantSpec
    scale: Array
    zero_point: Array
    low: Array
    high: Array
    observed: tuple[float, float] = (0.0, 0.0)
    source: str = ""
    group: str = ""
    pinned: bool = False


def integer_range(spec: QuantSpec) -> tuple[int, int]:
    """Smallest and largest integer used. Symmetric signed types leave out the most negative one; those of 8-bit floats
    (E4M3, the only ones here) are the largest that they hold."""
    if spec.dtype is DType.FLOAT8E4M3FN:
        return -448, 448
    bits = spec.dtype.bits - (1 if spec.reduced else 0)
    if spec.dtype.name.startswith("U"):
        return 0, 2**bits - 1
    top = 2 ** (bits - 1) - 1
    return (-top if spec.symmetric else -top - 1), top


def affine_parameters(low: Any, high: Any, spec: QuantSpec) -> tuple[Array, Array]:
    """Scale (float32) and zero point (``spec.dtype``) for the real range [low, high], scalars or [channels].

    Zero is always exactly representable. A range of no width gets scale 1. Raises ValueError when a bound is
    not finite, or too large for the scale to be a float32.
    """
    lows = np.minimum(np.asarray(low, np.float64), 0.0)
    highs = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise ValueError("the range is not finite")
    bottom, top = integer_range(spec)
    if spec.symmetric:
        middle = (bottom + top + 1) // 2 if bottom == 0 else 0
        widest = np.maximum(-lows, highs)
        scale = widest / (top - middle)
        zero = np.full(scale.shape, middle)
    else:
        scale = (highs - lows) / (top - bottom)
        zero = bottom - np.rint(lows / np.where(scale > 0, scale, 1.0))
    # Below the smallest normal float32 the division by the scale loses its precision or overflows.
    usable = scale >= np.finfo(np.float32).tiny
    if (scale > np.finfo(np.float32).max).any():
        raise ValueError("the range is too wide for a float32 scale")
    scale = np.where(usable, scale, 1.0).astype(np.float32)
    fallback = bottom if spec.dtype.name.startswith("U") else 0
    zero = np.clip(np.where(usable | spec.symmetric, zero, fallback), bottom, top)
    return scale, zero.astype(spec.dtype.numpy)


def quantize(array: Array, scale: Array, zero_point: Array, spec: QuantSpec) -> Array:
    """Integers of ``spec.dtype`` for real ``array``; scale and zero point are scalars, or [n] along the axis."""
    bottom, top = integer_range(spec)
    if spec.axis is not None and scale.ndim:
        shape = [1] * array.ndim
        shape[spec.axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    if spec.dtype is DType.FLOAT8E4M3FN:  # its steps grow with the number: the type itself rounds, half to even
        with np.errstate(over="ignore"):
            rounded: Array = np.clip(array.astype(np.float32) / scale, bottom, top).astype(spec.dtype.numpy)
        return rounded
    exact = np.float32 if spec.dtype.bits <= 16 else np.float64  # float32 cannot say the largest int32
    with np.errstate(over="ignore"):  # infinity saturates like everything else
        levels = np.rint(array.astype(np.float32) / scale).astype(exact) + zero_point.astype(exact)
    quantized: Array = np.clip(levels, bottom, top).astype(spec.dtype.numpy)
    return quantized


def quantize_weight(array: Array, spec: QuantSpec, *, search: bool = False) -> tuple[Array, Array, Array]:
    """Levels (``spec.dtype``, of the shape of ``array``), scale (float32) and zero point of a weight.

    Per axis they are [channels]. In blocks each has the shape of ``array`` with ceil(size / block) along the axis; the
    last block may be shorter. With ``search``, ranges of less than 8 bits are narrowed where that lowers the squared
    error of their block or channel (Nagel et al., 2021, section 3.1, by a grid). Raises ValueError for a weight that is
    not finite.
    """
    assert spec.axis is not None
    axis = spec.axis % array.ndim
    if spec.block is None:
        parts = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)[..., None]  # [channels, elements, 1]
        around = 1
    else:
        count = -(-array.shape[axis] // spec.block)
        moved = np.moveaxis(array, axis, -1)
        # Repeating the last element keeps the extremes of the last block what they are.
        padded = np.pad(moved, [(0, 0)] * (array.ndim - 1) + [(0, count * spec.block - array.shape[axis])], mode="edge")
        parts = padded.reshape(*moved.shape[:-1], count, spec.block)[..., None]  # [others, blocks, block, 1]
        around = -2
    low, high = parts.min(axis=around, keepdims=True), parts.max(axis=around, keepdims=True)
    scale, zero = affine_parameters(low, high, spec)
    if search and spec.dtype.bits < 8:
        scale, zero = _narrowed(parts, low, high, spec, around, scale, zero)
    levels = quantize(parts, scale, zero, QuantSpec(spec.dtype, spec.symmetric, reduced=spec.reduced))
    if spec.block is None:
        back = np.moveaxis(levels[..., 0].reshape(np.moveaxis(array, axis, 0).shape), 0, axis)
        return np.ascontiguousarray(back), scale.reshape(-1), zero.reshape(-1)
    flat = levels[..., 0].reshape(*moved.shape[:-1], count * spec.block)[..., : array.shape[axis]]
    scales, zeros = (np.ascontiguousarray(np.moveaxis(item[..., 0, 0], -1, axis)) for item in (scale, zero))
    return np.ascontiguousarray(np.moveaxis(flat, -1, axis)), scales, zeros


def _narrowed(
    parts: Array, low: Array, high: Array, spec: QuantSpec, around: int, scale: Array, zero: Array
) -> tuple[Array, Array]:
    """Scale and zero point of the range, of those from all to half as wide, with the least squared error."""
    plain = QuantSpec(spec.dtype, spec.symmetric, reduced=spec.reduced)
    best = np.full(scale.shape, np.inf, np.float32)
    for part in np.linspace(1.0, 0.5, 26):
        steps, middles = affine_parameters(low * part, high * part, spec)
        found = (quantize(parts, steps, middles, plain).astype(np.float32) - middles.astype(np.float32)) * steps
        error = np.square(found - parts).sum(axis=around, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        scale, zero = np.where(better, steps, scale), np.where(better, middles, zero)
    return scale, zero
