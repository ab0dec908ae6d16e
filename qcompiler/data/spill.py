"""Room for arrays that are too large to sit in memory whole: a nameless temporary file, mapped.

Its pages are let go after each sample, so that a file of a thousand samples takes the memory of one.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np

__all__ = ["IN_MEMORY", "allocate", "release"]

IN_MEMORY = 64 << 20
"""Bytes up to which an array is simply held in memory."""


def allocate(size: int) -> bytearray | mmap.mmap:
    """A writable buffer of ``size`` bytes, in memory or in a file that vanishes with it. Raises OSError."""
    if size <= IN_MEMORY:
        return bytearray(size)
    with tempfile.TemporaryFile(prefix="qcompiler-") as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)


def release(array: np.ndarray[Any, Any]) -> None:
    """Let go of the pages of a mapped array; its elements stay in the file. Nothing happens to any other array."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
