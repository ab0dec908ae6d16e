"""Weights that clustering wrote as indices: found again behind the standard operators that make floats of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Node, Value

__all__ = ["Clustered", "clustered_of"]

Array = np.ndarray[Any, np.dtype[Any]]

_FOUR_BITS, _TWO_BITS = 16, 4  # levels that indices of so many bits can name


@dataclass(frozen=True, eq=False)
class Clustered:
    """A matrix: ``levels`` int8 by ``indices`` uint8 [N, K], times ``scale`` float32 [N]."""

    levels: Array
    indices: Array
    scale: Array

    @property
    def bits(self) -> int:
        """Of an index that a kernel unpacks: 2 or 4; 8 where there are too many levels."""
        return 2 if len(self.levels) <= _TWO_BITS else 4 if len(self.levels) <= _FOUR_BITS else 8


def clustered_of(node: Node) -> Clustered | None:
    """The weights of a MatMul or plain Gemm if they are whole numbers times a scale of each output channel."""
    if not node.is_op("MatMul", "Gemm") or (node.is_op("Gemm") and not _is_plain(node)):
        return None
    by_rows = node.is_op("Gemm") and bool(node.attr("transB", 0))
    value = node.input(1)
    factor: Array = np.ones(1, np.float32)
    maker = None if value is None else value.producer
    if maker is not None and maker.is_op("Mul"):
        held = [item.constant if item is not None else None for item in maker.inputs]
        place = next((i for i, item in enumerate(held) if item is not None), None)
        if place is None:
            return None
        factor = np.asarray(held[place].numpy(), np.float32)  # type: ignore[union-attr]
        other = maker.inputs[1 - place]
        maker = None if other is None else other.producer
    if maker is None or not maker.is_op("Cast") or maker.attr("to") != int(DType.FLOAT):
        return None
    found = _levels(maker.inputs[0])
    if found is None or found[1].ndim != 2:
        return None
    levels, indices = found
    indices = indices if by_rows else indices.T
    channels = indices.shape[0]
    one = factor.size == 1 and factor.ndim <= 2
    if not one and factor.shape not in (((channels, 1),) if by_rows else ((channels,), (1, channels))):
        return None
    scale = np.ascontiguousarray(np.broadcast_to(factor.reshape(-1), (channels,)))
    return Clustered(levels, np.ascontiguousarray(indices), scale)


def _is_plain(node: Node) -> bool:
    return not node.attr("transA", 0) and node.attr("alpha", 1.0) == 1.0 and node.attr("beta", 1.0) == 1.0


def _levels(value: Value | None) -> tuple[Array, Array] | None:
    """Int8 levels and uint8 indices of a matrix of whole numbers: a codebook and its indices, or the numbers."""
    if value is None:
        return None
    if value.constant is not None:
        array = value.constant.numpy()
        if value.dtype not in (DType.INT8, DType.INT4, DType.INT2):
            return None
        levels, indices = np.unique(array.astype(np.int8), return_inverse=True)
        return levels, indices.reshape(array.shape).astype(np.uint8)
    gather = value.producer
    if gather is None or not gather.is_op("Gather") or gather.attr("axis", 0) != 0:
        return None
    book, places = gather.inputs[:2]
    cast = None if places is None else places.producer
    held = places if cast is None else cast.inputs[0] if cast.is_op("Cast") else None
    if book is None or held is None or book.constant is None or held.constant is None:
        return None
    levels = book.constant.numpy()
    if book.dtype is not DType.INT8 or levels.ndim != 1:
        return None
    indices = held.constant.numpy().astype(np.int64)
    if indices.size == 0 or indices.min() < -len(levels) or indices.max() >= len(levels):
        return None
    if len(levels) > 1 << 8:  # of int8 there are no more different ones
        levels, kept = np.unique(levels, return_inverse=True)
        indices = kept.reshape(-1)[indices]
    return levels, (indices % len(levels)).astype(np.uint8)
