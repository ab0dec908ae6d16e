"""Constant tensors behind one protocol, whether they sit in memory, in a mapped file or are made when asked for.

A tensor never changes once it exists, so any number of values, graphs and models may share one.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.dtypes import DType, pack, packed_size, unpack
from qcompiler.errors import ImportFailure

__all__ = ["ArrayTensor", "ExternalTensor", "LazyTensor", "PackedTensor", "SparseTensor", "Tensor", "tensor"]

Array = np.ndarray[Any, np.dtype[Any]]


class Tensor:
    """An immutable array of ``shape`` and element type ``dtype``. Subclasses say where the elements are."""

    __slots__ = ("dtype", "metadata", "name", "shape")

    def __init__(self, dtype: DType, shape: tuple[int, ...], name: str = "") -> None:
        """``name`` is a label that tells where the tensor came from."""
        self.dtype = dtype
        self.shape = shape
        self.name = name
        self.metadata: dict[str, str] = {}

    def numpy(self) -> Array:
        """The elements, read-only, of ``dtype.numpy`` and ``shape``."""
        raise NotImplementedError

    def data(self) -> Any:
        """The elements as a buffer of the bytes that a file holds."""
        return pack(self.numpy(), self.dtype)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in a file (strings: their UTF-8 bytes)."""
        if self.dtype is DType.STRING:
            return sum(len(_text(item)) for item in self.numpy().reshape(-1))
        return packed_size(self.dtype, self.size)

    def digest(self) -> bytes:
        """16 bytes that are equal for equal type, shape and elements (BLAKE2b)."""
        state = hashlib.blake2b(repr((int(self.dtype), self.shape)).encode(), digest_size=16)
        if self.dtype is DType.STRING:
            for item in self.numpy().reshape(-1):
                state.update(len(_text(item)).to_bytes(8, "little") + _text(item))
        else:
            state.update(self.data())
        return state.digest()

    def equal(self, other: Tensor) -> bool:
        """Same type, shape and bytes; a NaN equals itself, zero does not equal minus zero."""
        if self is other:
            return True
        if self.dtype is not other.dtype or self.shape != other.shape:
            return False
        if self.dtype is DType.STRING:
            return [_text(a) for a in self.numpy().flat] == [_text(b) for b in other.numpy().flat]
        return bytes(self.data()) == bytes(other.data())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.dtype.name.lower()}{list(self.shape)} {self.name}>"


class ArrayTensor(Tensor):
    """A tensor held in memory."""

    __slots__ = ("_array",)

    def __init__(self, array: Any, name: str = "", dtype: DType | None = None) -> None:
        """Takes any array; one that can still be written through another name is copied."""
        given = np.asarray(array)
        if dtype is None:
            dtype = DType.of(given.dtype)
        held = np.asarray(given, dtype=dtype.numpy)
        if (held is given or held.base is not None) and _writable(held):
            held = held.copy()
        held.flags.writeable = False
        super().__init__(dtype, tuple(held.shape), name)
        self._array = held

    def numpy(self) -> Array:
        """The array itself, read-only."""
        return self._array


class PackedTensor(Tensor):
    """A tensor held as the bytes of a file, unpacked on every reading (elements of 2, 4 and 6 bits)."""

    __slots__ = ("_data",)

    def __init__(self, data: Any, dtype: DType, shape: tuple[int, ...], name: str = "") -> None:
        """``data`` is a buffer as :func:`qcompiler.dtypes.pack` makes it."""
        super().__init__(dtype, shape, name)
        self._data = data

    def numpy(self) -> Array:
        """The elements; a new array where they had to be unpacked."""
        return unpack(self._data, self.dtype, self.shape)

    def data(self) -> Any:
        """The buffer as it is."""
        return self._data


class ExternalTensor(Tensor):
    """A tensor in a file of its own, mapped into memory when it is read and let go afterwards."""

    __slots__ = ("_stamp", "offset", "path")

    def __init__(self, path: Path, offset: int, dtype: DType, shape: tuple[int, ...], name: str = "") -> None:
        """``offset`` is in bytes from the start of the file at ``path``, which has to be there already."""
        super().__init__(dtype, shape, name)
        self.path = path
        self.offset = offset
        self._stamp = _stamp(path.stat())

    def data(self) -> Any:
        """The bytes, as a view of the mapped file. Raises ImportFailure when the file is not what it was."""
        start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        try:
            with self.path.open("rb") as file:
                if _stamp(os.fstat(file.fileno())) != self._stamp:
                    raise ImportFailure(f"{self.path} has changed since the model was loaded", hint="load it again")
                if not self.size:
                    return b""
                size = self.nbytes + self.offset - start
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, offset=start)
        except FileNotFoundError:
            raise ImportFailure(f"{self.path} is gone since the model was loaded", hint="put it back") from None
        return memoryview(mapped)[self.offset - start :]

    def numpy(self) -> Array:
        """A read-only view of the mapped file; nothing is read before it is used."""
        return unpack(self.data(), self.dtype, self.shape)


class LazyTensor(Tensor):
    """A tensor computed whenever it is read, so that large results need not be kept."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Array], dtype: DType, shape: tuple[int, ...], name: str = "") -> None:
        """``make`` must return the same array of ``dtype`` and ``shape`` on every call."""
        super().__init__(dtype, shape, name)
        self._make = make

    def numpy(self) -> Array:
        """The computed elements. Raises ValueError when they are not what was promised."""
        array = np.asarray(self._make())
        if array.shape != self.shape or array.dtype != self.dtype.numpy:
            raise ValueError(f"{self!r} was computed as {array.dtype}{list(array.shape)}")
        return array


class SparseTensor:
    """A constant in ONNX's coordinate form: ``values`` [n] at ``indices`` [n] or [n, rank] of a tensor of ``shape``."""

    __slots__ = ("indices", "name", "shape", "values")

    def __init__(self, values: Tensor, indices: Tensor, shape: tuple[int, ...], name: str = "") -> None:
        """``indices`` are int64: linear positions, or one coordinate a column."""
        self.values = values
        self.indices = indices
        self.shape = shape
        self.name = name

    @property
    def dtype(self) -> DType:
        """Element type of the values."""
        return self.values.dtype


def tensor(data: Any, dtype: DType | None = None, name: str = "") -> Tensor:
    """A tensor of whatever numpy can read; ``dtype`` converts."""
    if isinstance(data, Tensor):
        return data
    return ArrayTensor(np.asarray(data, dtype=None if dtype is None else dtype.numpy), name, dtype)


def _writable(array: Array) -> bool:
    """True when somebody may change the elements through ``array`` or through what it is a view of."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return True
        base = base.base
    try:
        return base is not None and not memoryview(base).readonly
    except TypeError:
        return True


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _text(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()
