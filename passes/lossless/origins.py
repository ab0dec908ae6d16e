"""Where a size comes from: two sizes of one origin are equal, whatever number it is at run time."""

from __future__ import annotations

from collections.abc import Iterable

from qcompiler.ir import Dim, Node, Value
from qcompiler.ops import info
from qcompiler.passes.lossless.known import integers, listed

__all__ = ["Origin", "axis_taken", "is_name", "origin", "same_name", "same_size", "size_of"]

Origin = int | tuple[Value, int]
"""A number, or an axis of the value at which it was last changed."""

_STEPS = 512  # upwards; chains of shape-keeping operators longer than this are cut off, which only loses a rewrite
_NOT_NAMES = frozenset({"none", "unk", "unknown", "dynamic", "any", "dim", "undefined", "null", "nan"})
_KEEPS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "BatchNormalization", "InstanceNormalization",
                    "Dropout", "CastLike", "CumSum", "LpNormalization"})  # fmt: skip


def origin(value: Value, axis: int, steps: int = _STEPS) -> Origin:
    """The origin of the size of ``value`` along ``axis``, counted from the front. At most ``steps`` steps upwards."""
    while steps > 0:
        steps -= 1
        size = size_of(value, axis)
        if isinstance(size, int):
            return size
        node = value.producer
        found = _above(node, axis) if node is not None and node.outputs[0] is value else []
        if len(found) > 1 and all(same_name(found[0], other) for other in found[1:]):
            found = [min(found, key=_depth)]
        if len(found) > 1:  # broadcast: equal ones give themselves
            steps //= len(found)
            origins = [origin(*each, steps) for each in found]
            for each in origins:
                if all(same_size(each, other) or _at_most(other, each, steps) for other in origins):
                    return each
        if len(found) != 1:
            break
        value, axis = found[0]
    return value, axis


def _depth(place: tuple[Value, int]) -> int:
    """Grows with the length of the way up: past a residual sum, the input that stands earlier is the shorter one."""
    return place[0].producer.order if place[0].producer is not None else -1


def same_name(a: tuple[Value, int], b: tuple[Value, int]) -> bool:
    """True when the sizes of two values along their axes bear one symbolic name: no need to look further."""
    name = size_of(*a)
    return is_name(name) and name == size_of(*b)


def same_size(a: Origin, b: Origin) -> bool:
    """True when two origins are surely one size: the same axis of the same value, or of the same symbol.

    Two dimensions of one symbolic name are of one size wherever they occur in a graph (ONNX IR, Tensor shape).
    """
    if isinstance(a, int) or isinstance(b, int):
        return a == b
    if a[0] is b[0] and a[1] == b[1]:
        return True
    return same_name(a, b)


def _at_most(sliced: Origin, size: Origin, steps: int) -> bool:
    """True when ``sliced`` is the size of a Slice that begins at the front and ends at ``size`` or earlier.

    Beside a tensor of that size, an elementwise operator takes it only if it is that size or 1: exporters cut a table
    of positions to the length of the sequence, and a sequence longer than the table fails either way.
    """
    node = sliced[0].producer if isinstance(sliced, tuple) else None
    if node is None or not isinstance(sliced, tuple) or not node.is_op("Slice") or node.outputs[0] is not sliced[0]:
        return False
    starts, axes, strides = listed(node, "starts", 1), listed(node, "axes", 3), listed(node, "steps", 4) or (1,)
    source, end = node.inputs[0], node.input(2)
    if source is None or source.shape is None or end is None or starts != (0,) or axes is None or strides != (1,):
        return False
    whole = source.shape[sliced[1]] if axes[0] % len(source.shape) == sliced[1] else None
    taken = axis_taken(end)
    return isinstance(whole, int) and whole > 0 and taken is not None and same_size(origin(*taken, steps), size)


def size_of(value: Value, axis: int) -> Dim:
    """What the type says of the size of ``value`` along ``axis``."""
    return value.shape[axis] if value.shape is not None and axis < len(value.shape) else None


def axis_taken(part: Value, rank: int = 1) -> tuple[Value, int] | None:
    """The value and axis whose size ``part`` holds, a list of one, or a number by itself where ``rank`` is 0."""
    node = part.producer
    if node is None or part.rank != rank:
        return None
    if node.is_op("Squeeze") and rank == 0 and node.inputs[0] is not None:
        return axis_taken(node.inputs[0])
    if node.is_op("Gather"):
        held, maker = integers(node.input(1)), node.inputs[0].producer if node.inputs[0] is not None else None
        if held is None or len(held) != 1 or maker is None or not maker.is_op("Shape") or maker.attrs:
            return None
        return _axis(maker, held[0])
    if not node.is_op("Shape") or node.inputs[0] is None or node.inputs[0].rank is None:
        return None
    axes = range(node.inputs[0].rank)[node.attr("start", 0) : node.attr("end")]
    return _axis(node, axes[0]) if len(axes) == 1 else None


def _axis(shape: Node, axis: int) -> tuple[Value, int] | None:
    source = shape.inputs[0]
    if source is None or source.rank is None or not -source.rank <= axis < source.rank:
        return None
    return source, axis % source.rank


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
    if node.is_op("Unsqueeze", "Squeeze"):
        return _viewed(node, first, axis, rank)
    if node.is_op("Range"):
        return _ranged(node)
    if node.is_op("Attention") and rank == 3:
        return [(first, axis)] if axis < 2 else []
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
        if 0 <= place < len(value.shape) and value.shape[place] != 1:
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


def _viewed(node: Node, first: Value, axis: int, rank: int) -> list[tuple[Value, int]]:
    """The axis of what Unsqueeze or Squeeze takes that became ``axis``."""
    axes = listed(node, "axes", 1)
    if axes is None or first.rank is None:
        return []
    if node.is_op("Unsqueeze"):
        added = {each % rank for each in axes}
        return [] if axis in added else [(first, axis - sum(each < axis for each in added))]
    dropped = {each % first.rank for each in axes}
    kept = [each for each in range(first.rank) if each not in dropped]
    return [(first, kept[axis])] if axis < len(kept) else []


def _ranged(node: Node) -> list[tuple[Value, int]]:
    """Range from 0 to a size in steps of one has that size."""
    start, limit, step = node.inputs
    taken = axis_taken(limit, 0) if limit is not None else None
    return [taken] if taken is not None and integers(start) == (0,) and integers(step) == (1,) else []


def _gather(node: Node, axis: int) -> list[tuple[Value, int]]:
    data, indices = node.inputs[0], node.inputs[1]
    if data is None or indices is None or data.rank is None or indices.rank is None:
        return []
    along = node.attr("axis", 0) % data.rank
    if axis < along:
        return [(data, axis)]
    return [(indices, axis - along)] if axis < along + indices.rank else [(data, axis - indices.rank + 1)]
