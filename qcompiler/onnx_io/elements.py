"""Tensors and types as protobuf writes them, as the IR has them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from qcompiler.dtypes import DType, packed_size
from qcompiler.errors import ImportFailure
from qcompiler.ir import (
    ArrayTensor,
    Attr,
    ExternalTensor,
    MapType,
    OpaqueType,
    OptionalType,
    PackedTensor,
    SequenceType,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    tensor,
)
from qcompiler.onnx_io.reader import resolve_external

__all__ = ["constant_of", "text", "to_tensor", "to_type"]

_CONSTANTS = {
    "value_float": DType.FLOAT,
    "value_floats": DType.FLOAT,
    "value_int": DType.INT64,
    "value_ints": DType.INT64,
    "value_string": DType.STRING,
    "value_strings": DType.STRING,
}


def to_tensor(proto: onnx.TensorProto, folder: Path | None) -> Tensor:
    """The constant in ``proto``; external data stays in its file. Raises ImportFailure when it is too short."""
    dtype, shape = _element(proto.data_type, f"tensor '{proto.name}'"), tuple(proto.dims)
    made: Tensor
    try:
        if any(size < 0 for size in shape):
            raise ValueError("a size is negative")
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            made = _external(proto, dtype, shape, folder)
        elif proto.HasField("raw_data") and dtype is not DType.STRING:
            made = PackedTensor(proto.raw_data, dtype, shape, proto.name)
            if len(proto.raw_data) != made.nbytes:
                raise ValueError(f"{len(proto.raw_data)} bytes where {made.nbytes} are due")
        elif dtype is DType.STRING:
            items = np.empty(len(proto.string_data), object)
            items[:] = [text(item) for item in proto.string_data]
            made = ArrayTensor(items.reshape(shape), proto.name, dtype)
        else:
            made = ArrayTensor(np.asarray(onnx.numpy_helper.to_array(proto)), proto.name, dtype)
    except ValueError as error:
        raise ImportFailure(
            f"tensor '{proto.name}' does not hold what its shape {list(shape)} asks for: {error}"
        ) from None
    made.metadata = {item.key: item.value for item in proto.metadata_props}
    if proto.doc_string:
        made.metadata["onnx.doc"] = proto.doc_string
    return made


def _element(number: int, where: str = "a value") -> DType:
    try:
        return DType(number)
    except ValueError:
        raise ImportFailure(f"{where} has the unknown element type {number}") from None


def _external(proto: onnx.TensorProto, dtype: DType, shape: tuple[int, ...], folder: Path | None) -> Tensor:
    """A tensor whose elements stay in their file. Raises ValueError when the file has no room for them."""
    if dtype is DType.STRING:
        raise ValueError("strings cannot lie in a file of their own")
    entry = {item.key: item.value for item in proto.external_data}
    path = resolve_external(entry, folder, proto.name)
    need, there = packed_size(dtype, math.prod(shape)), path.stat().st_size
    offset = int(entry.get("offset") or 0)
    length = int(entry.get("length") or there - offset)
    if offset < 0 or length < need or offset + need > there:
        raise ValueError(f"{need} bytes are due at {offset} of {path}, which has {there}, {length} of them for it")
    return ExternalTensor(path, offset, dtype, shape, proto.name)


def to_type(proto: onnx.TypeProto) -> Type | None:
    """The type in ``proto``; None when it says nothing."""
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        held = getattr(proto, kind)
        shape = None
        if held.HasField("shape"):
            shape = tuple(
                dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in held.shape.dim
            )
        return TensorType(_element(held.elem_type) if held.elem_type else None, shape, kind == "sparse_tensor_type")
    if kind == "sequence_type":
        return SequenceType(to_type(proto.sequence_type.elem_type))
    if kind == "optional_type":
        return OptionalType(to_type(proto.optional_type.elem_type))
    if kind == "map_type":
        return MapType(_element(proto.map_type.key_type), to_type(proto.map_type.value_type))
    if kind == "opaque_type":
        return OpaqueType(proto.opaque_type.domain, proto.opaque_type.name)
    return None


def constant_of(attrs: dict[str, Attr]) -> Tensor | SparseTensor | None:
    """What a Constant node holds; None when it takes it from a function's attribute."""
    if len(attrs) != 1:
        return None
    (key, attr), *_ = attrs.items()
    if attr.ref:
        return None
    if key in ("value", "sparse_value"):
        return attr.value  # type: ignore[no-any-return]
    dtype = _CONSTANTS.get(key)
    return None if dtype is None else tensor(attr.value, dtype)


def text(data: bytes) -> str | bytes:
    """Text as Python has it; what is not UTF-8 stays bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
