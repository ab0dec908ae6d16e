"""Sizes in memory, and the shares of a card's peaks that well-made kernels reach: what estimates of times rest on."""

from __future__ import annotations

import math

from qcompiler.ir import Value

__all__ = ["BANDWIDTH", "PEAK", "bytes_of", "elements_of"]

PEAK, BANDWIDTH = 0.5, 0.8
"""Shares of the card's peak of arithmetic and of its bandwidth."""


def elements_of(value: Value) -> int:
    """How many elements; sizes that are not known count as one. 0 where the rank is not known."""
    shape = value.shape
    return 0 if shape is None else math.prod(size if isinstance(size, int) else 1 for size in shape)


def bytes_of(value: Value) -> float:
    """Bytes in memory; floats are stored in two."""
    if value.dtype is None:
        return 0.0
    return elements_of(value) * min(value.dtype.bits, 16 if value.dtype.name == "FLOAT" else 64) / 8
