"""How channels run through operators: which index of an axis of an input lives and dies with which of an output.

A place is an input (0, 1, ...) or an output (-1, -2, ...) of a node; its axes are linked to those of other places. An
axis of a place that no link names is a barrier: nobody may take anything out of it. Constants are values like others:
the output channels of a weight are linked to those of the result, its input channels to those of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.ops.reshaping import reshape_links

__all__ = ["Link", "Links", "integers_of", "links", "shape_numbers", "slice_bounds"]

Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, eq=False)
class Link:
    """Element ``left_index[i]`` of one axis and ``right_index[i]`` of another live and die together."""

    left: int
    left_axis: int
    right: int
    right_axis: int
    left_index: Indices
    right_index: Indices


@dataclass
class Links:
    """All that is known of one node. ``free`` axes may lose anything; ``summed`` ones, linked or free, are those over
    which products or elements are added up, so that taking an index out is the same as making it zero. ``blocked`` ones
    meet an axis of another size, or of one that is not fixed, and are barriers whatever else is said of them."""

    node: Node
    found: list[Link] = field(default_factory=list)
    free: set[tuple[int, int]] = field(default_factory=set)
    summed: set[tuple[int, int]] = field(default_factory=set)
    blocked: set[tuple[int, int]] = field(default_factory=set)

    def value(self, place: int) -> Value | None:
        """The value at ``place``; None where nothing is given, or given to nobody and of no type."""
        if place >= 0:
            return self.node.input(place)
        value = self.node.outputs[-place - 1] if -place <= len(self.node.outputs) else None
        return value if value is not None and (value.uses or value.type is not None) else None

    def size(self, place: int, axis: int) -> int | None:
        """Fixed size of an axis; None where there is none."""
        value = self.value(place)
        shape = value.shape if value is not None else None
        if shape is None or not 0 <= axis < len(shape):
            return None
        size = shape[axis]
        return size if isinstance(size, int) else None

    def tie(self, left: int, left_axis: int, right: int, right_axis: int) -> None:
        """All of one axis with all of another, if both are of one fixed size; a 1 that is repeated is no matter."""
        if self.value(left) is None or self.value(right) is None:
            return
        size, other = self.size(left, left_axis), self.size(right, right_axis)
        if size is not None and size == other:
            every = np.arange(size)
            self.found.append(Link(left, left_axis, right, right_axis, every, every))
        elif size != other and 1 not in (size, other):
            self.blocked |= {(left, left_axis), (right, right_axis)}

    def tie_some(
        self, left: int, left_axis: int, right: int, right_axis: int, left_index: Any, right_index: Any
    ) -> None:
        """Some of one axis with some of another."""
        a, b = np.asarray(left_index, np.int64).reshape(-1), np.asarray(right_index, np.int64).reshape(-1)
        self.found.append(Link(left, left_axis, right, right_axis, a, b))

    def covered(self) -> set[tuple[int, int]]:
        """The (place, axis) that are no barriers."""
        ends = {end for link in self.found
                for end in ((link.left, link.left_axis), (link.right, link.right_axis))}  # fmt: skip
        return (ends | self.free) - self.blocked


def links(node: Node) -> Links:
    """The links of ``node``; none for an operator that is not in the table, or whose shapes are not known."""
    made = Links(node)
    handler = _HANDLERS.get(node.op_type) if not node.domain else _OWN.get(f"{node.domain}:{node.op_type}")
    if handler is not None and all(value is None or value.shape is not None for value in node.inputs[:2]):
        handler(made)
    return made


# Products


def _conv(made: Links) -> None:
    node = made.node
    groups = int(node.attr("group", 1))
    given, taken, weights = made.size(1, 0), made.size(1, 1), made.size(0, 1)
    if given is None or taken is None or weights is None:
        return
    made.tie(-1, 1, 1, 0)
    made.tie(1, 0, 2, 0)
    made.summed.add((0, 1))
    if groups == 1:
        made.tie(0, 1, 1, 1)
    elif taken == 1:  # depthwise: a channel is a group, and goes with all that it gives
        each = given // groups
        made.tie_some(0, 1, 1, 0, np.repeat(np.arange(groups), each), np.arange(given))
        made.free.add((1, 1))
    else:  # groups stay, and lose the same places each
        made.tie_some(0, 1, 1, 1, np.arange(weights), np.arange(weights) % taken)
        each = given // groups
        made.tie_some(1, 0, 1, 0, np.arange(given), np.arange(given) % each)


def _conv_transpose(made: Links) -> None:
    groups = int(made.node.attr("group", 1))
    taken, each = made.size(1, 0), made.size(1, 1)
    if taken is None or each is None:
        return
    made.summed.add((0, 1))
    given = each * groups
    made.tie(0, 1, 1, 0)
    made.tie_some(-1, 1, 1, 1, np.arange(given), np.arange(given) % each)
    made.tie(-1, 1, 2, 0)
    if groups > 1:
        part = taken // groups
        made.tie_some(1, 0, 1, 0, np.arange(taken), np.arange(taken) % part)


def _matmul(made: Links) -> None:
    left, right, out = (made.value(place) for place in (0, 1, -1))
    assert left is not None and right is not None and out is not None
    if left.rank is None or right.rank is None or out.rank is None or left.rank < 2 or right.rank < 2:
        return
    made.tie(0, left.rank - 1, 1, right.rank - 2)
    made.summed |= {(0, left.rank - 1), (1, right.rank - 2)}
    made.tie(-1, out.rank - 2, 0, left.rank - 2)
    made.tie(-1, out.rank - 1, 1, right.rank - 1)
    for back in range(3, out.rank + 1):
        for place, rank in ((0, left.rank), (1, right.rank)):
            if rank >= back:
                made.tie(-1, out.rank - back, place, rank - back)


def _gemm(made: Links) -> None:
    flipped, turned = made.node.attr("transA", 0), made.node.attr("transB", 0)
    made.tie(0, 0 if flipped else 1, 1, 1 if turned else 0)
    made.summed |= {(0, 0 if flipped else 1), (1, 1 if turned else 0)}
    made.tie(-1, 0, 0, 1 if flipped else 0)
    made.tie(-1, 1, 1, 0 if turned else 1)
    bias = made.value(2)
    if bias is not None and bias.rank is not None:
        for back in range(1, bias.rank + 1):
            made.tie(-1, 2 - back, 2, bias.rank - back)


def _attention(made: Links) -> None:
    """Operator set 23 with as many heads of keys as of queries, [batch, sequence, heads * size]: heads go whole."""
    node = made.node
    heads = node.attr("q_num_heads", 0)
    ranks = [value.rank if (value := node.input(place)) is not None else None for place in range(3)]
    if not heads or heads != node.attr("kv_num_heads", 0) or ranks != [3, 3, 3] or len(node.outputs) > 1:
        return
    if any(node.input(place) is not None for place in range(4, len(node.inputs))):
        return
    first, mask = made.size(0, 2), made.value(3)
    if first is None or (mask is not None and (mask.rank is None or (mask.rank > 2 and mask.shape[-3] != 1))):  # type: ignore[index]
        return
    head = np.arange(first) // (first // heads) * (first // heads)
    made.tie_some(0, 2, 0, 2, np.arange(first), head)
    for place in (1, 2, -1):
        size = made.size(place, 2)
        if size is None:
            return
        each = size // heads
        made.tie_some(place, 2, 0, 2, np.arange(size), np.arange(size) // each * (first // heads))


def _recurrent(made: Links) -> None:
    """LSTM, GRU, RNN: a unit goes with its rows in all gates, and with its column."""
    node = made.node
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[node.op_type]
    if node.attr("layout", 0):
        return
    hidden = made.size(2, 2)
    if hidden is None:
        return
    unit = np.arange(hidden)
    made.tie(0, 2, 1, 2)
    made.summed |= {(0, 2), (2, 2)}

    def stacked(place: int, axis: int, count: int) -> None:
        if made.value(place) is not None:
            made.tie_some(place, axis, 2, 2, np.arange(count * hidden), np.tile(unit, count))

    stacked(1, 1, gates)
    stacked(2, 1, gates)
    stacked(3, 1, 2 * gates)
    stacked(5, 2, 1)
    if node.op_type == "LSTM":
        stacked(6, 2, 1)
        stacked(7, 1, 3)
    stacked(-1, 3, 1)
    for place in (-2, -3):
        stacked(place, 2, 1)


# One element for one element


def _elementwise(made: Links) -> None:
    out = made.value(-1)
    assert out is not None
    if out.shape is None:
        return
    for other in range(2, len(made.node.outputs) + 1):  # a Dropout's mask
        for axis in range(len(out.shape)):
            made.tie(-other, axis, -1, axis)
    for place, value in enumerate(made.node.inputs):
        if value is None or value.shape is None:
            continue
        for axis, size in enumerate(value.shape):
            mine = axis + len(out.shape) - len(value.shape)
            if size == 1 and out.shape[mine] != 1:
                made.free.add((place, axis))
            elif mine >= 0:
                made.tie(place, axis, -1, mine)


def _with_bias(made: Links) -> None:
    """All axes of the first input are the output's; a second one is added along the last."""
    value = made.value(0)
    assert value is not None
    for axis in range(value.rank or 0):
        made.tie(0, axis, -1, axis)
    made.tie(1, 0, -1, (value.rank or 1) - 1)


