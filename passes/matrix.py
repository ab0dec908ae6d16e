"""Constant weights as matrices, one row for each output channel, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from qcompiler.ir import Node

__all__ = ["as_rows", "channel_shape", "from_rows", "is_turned", "rows_shape"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


def as_rows(node: Node, array: Array) -> Array:
    """``array``, the constant weights that ``node`` reads, as float64 [groups, channels, inner].

    A convolution has its groups, everything else one. Of operators other than Conv, MatMul and Gemm the rows are those
    of all leading axes (recurrent weights) or of the first one (tables, transposed convolutions).
    """
    return _arranged(node, array).astype(np.float64)


def rows_shape(node: Node, array: Array) -> tuple[int, int, int]:
    """The shape of :func:`as_rows`, without a copy of the weights."""
    groups, channels, inner = _arranged(node, array).shape
    return groups, channels, inner


def _arranged(node: Node, array: Array) -> Array:
    if is_turned(node, array):
        return array.T[None]
    if node.is_op("LSTM", "GRU", "RNN"):
        return array.reshape(1, -1, array.shape[-1])
    groups = int(node.attr("group", 1)) if node.is_op("Conv") else 1
    return array.reshape(groups, array.shape[0] // groups, -1)


def from_rows(node: Node, rows: Array, like: Array) -> Array:
    """The inverse of :func:`as_rows`, of the shape of ``like``; the element type stays."""
    if is_turned(node, like):
        return np.ascontiguousarray(rows[0].T)
    return np.ascontiguousarray(rows.reshape(like.shape))


def channel_shape(node: Node, like: Array) -> tuple[int, ...]:
    """The shape in which one number for each row stands beside a weight of the shape of ``like`` to be multiplied."""
    if is_turned(node, like):
        return (1, like.shape[1])
    kept = like.ndim - 1 if node.is_op("LSTM", "GRU", "RNN") else 1
    return (*like.shape[:kept], *[1] * (like.ndim - kept))


def is_turned(node: Node, array: Array) -> bool:
    """True for products that read their weights as [inner, channels]."""
    return array.ndim == 2 and (node.is_op("MatMul") or (node.is_op("Gemm") and not node.attr("transB", 0)))
