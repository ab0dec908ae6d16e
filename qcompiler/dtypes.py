"""Every ONNX element type: its width, its numpy type, and how values narrower than a byte are packed.

Elements of 2, 4 and 6 bits form one little-endian bit stream: the first element sits in the lowest
bits of the first byte (ONNX, ``onnx.proto``, ``TensorProto.raw_data``).
"""

from __future__ import annotations

import enum
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["DType", "pack", "packed_size", "unpack"]

Array = np.ndarray[Any, np.dtype[Any]]


class DType(enum.IntEnum):
    """An element type; the value is the number that ONNX files use for it."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of one element; ``object`` for strings, ml_dtypes for what numpy lacks."""
        return _NUMPY[self]

    @property
    def bits(self) -> int:
        """Bits that one element takes in a file; 0 for strings, whose size varies."""
        return _BITS[self]

    @property
    def is_float(self) -> bool:
        """True for every real floating-point type."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, not for booleans."""
        return not self.is_float and self not in _NEITHER

    @property
    def is_signed(self) -> bool:
        """True for signed integers and for every float but FLOAT8E8M0."""
        return self.name.startswith("INT") or (self.is_float and self is not DType.FLOAT8E8M0)

    @classmethod
    def of(cls, dtype: Any) -> DType:
        """The element type that numpy's ``dtype`` stands for. Raises TypeError when ONNX has none."""
        given = np.dtype(dtype).newbyteorder("=")
        if given.kind in "US":
            return cls.STRING
        found = _BY_NUMPY.get(given)
        if found is None:
            raise TypeError(f"ONNX has no element type for numpy's {given}")
        return found


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT: np.dtype(np.float32),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT8: np.dtype(np.int8),
    DType.UINT16: np.dtype(np.uint16),
    DType.INT16: np.dtype(np.int16),
    DType.INT32: np.dtype(np.int32),
    DType.INT64: np.dtype(np.int64),
    DType.STRING: np.dtype(object),
    DType.BOOL: np.dtype(np.bool_),
    DType.FLOAT16: np.dtype(np.float16),
    DType.DOUBLE: np.dtype(np.float64),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT64: np.dtype(np.uint64),
    DType.COMPLEX64: np.dtype(np.complex64),
    DType.COMPLEX128: np.dtype(np.complex128),
    DType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DType.FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.FLOAT8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DType.FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.FLOAT8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DType.UINT4: np.dtype(ml_dtypes.uint4),
    DType.INT4: np.dtype(ml_dtypes.int4),
    DType.FLOAT4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    DType.FLOAT8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DType.UINT2: np.dtype(ml_dtypes.uint2),
    DType.INT2: np.dtype(ml_dtypes.int2),
    DType.FLOAT6E2M3: np.dtype(ml_dtypes.float6_e2m3fn),
    DType.FLOAT6E3M2: np.dtype(ml_dtypes.float6_e3m2fn),
}
_BY_NUMPY = {dtype: element for element, dtype in _NUMPY.items()}
_NARROW = {
    DType.UINT4: 4,
    DType.INT4: 4,
    DType.FLOAT4E2M1: 4,
    DType.UINT2: 2,
    DType.INT2: 2,
    DType.FLOAT6E2M3: 6,
    DType.FLOAT6E3M2: 6,
}
_BITS = {element: _NARROW.get(element, dtype.itemsize * 8) for element, dtype in _NUMPY.items()} | {DType.STRING: 0}
_NEITHER = {DType.STRING, DType.BOOL, DType.COMPLEX64, DType.COMPLEX128}
_FLOATS = {element for element in DType if "FLOAT" in element.name or element is DType.DOUBLE}


def packed_size(dtype: DType, count: int) -> int:
    """Bytes that ``count`` elements of ``dtype`` take in a file (strings: 0)."""
    return -(-count * dtype.bits // 8)


def pack(array: Array, dtype: DType) -> bytes:
    """Elements in row-major order as the bytes that a file holds, little-endian.

    ``array`` has the numpy type of ``dtype``; any shape.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype.bits not in (2, 4, 6):
        little = flat if flat.dtype.byteorder != ">" else flat.astype(flat.dtype.newbyteorder("<"))
        return little.tobytes()
    bits = np.unpackbits(flat.view(np.uint8)[:, None], axis=1, count=dtype.bits, bitorder="little")
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def unpack(data: Any, dtype: DType, shape: tuple[int, ...]) -> Array:
    """The inverse of :func:`pack`: a buffer of bytes as an array of ``shape``, read-only where no copy was needed.

    Raises ValueError when the buffer is shorter than the shape asks for.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) < packed_size(dtype, count):
        raise ValueError(f"{len(data)} bytes are too few for {count} elements of {dtype.name}")
    if dtype.bits not in (2, 4, 6):
        return np.frombuffer(data, dtype=dtype.numpy, count=count).reshape(shape)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * dtype.bits, bitorder="little")
    codes = np.packbits(bits.reshape(count, dtype.bits), axis=1, bitorder="little").reshape(-1)
    if dtype in (DType.INT4, DType.INT2):  # what the upper bits of a byte hold is for ml_dtypes to say
        shift = 8 - dtype.bits
        signed = np.right_shift(np.left_shift(codes, np.uint8(shift)).view(np.int8), np.int8(shift))
        return signed.astype(dtype.numpy).reshape(shape)
    return codes.view(dtype.numpy).reshape(shape)
