"""What launches read of operands beforehand: whether they are fixed, scales and zero points as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.kernels.registry import Held, Operand

__all__ = ["NO_FLOATS", "NO_INTEGERS", "known", "number", "per_channel", "scalar"]

Array = np.ndarray[Any, np.dtype[Any]]

NO_FLOATS, NO_INTEGERS = Held(np.zeros(1, np.float32)), Held(np.zeros(1, np.int32))
"""What stands where a kernel has no use for a tensor."""


def known(*operands: Operand | None) -> bool:
    """True when each of ``operands`` that is there never changes."""
    return all(item is None or item.array is not None for item in operands)


def scalar(item: Operand | Array | None) -> int:
    """A zero point as a number; 0 where it is left out."""
    array = item.array if isinstance(item, Operand) else item
    return 0 if array is None else int(np.asarray(array).reshape(-1)[0])


def number(item: Operand | None) -> float:
    """A scale as a number; 0 where it is left out."""
    return 0.0 if item is None or item.array is None else float(np.asarray(item.array).reshape(-1)[0])


def per_channel(scale: Array, channels: int) -> Array:
    """``scale``, one or one a channel, as float32 [channels]."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(scale, np.float32).reshape(-1), (channels,)))
