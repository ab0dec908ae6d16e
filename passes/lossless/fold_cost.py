"""What it costs to compute a node at compile time, told from types before anything is run."""

from __future__ import annotations

import math

from qcompiler.dtypes import DType, packed_size
from qcompiler.ir import Node, Value
from qcompiler.ops import is_pure
from qcompiler.passes.lossless.known import static_shape

__all__ = ["foldable", "result_bytes", "value_bytes", "work"]

# Folding these would take from a target what it looks for (Q/DQ pairs), or they may be random.
_NEVER = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout"}
# How long these run cannot be told from sizes in one line.
_UNCLEAR = {
    "AffineGrid", "Attention", "Col2Im", "DFT", "DeformConv", "Det", "Einsum", "FlexAttention", "GRU", "GridSample",
    "ImageDecoder", "LSTM", "LinearAttention", "MaxRoiPool", "MelWeightMatrix", "NonMaxSuppression", "QLinearConv",
    "QLinearMatMul", "RNN", "RoiAlign", "STFT", "TfIdfVectorizer", "TopK", "Unique",
}  # fmt: skip
_SMALL = 1 << 12  # elements in and out up to which even those are done at once
_PLAIN = {  # what onnxruntime takes and gives as numpy arrays
    DType.BOOL, DType.DOUBLE, DType.FLOAT, DType.FLOAT16, DType.INT8, DType.INT16, DType.INT32, DType.INT64,
    DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64,
}  # fmt: skip


def foldable(node: Node) -> bool:
    """True for an operator whose results are plain tensors that its inputs alone decide."""
    if node.op_type in _NEVER or not is_pure(node):
        return False
    if any(attr.ref or next(attr.graphs(), None) is not None for attr in node.attrs.values()):
        return False
    return all(value.dtype in _PLAIN for value in node.outputs if value.uses)


def value_bytes(value: Value) -> int | None:
    """Bytes of a tensor, or the most that they can be; None when its type does not tell."""
    if value.constant is not None:
        return value.constant.nbytes
    shape = static_shape(value)
    if shape is None and value.producer is not None and value.producer.is_op("NonZero"):
        shape = _shape(value.producer.input(0))  # at most as many indices as elements, with one row an axis
        shape = None if shape is None else (len(shape), *shape)
    return None if shape is None or value.dtype is None else packed_size(value.dtype, math.prod(shape))


def result_bytes(node: Node) -> int | None:
    """Bytes of those results that somebody uses; None when their types do not tell."""
    sizes = [value_bytes(value) for value in node.outputs if value.uses]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def work(node: Node) -> int | None:
    """Elements read, written or multiplied, about; None when that cannot be told."""
    taken = [_shape(value) for value in node.inputs if value is not None]
    size = result_bytes(node)
    if None in taken or size is None:
        return None
    out = max((size // (value.dtype.bits // 8) for value in node.outputs if value.uses and value.dtype), default=0)
    read = sum(math.prod(shape) for shape in taken if shape is not None)
    if node.op_type in _UNCLEAR:
        return read + out if read + out <= _SMALL else None
    return read + out * _products(node)


def _products(node: Node) -> int:
    """Multiplications, or comparisons, for each element of the result."""
    first, second = (_shape(node.input(position)) or () for position in (0, 1))
    if node.is_op("MatMul", "MatMulInteger"):
        return first[-1] if first else 1
    if node.is_op("Gemm"):
        return first[0 if node.attr("transA", 0) else -1]
    if node.is_op("Conv", "ConvInteger"):
        return math.prod(second[1:])
    if node.is_op("ConvTranspose"):
        return math.prod((second[0], *second[2:]))
    return math.prod(node.attr("kernel_shape", ()))


def _shape(value: Value | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    return value.constant.shape if value.constant is not None else static_shape(value)