def _pooling(made: Links) -> None:
    if len(made.node.outputs) > 1 and made.node.outputs[1].uses:
        return  # places of the maxima, counted through all channels
    for place in range(-len(made.node.outputs), 0):
        made.tie(0, 0, place, 0)
        made.tie(0, 1, place, 1)


def _normalized_by_channel(made: Links) -> None:
    """BatchNormalization and InstanceNormalization: every channel by itself, with constants of its own."""
    if made.node.attr("training_mode", 0):
        return
    made.tie(0, 0, -1, 0)
    made.tie(0, 1, -1, 1)
    for place in range(1, len(made.node.inputs)):
        made.tie(place, 0, -1, 1)
    if made.node.is_op("BatchNormalization"):
        for axis in range(2, (made.value(0) or made.node.output).rank or 0):
            made.tie(0, axis, -1, axis)


def _normalized_behind(default: int) -> Callable[[Links], None]:
    """Axes from ``axis`` on are normalized together, and a barrier; those in front of it pass."""

    def run(made: Links) -> None:
        value = made.value(0)
        assert value is not None
        rank = value.rank or 0
        axis = int(made.node.attr("axis", default)) % max(1, rank)
        for each in range(axis):
            for place in range(-len(made.node.outputs), 0):
                made.tie(0, each, place, each)

    return run


