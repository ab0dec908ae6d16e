"""Taking units out: constants are cut, operators told their new sizes, and nothing else of the graph changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from qcompiler.ir import Graph, Model, Node, TensorType, Value, as_attr, tensor
from qcompiler.ops import links
from qcompiler.ops.channels import integers_of, shape_numbers, slice_bounds
from qcompiler.passes.prune.groups import ChannelGroup, Place
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["masked", "removed_indices", "shrink"]

Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Removed: TypeAlias = Mapping[Place, Indices]


def removed_indices(chosen: Mapping[ChannelGroup, Iterable[int]]) -> dict[Place, Indices]:
    """What goes in each place when units of groups, by number, go."""
    found: dict[Place, list[Indices]] = {}
    for group, units in chosen.items():
        for unit in units:
            for place, indices in zip(group.places, group.units[unit], strict=True):
                found.setdefault(place, []).append(indices)
    return {place: np.unique(np.concatenate(parts)) for place, parts in found.items()}


def shrink(model: Model, removed: Removed) -> None:
    """Take ``removed`` out of ``model``. Shapes of inner values are set anew; inputs and outputs stay as they are."""
    graph = model.graph
    nodes: dict[Node, None] = {}
    for value, _ in removed:
        if value.producer is not None:
            nodes[value.producer] = None
        nodes.update(dict.fromkeys(value.users()))
    for node in nodes:
        if (tell := _TOLD.get(node.op_type)) is not None and not node.domain:
            tell(graph, node, removed)
    by_value: dict[Value, list[tuple[int, Indices]]] = {}
    for (value, axis), indices in removed.items():
        by_value.setdefault(value, []).append((axis, indices))
    for value, cuts in by_value.items():
        if value.constant is not None:
            array = value.constant.numpy()
            for axis, indices in cuts:
                array = np.delete(array, indices, axis)
            made = graph.add_constant(tensor(np.ascontiguousarray(array), value.constant.dtype), value.name)
            value.replace_uses(made)
            graph.remove_constant(value)
        elif isinstance(value.type, TensorType) and value.shape is not None:
            shape = list(value.shape)
            for axis, indices in cuts:
                size = shape[axis]
                assert isinstance(size, int)
                shape[axis] = size - indices.size
            value.type = replace(value.type, shape=tuple(shape))
            if value.producer is not None:
                value.producer.touch()


def _kept(node: Node, place: int, axis: int, removed: Removed) -> Indices | None:
    """The indices of an axis that stay; None when all do."""
    value = node.input(place) if place >= 0 else node.outputs[-place - 1]
    if value is None or (value, axis) not in removed or value.shape is None:
        return None
    size = value.shape[axis]
    assert isinstance(size, int)
    return np.setdiff1d(np.arange(size), removed[value, axis])


def _integers(graph: Graph, node: Node, place: int, numbers: Iterable[int]) -> None:
    """Give ``node`` other numbers at ``place``, as a constant of its own: others may read the one that stood there."""
    old = node.input(place)
    name = old.name if old is not None else f"{node.name}_numbers"
    kind = old.dtype.numpy if old is not None and old.dtype is not None else np.int64
    made = graph.add_constant(tensor(np.array(list(numbers), kind)), name)
    if place >= len(node.inputs):
        node.resize_inputs((*node.inputs, *[None] * (place + 1 - len(node.inputs))))
    node.set_input(place, made)
    if old is not None:
        drop_constant_if_unused(old)


def _set(node: Node, name: str, number: int) -> None:
    node.attrs[name] = as_attr(number)
    node.touch()


def _tell_conv(graph: Graph, node: Node, removed: Removed) -> None:
    weight = node.input(1)
    assert weight is not None
    groups = int(node.attr("group", 1))
    if groups > 1 and node.is_op("Conv") and weight.shape is not None and weight.shape[1] == 1:
        kept = _kept(node, 0, 1, removed)
        if kept is not None:
            _set(node, "group", kept.size)


def _tell_split(graph: Graph, node: Node, removed: Removed) -> None:
    value = node.input(0)
    assert value is not None
    axis = int(node.attr("axis", 0)) % (value.rank or 1)
    if (value, axis) not in removed:
        return
    sizes = []
    for number, output in enumerate(node.outputs, 1):
        kept = _kept(node, -number, axis, removed)
        whole = output.shape[axis] if output.shape is not None else 0
        sizes.append(kept.size if kept is not None else int(whole))  # type: ignore[arg-type]
    node.attrs.pop("num_outputs", None)
    if "split" in node.attrs:
        node.attrs["split"] = as_attr(sizes)
    else:
        _integers(graph, node, 1, sizes)
    node.touch()


def _tell_slice(graph: Graph, node: Node, removed: Removed) -> None:
    starts, ends, axes = (integers_of(node.input(place)) for place in (1, 2, 3))
    value, bounds = node.input(0), slice_bounds(node)
    if starts is None or ends is None or bounds is None or value is None:
        return
    changed = False
    for position, axis in enumerate(axes if axes is not None else range(len(starts))):
        axis %= value.rank or 1
        kept = _kept(node, 0, axis, removed)
        if kept is not None and axis in bounds:
            start, end, _ = bounds[axis]
            starts[position], ends[position] = int(np.searchsorted(kept, start)), int(np.searchsorted(kept, end))
            changed = True
    if changed:
        _integers(graph, node, 1, starts)
        _integers(graph, node, 2, ends)


def _tell_gather(graph: Graph, node: Node, removed: Removed) -> None:
    value, index = node.input(0), node.input(1)
    assert value is not None and index is not None
    axis = int(node.attr("axis", 0)) % (value.rank or 1)
    kept = _kept(node, 0, axis, removed)
    if kept is None or index.constant is None or value.shape is None:
        return
    size = value.shape[axis]
    assert isinstance(size, int)
    wanted = np.asarray(index.constant.numpy(), np.int64) % size
    _integers(graph, node, 1, np.searchsorted(kept, wanted[np.isin(wanted, kept)]))


def _tell_reshape(graph: Graph, node: Node, removed: Removed) -> None:
    if node.is_op("Flatten"):
        return
    out, shape, numbers = node.output, node.input(1), shape_numbers(node)
    if out.shape is None or shape is None or numbers is None:
        return
    new = list(numbers)
    for axis in range(len(out.shape)):
        kept = _kept(node, -1, axis, removed)
        if kept is not None and (numbers[axis] or 0) > 0:
            new[axis] = kept.size
    if new == numbers:
        return
    if shape.constant is not None:
        _integers(graph, node, 1, [number for number in new if number is not None])
        return
    joint = shape.producer
    assert joint is not None
    own = Node("Concat", joint.inputs, {"axis": 0}, name=f"{node.name}/shape")
    own.output.type, own.output.name = shape.type, f"{out.name}_shape"
    graph.insert_before(node, own)
    start = 0
    for place, part in enumerate(joint.inputs):
        old = integers_of(part)
        count = len(old) if old is not None else int(part.shape[0])  # type: ignore[union-attr, index, arg-type]
        if old is not None and old != new[start : start + count]:
            _integers(graph, own, place, [number for number in new[start : start + count] if number is not None])
        start += count
    node.set_input(1, own.output)


def _tell_resize(graph: Graph, node: Node, removed: Removed) -> None:
    kept, sizes = _kept(node, -1, 1, removed), node.input(3)
    if kept is None or sizes is None:
        return
    numbers = integers_of(sizes)
    if numbers:
        numbers[1] = kept.size
        _integers(graph, node, 3, numbers)


def _tell_attention(graph: Graph, node: Node, removed: Removed) -> None:
    kept, value = _kept(node, 0, 2, removed), node.input(0)
    if kept is None or value is None or value.shape is None:
        return
    heads = int(node.attr("q_num_heads"))
    each = int(value.shape[2]) // heads  # type: ignore[arg-type]
    if "scale" not in node.attrs:
        node.attrs["scale"] = as_attr(float(each) ** -0.5)
    for name in ("q_num_heads", "kv_num_heads"):
        _set(node, name, kept.size // each)


def _tell_recurrent(graph: Graph, node: Node, removed: Removed) -> None:
    kept = _kept(node, 2, 2, removed)
    if kept is not None:
        _set(node, "hidden_size", kept.size)


_TOLD: dict[str, Callable[[Graph, Node, Removed], None]] = {
    "Attention": _tell_attention,
    "Conv": _tell_conv,
    "GRU": _tell_recurrent,
    "Gather": _tell_gather,
    "LSTM": _tell_recurrent,
    "RNN": _tell_recurrent,
    "Reshape": _tell_reshape,
    "Resize": _tell_resize,
    "Slice": _tell_slice,
    "Split": _tell_split,
}


def masked(model: Model, removed: Removed) -> None:
    """Force to zero, in ``model`` itself, what :func:`shrink` would take out: wherever channels are summed up.

    The values that enter a product (or a sum) over channels are multiplied by 0 there and 1 elsewhere; so is the matrix
    by which a recurrent operator multiplies its own state. It is what a pruned model has to be equal to.
    """
    for node in list(model.graph):
        known = links(node)
        for place, axis in sorted(known.summed):
            value = node.input(place)
            if value is None or (value, axis) not in removed or value.rank is None:
                continue
            size = value.shape[axis] if value.shape is not None else 0
            assert isinstance(size, int)
            mask = np.ones(size, np.float32)
            mask[removed[value, axis]] = 0
            shape = [1] * value.rank
            shape[axis] = -1
            if value.constant is not None:
                array = value.constant.numpy()
                made = model.graph.add_constant(tensor(array * mask.reshape(shape).astype(array.dtype)), value.name)
            else:
                ones = mask.reshape(shape).astype(value.dtype.numpy if value.dtype else np.float32)
                constant = model.graph.add_constant(tensor(ones), "mask")
                product = Node("Mul", [value, constant])
                model.graph.insert_before(node, product)
                made, made.type = product.output, value.type
            node.set_input(place, made)
