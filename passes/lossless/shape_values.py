"""Sizes that shapes tell: Shape and Size of a tensor, and parts of a shape, as far as they are numbers."""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np

from qcompiler.ir import Dim, Node, Tensor, Value, tensor
from qcompiler.passes.lossless.known import computed, integers, listed

__all__ = ["Shapes", "sizes_told"]

Shapes = MutableMapping[Value, tuple[Dim, ...]]
"""Values that hold sizes, with those that are known as numbers."""


def sizes_told(node: Node, shapes: Shapes) -> Tensor | None:
    """The int64 tensor that ``node`` gives, if types tell it; what is known of a part of it is noted in ``shapes``.

    Shape and Size (ONNX, Shape-15 with start and end), and Gather and Slice of a shape noted before: with a dynamic
    batch the other sizes are numbers all the same.
    """
    source = node.input(0)
    if source is None or any(attr.ref for attr in node.attrs.values()):
        return None
    if node.is_op("Shape") and source.shape is not None:
        return _note(node, source.shape[node.attr("start", 0) : node.attr("end")], shapes)
    if node.is_op("Size") and source.shape is not None:
        sizes = [dim for dim in source.shape if isinstance(dim, int)]
        if len(sizes) == len(source.shape) or 0 in sizes:
            return tensor(np.array(np.prod(sizes, dtype=np.int64)))
    if node.is_op("Gather") and source in shapes:
        return _gathered(node, shapes[source])
    if node.is_op("Slice") and source in shapes:
        return _sliced(node, shapes[source], shapes)
    return None


def _gathered(node: Node, sizes: tuple[Dim, ...]) -> Tensor | None:
    indices, where = integers(node.input(1)), node.inputs[1]
    if indices is None or where is None or where.const is None or len(where.const.shape) > 1:
        return None
    if any(not -len(sizes) <= index < len(sizes) for index in indices):
        return None
    taken = [sizes[index] for index in indices]
    if not all(isinstance(dim, int) for dim in taken):
        return None
    return tensor(np.array(taken, np.int64).reshape(where.const.shape))


def _sliced(node: Node, sizes: tuple[Dim, ...], shapes: Shapes) -> Tensor | None:
    if computed(node, 1, 2, 3, 4):
        return None
    starts, ends, steps = listed(node, "starts", 1), listed(node, "ends", 2), listed(node, "steps", 4) or (1,)
    if starts is None or ends is None or len(starts) != 1 or steps != (1,):
        return None
    return _note(node, sizes[starts[0] : ends[0]], shapes)


def _note(node: Node, sizes: tuple[Dim, ...], shapes: Shapes) -> Tensor | None:
    shapes[node.output] = sizes
    return tensor(np.array(sizes, np.int64)) if all(isinstance(dim, int) for dim in sizes) else None
