"""Taking units out: constants are cut, operators told their new sizes, and nothing else of the graph changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from qcompiler.ir import Graph, Model, Node, TensorType, Value, as_attr, tensor
from qcompiler.ops.channels import slice_bounds
from qcompiler.passes.prune.groups import ChannelGroup, Place

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
    made = graph.add_constant(tensor(np.array(list(numbers), np.int64)), name)
    if place >= len(node.inputs):
        node.resize_inputs((*node.inputs, *[None] * (place + 1 - len(node.inputs))))
    node.set_input(place, made)
    if old is not None and old.const is not None and not old.uses and old.graph is graph and not old.is_input:
        graph.remove_constant(old)


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
    bounds = slice_bounds(node)
    if bounds is None:
        return
    changed = False
    for axis, (start, end, _) in list(bounds.items()):
        kept = _kept(node, 0, axis, removed)
        if kept is not None:
            first = int(np.searchsorted(kept, start))
            bounds[axis] = (first, int(np.searchsorted(kept, end)), 1)
            changed = True
    if changed:
        for place, column in ((1, 0), (2, 1), (4, 2)):
            _integers(graph, node, place, [found[column] for found in bounds.values()])
        _integers(graph, node, 3, bounds)


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
    value, out, shape = node.input(0), node.output, node.input(1)
    assert value is not None and shape is not None
    if out.shape is None or not any((out, axis) in removed for axis in range(len(out.shape))):
        return
    numbers = _shape_numbers(shape)
    if numbers is None:
        return
    for axis in range(len(out.shape)):
        kept = _kept(node, -1, axis, removed)
        if kept is not None and (numbers[axis] or 0) > 0:
            _write_size(graph, node, shape, axis, kept.size)


def _shape_numbers(shape: Value) -> list[int | None] | None:
    """What a shape that is given says, None for what is computed: a constant, or a Concat of single numbers."""
    if shape.constant is not None:
        return [int(number) for number in shape.constant.numpy().reshape(-1)]
    if shape.producer is not None and shape.producer.is_op("Concat"):
        parts = shape.producer.inputs
        if all(part is not None and part.shape == (1,) for part in parts):
            return [None if part is None or part.constant is None else int(part.constant.numpy()[0]) for part in parts]
    return None


def _write_size(graph: Graph, node: Node, shape: Value, axis: int, size: int) -> None:
    if shape.constant is not None:
        current = node.input(1)
        assert current is not None and current.constant is not None
        numbers = [int(number) for number in current.constant.numpy().reshape(-1)]
        numbers[axis] = size
        _integers(graph, node, 1, numbers)
        return
    joint = shape.producer
    assert joint is not None
    own = Node("Concat", joint.inputs, {"axis": 0}, name=f"{node.name}/shape")
    own.output.type, own.output.name = shape.type, f"{node.output.name}_shape"
    graph.insert_before(node, own)
    own.set_input(axis, graph.add_constant(tensor(np.array([size], np.int64)), f"{node.output.name}_size"))
    node.set_input(1, own.output)


def _tell_resize(graph: Graph, node: Node, removed: Removed) -> None:
    kept, sizes = _kept(node, -1, 1, removed), node.input(3)
    if kept is None or sizes is None:
        return
    if sizes.constant is not None and sizes.constant.size:
        numbers = [int(number) for number in sizes.constant.numpy().reshape(-1)]
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
    from qcompiler.ops import links

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
