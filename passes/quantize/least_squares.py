"""Rounding weights so that a layer's output, not each weight, stays near: least squares with the inputs' moments.

With H = sum of x x^T the squared error of one output channel is (w - q) H (w - q)^T. Everything here works on
``weights`` [groups, channels, inner] and ``moments`` [groups, inner, inner], and takes a ``grid`` that rounds a column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

__all__ = ["compensated", "damped", "descended", "inverse_factor", "output_error"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Grid: TypeAlias = Callable[[int, Array], Array]
"""(column, its real values [groups, channels]) to the nearest values that can be stored."""

_LAZY = 64  # columns whose errors are handed on together
_DAMPING = 0.01  # of the mean diagonal, added to it


def damped(moments: Array) -> Array:
    """``moments`` with one percent of the mean diagonal added to it, so that it can be inverted.

    An input that never was anything but zero gets a diagonal of its own: its weights are rounded to the nearest.
    """
    made = np.array(moments, np.float64)
    diagonal = np.einsum("gii->gi", made)
    mean = diagonal.mean(axis=1, keepdims=True)
    diagonal += _DAMPING * np.where(mean > 0, mean, 1.0)
    return made


def inverse_factor(moments: Array) -> Array:
    """The upper U with U^T U the inverse of the damped ``moments``: what a column hands on to those behind it."""
    inverse = np.linalg.inv(moments)
    factor: Array = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    return factor


def compensated(weights: Array, moments: Array, grid: Grid, start: Callable[[int, Array], None] | None = None) -> Array:
    """Column after column is rounded and its error made good by those that follow (GPTQ: Frantar et al., 2022, alg. 1).

    ``moments`` are damped. ``start`` is shown the weights as they are now before each column, so that scales of a block
    can be set when the block begins. Time: inner^2 (inner + channels).
    """
    left = np.array(weights, np.float64)
    rounded = np.empty_like(left)
    factor = inverse_factor(moments)
    inner = left.shape[2]
    for first in range(0, inner, _LAZY):
        last = min(first + _LAZY, inner)
        errors = np.empty((*left.shape[:2], last - first))
        for column in range(first, last):
            if start is not None:
                start(column, left)
            values = left[:, :, column]
            rounded[:, :, column] = grid(column, values)
            errors[:, :, column - first] = (values - rounded[:, :, column]) / factor[:, None, column, column]
            left[:, :, column:last] -= errors[:, :, column - first, None] * factor[:, None, column, column:last]
        if last < inner:
            left[:, :, last:] -= errors @ factor[:, first:last, last:]
    return rounded


def descended(weights: Array, moments: Array, grid: Grid, rounded: Array, sweeps: int) -> Array:
    """``rounded`` bettered by setting one column at a time to its best value, the others held.

    Cyclic coordinate descent on the least-squares problem of which AdaRound (Nagel et al., 2020, equation 21) is a
    relaxation; as in QuantEase (Behdin et al., 2023). The error never grows. Time: sweeps * inner^2 * channels.
    """
    made = np.array(rounded, np.float64)
    slope = (made - weights) @ moments
    for _ in range(sweeps):
        changed = False
        for column in range(made.shape[2]):
            wanted = made[:, :, column] - slope[:, :, column] / moments[:, None, column, column]
            better = grid(column, wanted)
            step = better - made[:, :, column]
            if step.any():
                changed = True
                made[:, :, column] = better
                slope += step[:, :, None] * moments[:, None, column, :]
        if not changed:
            break
    return made


def output_error(weights: Array, moments: Array, rounded: Array) -> Array:
    """Squared error of each output channel, summed over the inputs: [groups, channels]."""
    off = rounded - weights
    error: Array = np.einsum("gci,gci->gc", off @ moments, off)
    return error
