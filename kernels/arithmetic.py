"""Float32 arithmetic that gives the same bits on every device: the truth to which the Triton kernels are held.

Each operation is rounded by itself to float32, halves to even (IEEE 754), and the order is fixed. What a processor or
a graphics card computes in its own way (exp, erf) is written out: the exponential is Cephes' ``expf``, the error
function Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ACTIVATIONS", "LONGEST_SUM", "activate", "dequantize", "int_matmul", "row_scales", "to_int8"]

Array = np.ndarray[Any, np.dtype[Any]]

ACTIVATIONS = {
    "none": 0,
    "relu": 1,
    "clip": 2,
    "leaky_relu": 3,
    "silu": 4,
    "gelu": 5,
    "gelu_tanh": 6,
    "hard_swish": 7,
    "sigmoid": 8,
    "tanh": 9,
    "hard_sigmoid": 10,
}
"""Activations by name, and the code that a kernel knows them by."""

LONGEST_SUM = 1 << 16
"""Products of two 8-bit integers of which a sum surely fits int32; beyond, cards saturate where processors wrap."""

_EXACT_K = 512  # products of at most 255 * 128 whose float32 sum is below 2**24
_f: Any = np.float32


def exp(x: Array) -> Array:
    """e**x for float32 ``x``, which saturates at -87 and 88."""
    x = np.fmin(np.fmax(x, _f(-87.0)), _f(88.0))
    n = _half_even(x * _f(1.44269504))
    r = x - n * _f(0.693359375)
    r = r - n * _f(-2.12194440e-4)
    p = r * _f(1.9875691500e-4) + _f(1.3981999507e-3)
    p = p * r + _f(8.3334519073e-3)
    p = p * r + _f(4.1665795894e-2)
    p = p * r + _f(1.6666665459e-1)
    p = p * r + _f(5.0000001201e-1)
    y = p * (r * r) + r
    y = y + _f(1.0)
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return np.asarray(y * power)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.asarray(_f(1.0) / (_f(1.0) + exp(-x)))


def tanh(x: Array) -> Array:
    """1 - 2 / (exp(2x) + 1)."""
    return np.asarray(_f(1.0) - _f(2.0) / (exp(x * _f(2.0)) + _f(1.0)))


def erf(x: Array) -> Array:
    """Error function."""
    z = np.abs(x)
    t = _f(1.0) / (z * _f(0.3275911) + _f(1.0))
    p = t * _f(1.061405429) + _f(-1.453152027)
    p = p * t + _f(1.421413741)
    p = p * t + _f(-0.284496736)
    p = p * t + _f(0.254829592)
    y = _f(1.0) - (p * t) * exp(-(z * z))
    return np.asarray(np.where(x < 0, -y, y))


def activate(x: Array, name: str, low: float = 0.0, high: float = 0.0) -> Array:
    """Float32 ``x`` after the activation ``name`` of :data:`ACTIVATIONS`.

    ``low`` and ``high`` are the bounds of ``clip``; ``low`` is the slope of ``leaky_relu``, and ``low * x + high`` what
    ``hard_sigmoid`` cuts.
    """
    first, second = _f(low), _f(high)
    with np.errstate(over="ignore", invalid="ignore"):
        match name:
            case "none":
                return x
            case "relu":
                return np.asarray(np.fmax(x, _f(0.0)))
            case "clip":
                return np.asarray(np.fmin(np.fmax(x, first), second))
            case "leaky_relu":
                return np.where(x < 0, x * first, x)
            case "silu":
                return np.asarray(x * sigmoid(x))
            case "gelu":
                return np.asarray((x * _f(0.5)) * (erf(x * _f(0.70710678)) + _f(1.0)))
            case "gelu_tanh":
                inner = (x + (x * x * x) * _f(0.044715)) * _f(0.7978845608)
                return np.asarray((x * _f(0.5)) * (tanh(inner) + _f(1.0)))
            case "hard_swish":
                return np.asarray(x * np.fmin(np.fmax(x * _f(0.16666667) + _f(0.5), _f(0.0)), _f(1.0)))
            case "sigmoid":
                return sigmoid(x)
            case "tanh":
                return tanh(x)
            case "hard_sigmoid":
                return np.asarray(np.fmin(np.fmax(x * first + second, _f(0.0)), _f(1.0)))
    raise ValueError(f"there is no activation '{name}'")


def to_int8(x: Array, scale: Any, zero: Any) -> Array:
    """Int8 for float32 ``x`` (ONNX QuantizeLinear): clip(half_even(x / scale) + zero). Not a number: the lowest."""
    offset = np.asarray(zero).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        level = np.fmin(np.fmax(x / np.asarray(scale, np.float32), _f(-128.0) - offset), _f(127.0) - offset)
    return np.asarray((_half_even(level) + offset).astype(np.int32).astype(np.int8))


def dequantize(q: Array, scale: Any, zero: Any) -> Array:
    """Float32 for integers: (q - zero) * scale."""
    return np.asarray((q.astype(np.float32) - np.asarray(zero).astype(np.float32)) * np.asarray(scale, np.float32))


def row_scales(x: Array) -> Array:
    """Float32 [..., 1]: what makes 127 of the largest of each row of ``x``; 1 for a row of zeros."""
    scale = np.fmax.reduce(np.abs(x), axis=-1, keepdims=True, initial=_f(0.0)) / _f(127.0)
    return np.asarray(np.where(scale > np.finfo(np.float32).tiny, scale, _f(1.0)))


def int_matmul(a: Array, b: Array) -> Array:
    """Int32 [..., M, N] of ``a`` [..., M, K] and ``b`` [..., K, N], exactly.

    Elements are integers of at most 255 in ``a`` and 128 in ``b`` by magnitude, or the other way round, in any type.
    Sums of up to 512 such products are exact in float32, which BLAS multiplies fast; sums beyond int32 wrap.
    """
    size = a.shape[-1]
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = np.zeros((*shape, a.shape[-2], b.shape[-1]), np.int32)
    for start in range(0, size, _EXACT_K):
        part = slice(start, start + _EXACT_K)
        product = a[..., part].astype(np.float32) @ b[..., part, :].astype(np.float32)
        total += product.astype(np.int32)
    return total


def _half_even(x: Array) -> Array:
    return np.asarray(np.rint(x))
