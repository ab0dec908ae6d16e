"""Where a size comes from: two sizes of one origin are equal, whatever number it is at run time."""

from __future__ import annotations

from collections.abc import Iterable

from qcompiler.ir import Dim, Node, Value
from qcompiler.ops import info
from qcompiler.passes.lossless.known import listed

__all__ = ["Origin", "is_name", "origin", "same_name", "same_size"]

Origin = int | tuple[Value, int]
"""A number, or an axis of the value at which it was last changed."""

_STEPS = 64  # upwards; chains of shape-keeping operators longer than this are cut off, which only loses a rewrite
_NOT_NAMES = frozenset({"none", "unk", "unknown", "dynamic", "any", "dim", "undefined", "null", "nan"})
_KEEPS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "BatchNormalization", "InstanceNormalization",
                    "Dropout", "CastLike", "CumSum", "LpNormalization"})  # fmt: skip


def origin(value: Value, axis: int, steps: int = _STEPS) -> Origin:
    """The origin of the size of ``value`` along ``axis``, counted from the front. At most ``steps`` steps upwards."""
    while steps > 0:
        steps -= 1
        size = _size(value, axis)
        if isinstance(size, int):
            return size
        node = value.producer
        found = _above(node, axis) if node is not None and node.outputs[0] is value else []
        if len(found) > 1:  # broadcast: equal ones give themselves, others cannot be told
            steps //= len(found)
            origins = [origin(*each, steps) for each in found]
            if all(same_size(origins[0], other) for other in origins[1:]):
                return origins[0]
        if len(found) != 1:
            break
        value, axis = found[0]
    return value, axis


def same_name(a: tuple[Value, int], b: tuple[Value, int]) -> bool:
    """True when the sizes of two values along their axes bear one symbolic name: no need to look further."""
    name = _size(*a)
    return is_name(name) and name == _size(*b)


def same_size(a: Origin, b: Origin) -> bool:
    """True when two origins are surely one size: the same axis of the same value, or of the same symbol.

    Two dimensions of one symbolic name are of one size wherever they occur in a graph (ONNX IR, Tensor shape).
    """
    if isinstance(a, int) or isinstance(b, int):
        return a == b
    if a[0] is b[0] and a[1] == b[1]:
        return True
    return same_name(a, b)


def _size(value: Value, axis: int) -> Dim:
    return value.shape[axis] if value.shape is not None and axis < len(value.shape) else None


def is_name(size: object) -> bool:
    """True for a symbol that somebody chose to name a size, and not for what exporters write for an unknown one."""
    return isinstance(size, str) and size.isidentifier() and size.lower() not in _NOT_NAMES


def _above(node: Node, axis: int) -> list[tuple[Value, int]]:
    """The inputs of ``node``, with their axes, that decide the size of the first output along ``axis``."""
    first, rank = node.input(0), node.outputs[0].rank
    if first is None or rank is None or node.domain not in ("", "com.microsoft"):
        return []
    if node.op_type in _KEEPS or (node.domain and node.op_type in ("Gelu", "FastGelu", "QuickGelu")):
        return [(first, axis)]
    known = info(node)
    if known is not None and known.elementwise:
        return _broadcast(node.inputs, axis - rank)
    if node.is_op("Transpose"):
        perm = node.attr("perm", tuple(reversed(range(rank))))
        return [(first, perm[axis])]
    if node.is_op("MatMul"):
        return _product(node, axis - rank)
    if node.is_op("Reshape"):
        wanted = listed(node, "shape", 1)
        copies = wanted is not None and wanted[axis] == 0 and not node.attr("allowzero", 0)
        return [(first, axis)] if copies else []
    if node.is_op("Gather"):
        return _gather(node, axis)
    if node.is_op("Concat"):
        return [(first, axis)] if node.attr("axis", 0) % rank != axis else []
    return []


def _broadcast(inputs: Iterable[Value | None], back: int) -> list[tuple[Value, int]]:
    """The inputs whose size along the axis ``back``, counted from the end, is not 1, if they have it at all."""
    found: list[tuple[Value, int]] = []
    for value in inputs:
        if value is None:
            continue
        if value.shape is None:
            return []
        place = back + len(value.shape)
        if place >= 0 and value.shape[place] != 1:
            found.append((value, place))
    return found


def _product(node: Node, back: int) -> list[tuple[Value, int]]:
    """Rows are the first factor's, columns the second's, and the axes before them are broadcast."""
    first, second = node.inputs
    if first is None or second is None or min(first.rank or 0, second.rank or 0) < 2:
        return []
    if back == -2:
        return [(first, (first.rank or 0) - 2)]
    return [(second, (second.rank or 0) - 1)] if back == -1 else _broadcast(node.inputs, back)


def _gather(node: Node, axis: int) -> list[tuple[Value, int]]:
    data, indices = node.inputs[0], node.inputs[1]
    if data is None or indices is None or data.rank is None or indices.rank is None:
        return []
    along = node.attr("axis", 0) % data.rank
    if axis < along:
        return [(data, axis)]
    return [(indices, axis - along)] if axis < along + indices.rank else [(data, axis - indices.rank + 1)]