def _softmax(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    rank = value.rank or 0
    for axis in range(rank):
        if axis != int(made.node.attr("axis", -1)) % max(1, rank):
            made.tie(0, axis, -1, axis)


def _lrn(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    for axis in (0, *range(2, value.rank or 0)):
        made.tie(0, axis, -1, axis)


def _reduced(made: Links) -> None:
    value, out = made.value(0), made.value(-1)
    assert value is not None and out is not None
    axes = _axes(made.node, value.rank or 0)
    if axes is None:
        return
    sums = made.node.is_op("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    place = 0
    for axis in range(value.rank or 0):
        if axis in axes:
            if sums:
                made.free.add((0, axis))
                made.summed.add((0, axis))
            place += int(made.node.attr("keepdims", 1))
        else:
            made.tie(0, axis, -1, place)
            place += 1


# Moving elements


def _transpose(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    order = made.node.attr("perm", tuple(reversed(range(value.rank or 0))))
    for to, axis in enumerate(order):
        made.tie(0, axis, -1, to)


def _reshape(made: Links) -> None:
    value, out = made.value(0), made.value(-1)
    assert value is not None and out is not None
    if value.shape is None or out.shape is None:
        return
    told = shape_numbers(made.node) if made.node.is_op("Reshape") else [0] * len(out.shape)
    for axis, to, index, to_index in reshape_links(value.shape, out.shape):
        if told is None or to >= len(told) or told[to] is None:
            continue  # what computes the size at run time would not know of the new one
        made.tie_some(0, axis, -1, to, index, to_index)


def shape_numbers(node: Node) -> list[int | None] | None:
    """What the shape of a Reshape says: constants, as one or joined by Concat; None for each number that is computed,
    and for all where not even their count is known."""
    shape = node.input(1)
    if shape is None:
        return None
    if shape.constant is not None:
        return list(integers_of(shape) or ())
    if shape.producer is None or not shape.producer.is_op("Concat"):
        return None
    found: list[int | None] = []
    for part in shape.producer.inputs:
        count = part.shape[0] if part is not None and part.shape is not None and len(part.shape) == 1 else None
        if not isinstance(count, int):
            return None
        numbers = integers_of(part)
        found += numbers if numbers is not None else [None] * count
    return found


def _concat(made: Links) -> None:
    out = made.value(-1)
    assert out is not None
    rank = out.rank or 0
    axis = int(made.node.attr("axis", 0)) % max(1, rank)
    start: int | None = 0
    for place in range(len(made.node.inputs)):
        for each in range(rank):
            if each != axis:
                made.tie(place, each, -1, each)
        size = made.size(place, axis)
        if start is not None and size is not None:
            made.tie_some(place, axis, -1, axis, np.arange(size), start + np.arange(size))
        start = None if start is None or size is None else start + size


def _split(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    rank = value.rank or 0
    axis = int(made.node.attr("axis", 0)) % max(1, rank)
    start = 0
    for number in range(1, len(made.node.outputs) + 1):
        for each in range(rank):
            if each != axis:
                made.tie(0, each, -number, each)
        size = made.size(-number, axis)
        if size is None or made.size(0, axis) is None:
            return
        made.tie_some(0, axis, -number, axis, start + np.arange(size), np.arange(size))
        start += size


def slice_bounds(node: Node) -> dict[int, tuple[int, int, int]] | None:
    """Start, end and step by axis, with fixed sizes cut; None where they are computed at run time."""
    value = node.input(0)
    if value is None or value.shape is None:
        return None
    given = [integers_of(node.input(place)) for place in range(1, 5)]
    starts, ends = given[0], given[1]
    if starts is None or ends is None:
        return None
    if any(node.input(place) is not None and given[place - 1] is None for place in (3, 4)):
        return None
    axes = given[2] if given[2] is not None else list(range(len(starts)))
    steps = given[3] if given[3] is not None else [1] * len(starts)
    found = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = value.shape[axis % len(value.shape)]
        if not isinstance(size, int):
            continue
        found[axis % len(value.shape)] = (*slice(start, end, step).indices(size)[:2], step)
    return found


def _slice(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    bounds, axes = slice_bounds(made.node), integers_of(made.node.input(3))
    if bounds is None:
        return
    cut = range(value.rank or 0) if made.node.input(3) is None else [axis % (value.rank or 1) for axis in axes or ()]
    for axis in range(value.rank or 0):
        if axis in bounds:
            start, end, step = bounds[axis]
            if step == 1:
                made.tie_some(0, axis, -1, axis, np.arange(start, end), np.arange(max(0, end - start)))
                made.free.add((0, axis))  # what is cut away
        elif axis not in cut:
            made.tie(0, axis, -1, axis)


def _gather(made: Links) -> None:
    value, index = made.value(0), made.value(1)
    assert value is not None and index is not None
    rank = value.rank or 0
    axis = int(made.node.attr("axis", 0)) % max(1, rank)
    many = index.rank
    if many is None:
        return
    for each in range(rank):
        if each != axis:
            made.tie(0, each, -1, each if each < axis else each + many - 1)
    numbers, size = integers_of(index), made.size(0, axis)
    if numbers is not None and size is not None and many == 1:
        made.tie_some(0, axis, -1, axis, [number % size for number in numbers], np.arange(len(numbers)))
        made.free.add((0, axis))


def _squeeze(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    axes = _axes(made.node, value.rank or 0)
    if axes is None or (made.node.input(1) is None and "axes" not in made.node.attrs):
        return  # without axes it takes whatever has become 1
    for to, axis in enumerate(axis for axis in range(value.rank or 0) if axis not in axes):
        made.tie(0, axis, -1, to)


def _unsqueeze(made: Links) -> None:
    out = made.value(-1)
    assert out is not None
    axes = _axes(made.node, out.rank or 0)
    if axes is None:
        return
    for axis, to in enumerate(to for to in range(out.rank or 0) if to not in axes):
        made.tie(0, axis, -1, to)


def _pad(made: Links) -> None:
    value = made.value(0)
    assert value is not None
    pads = integers_of(made.node.input(1))
    axes = integers_of(made.node.input(3)) if made.node.input(3) is not None else list(range(value.rank or 0))
    if pads is None or axes is None:
        return
    padded = {axis % (value.rank or 1) for axis, a, b in zip(axes, pads, pads[len(axes) :], strict=False) if a or b}
    for axis in range(value.rank or 0):
        if axis not in padded:
            made.tie(0, axis, -1, axis)


def _resize(made: Links) -> None:
    if made.node.attr("axes", None) is not None or made.node.attr("coordinate_transformation_mode", "") == (
        "tf_crop_and_resize"
    ):
        return
    made.tie(0, 0, -1, 0)
    sizes = made.node.input(3)
    if sizes is None or sizes.constant is not None:
        made.tie(0, 1, -1, 1)


def _depth_to_space(made: Links) -> None:
    size, given = int(made.node.attr("blocksize", 1)) ** 2, made.size(-1, 1)
    made.tie(0, 0, -1, 0)
    if given is None or made.size(0, 1) is None:
        return
    channel = np.arange(given * size)
    columns = made.node.attr("mode", "DCR") == "CRD"
    made.tie_some(0, 1, -1, 1, channel, channel // size if columns else channel % given)


def _space_to_depth(made: Links) -> None:
    taken, given = made.size(0, 1), made.size(-1, 1)
    made.tie(0, 0, -1, 0)
    if taken is not None and given is not None:
        made.tie_some(0, 1, -1, 1, np.arange(given) % taken, np.arange(given))


def _shape(made: Links) -> None:
    """Sizes of other axes may be asked for."""
    value = made.value(0)
    assert value is not None
    rank = value.rank or 0
    asked = set(range(rank)[slice(made.node.attr("start", 0), made.node.attr("end", None))])
    users = made.node.output.users()
    picked = [integers_of(user.input(1)) if user.is_op("Gather") else None for user in users]
    if users and not made.node.output.is_output and all(numbers is not None for numbers in picked):
        order = sorted(asked)
        asked = {order[number] for numbers in picked for number in numbers or () if -len(order) <= number < len(order)}
    made.free |= {(0, axis) for axis in range(rank) if axis not in asked}


def _axes(node: Node, rank: int) -> list[int] | None:
    """Axes as an attribute or the second input; all of them where none are given; None where they are not known."""
    axes: Sequence[int] | None = node.attr("axes", None)
    if axes is None and node.input(1) is not None:
        axes = integers_of(node.input(1))
        if axes is None:
            return None
    if axes is None:
        return [] if node.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [axis % max(1, rank) for axis in axes]


def integers_of(value: Value | None) -> list[int] | None:
    """The elements of a constant, in a row; None for what is not constant."""
    if value is None or value.constant is None:
        return None
    return [int(number) for number in value.constant.numpy().reshape(-1)]


def _all(handler: Callable[[Links], None], names: str) -> Iterable[tuple[str, Callable[[Links], None]]]:
    return ((name, handler) for name in names.split())


_HANDLERS: dict[str, Callable[[Links], None]] = dict(
    [
        *_all(
            _elementwise,
            "Abs Acos Add Asin Atan Cast Ceil Celu Clip Cos Div Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
            "Identity LeakyRelu Log Max Mean Min Mish Mul Neg PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign "
            "Sin Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where",
        ),
        *_all(_pooling, "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool"),
        *_all(_normalized_by_channel, "BatchNormalization InstanceNormalization"),
        *_all(_normalized_behind(-1), "LayerNormalization RMSNormalization"),
        *_all(_softmax, "Softmax LogSoftmax Hardmax"),
        *_all(
            _reduced,
            "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
            "ReduceSumSquare",
        ),
        *_all(_recurrent, "LSTM GRU RNN"),
        *_all(_resize, "Resize Upsample"),
        *_all(_reshape, "Reshape Flatten"),
        ("Attention", _attention),
        ("Concat", _concat),
        ("Conv", _conv),
        ("ConvTranspose", _conv_transpose),
        ("DepthToSpace", _depth_to_space),
        ("Gather", _gather),
        ("Gemm", _gemm),
        ("LRN", _lrn),
        ("MatMul", _matmul),
        ("Pad", _pad),
        ("Shape", _shape),
        ("Slice", _slice),
        ("SpaceToDepth", _space_to_depth),
        ("Split", _split),
        ("Squeeze", _squeeze),
        ("Transpose", _transpose),
        ("Unsqueeze", _unsqueeze),
    ]
)

_OWN = {f"com.microsoft:{name}": _with_bias for name in ("Gelu", "FastGelu", "QuickGelu")}
