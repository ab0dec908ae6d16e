"""Tensors that a compile makes and that are too large to keep in memory until the model is written."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from typing import Any

import numpy as np

from qcompiler.dtypes import DType, unpack
from qcompiler.ir.tensor import Tensor, tensor

__all__ = ["SpilledTensor", "spilled"]

Array = np.ndarray[Any, np.dtype[Any]]

_IN_MEMORY = 8 << 20  # bytes; smaller ones stay where they are
_SEGMENT = 1 << 30  # bytes after which a new file is begun, so that files are few and go when their tensors have gone


class _Segment:
    """A nameless file that is closed, and thereby gone, with the last tensor in it."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix="qcompiler-")  # noqa: SIM115 - lives as long as its tensors do
        self.end = 0

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def append(self, data: memoryview) -> int:
        """Where ``data`` stands from now on, on a page of its own. Raises OSError when the disk is full."""
        start = self.end
        self.file.seek(start)
        self.file.write(data)
        self.file.flush()
        self.end = -(-(start + len(data)) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        return start


class SpilledTensor(Tensor):
    """A tensor in a temporary file, mapped when it is read and let go afterwards."""

    __slots__ = ("_offset", "_segment")

    def __init__(self, segment: _Segment, offset: int, like: Tensor) -> None:
        """The bytes of ``like`` stand at ``offset`` of ``segment``."""
        super().__init__(like.dtype, like.shape, like.name)
        self._segment = segment
        self._offset = offset

    def data(self) -> Any:
        """The bytes, as a view of the mapped file."""
        file = self._segment.file.fileno()
        return memoryview(mmap.mmap(file, self.nbytes, access=mmap.ACCESS_READ, offset=self._offset))

    def numpy(self) -> Array:
        """A read-only view of the mapped file."""
        return unpack(self.data(), self.dtype, self.shape)


class _Spill:
    """The segment to which the next tensor of this process goes."""

    def __init__(self) -> None:
        self.segment: _Segment | None = None
        self.process = 0
        self.lock = threading.Lock()

    def append(self, held: Tensor) -> Tensor:
        data = memoryview(held.data()).cast("B")
        with self.lock:
            if self.segment is None or self.process != os.getpid() or self.segment.end + len(data) > _SEGMENT:
                self.segment, self.process = _Segment(), os.getpid()  # a fork would write where its parent does
            segment = self.segment
            return SpilledTensor(segment, segment.append(data), held)


_spill = _Spill()


def spilled(data: Any, name: str = "") -> Tensor:
    """``data`` as a tensor, in a temporary file when it is large: memory is bounded by the largest tensor.

    Where no file can be written it stays in memory.
    """
    held = tensor(data, name=name)
    if isinstance(data, Tensor) or held.nbytes <= _IN_MEMORY or held.dtype is DType.STRING:
        return held
    try:
        return _spill.append(held)
    except OSError:
        return held
