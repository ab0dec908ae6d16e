"""The vectors that a layer multiplies, and its results for them: rows of a matrix, or patches of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import Node

__all__ = ["key_of", "results", "vectors"]

Array = np.ndarray[Any, np.dtype[Any]]

_POSITIONS = 64  # places of a convolution that are looked at in each sample
_LARGEST = 8192  # inner size beyond which a layer is left out


def key_of(node: Node) -> tuple[Any, ...] | None:
    """(value, groups, inner size, how vectors are cut from it); None for what has no such moments."""
    data, weight = node.input(0), node.input(1)
    if data is None or weight is None or weight.constant is None:
        return None
    shape = weight.constant.shape
    if node.is_op("MatMul", "Gemm") and len(shape) == 2 and not node.attr("transA", 0):
        inner = shape[1] if node.is_op("Gemm") and node.attr("transB", 0) else shape[0]
        return (data, 1, inner, None) if inner <= _LARGEST else None
    if not node.is_op("Conv") or len(shape) not in (3, 4) or node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    rank = len(shape) - 2
    ones, none = (1,) * rank, (0,) * (2 * rank)
    geometry = (
        tuple(shape[2:]),
        tuple(node.attr("strides", ones)),
        tuple(node.attr("dilations", ones)),
        tuple(node.attr("pads", none)),
    )
    inner = int(np.prod(shape[1:]))
    return (data, int(node.attr("group", 1)), inner, geometry) if inner <= _LARGEST else None


def vectors(array: Array, key: tuple[Any, ...]) -> Array:
    """What the layer multiplies, cut from what it reads: [groups, vectors, inner], float32."""
    _, groups, inner, geometry = key
    if not array.size:  # of a branch that was not taken
        return np.zeros((groups, 0, inner), np.float32)
    if geometry is None:
        return array.reshape(1, -1, inner).astype(np.float32)
    kernel, strides, dilations, pads = geometry
    if len(kernel) == 1:  # as a picture of one row
        array = array[..., None, :]
        kernel, strides, dilations, pads = (1, *kernel), (1, *strides), (1, *dilations), (0, pads[0], 0, pads[1])
    array = array.reshape(-1, *array.shape[-3:])  # the turns of a loop, too
    padded = np.pad(array, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    sizes = [
        (padded.shape[2 + axis] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1 for axis in range(2)
    ]
    places = _places(max(0, sizes[0]) * max(0, sizes[1]))
    rows = (places // max(1, sizes[1]) * strides[0])[:, None] + np.arange(kernel[0]) * dilations[0]
    columns = (places % max(1, sizes[1]) * strides[1])[:, None] + np.arange(kernel[1]) * dilations[1]
    cut = padded[:, :, rows[:, :, None], columns[:, None, :]]  # [batch, channels, places, height, width]
    batch, count = cut.shape[0], places.size
    split = cut.reshape(batch, groups, -1, count, *kernel).transpose(1, 0, 3, 2, 4, 5)
    return np.ascontiguousarray(split.reshape(groups, batch * count, inner), np.float32)


def results(array: Array, key: tuple[Any, ...]) -> Array:
    """What the layer gave for the vectors of :func:`vectors`, in their order: [vectors, channels]."""
    if key[3] is None:
        return array.reshape(-1, array.shape[-1])
    flat = array.reshape(*array.shape[:2], -1)
    there = flat[:, :, _places(flat.shape[2])]
    return np.ascontiguousarray(there.transpose(0, 2, 1).reshape(-1, flat.shape[1]))


def _places(total: int) -> Array:
    """At most 64 of ``total`` places, spread evenly."""
    count = min(_POSITIONS, total)
    return (np.arange(count) * total) // max(1, count)
