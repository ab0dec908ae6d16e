"""Where Q/DQ pairs go for TensorRT, and which values share a scale.

A product is int8 when each factor comes straight from a DequantizeLinear. TensorRT moves a Q up and a DQ down through
what only selects or reorders elements, but it makes a new int8 copy wherever scales differ; so everything that int8
passes through unchanged has one scale on all sides. What is added to a convolution's result is read in int8, while
the result itself is not rounded in between: only then is the sum part of the convolution, with an int8 result.
Everything else has no pair around it, since that would be work and error for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from qcompiler.errors import LoweringError
from qcompiler.ir import Graph, Node, Quantization, Value
from qcompiler.lower.target import Group
from qcompiler.lower.tensorrt.legality import carried, carries, passes_int8

__all__ = ["Placement", "place"]

_OWN_SCALE = 2.0  # times finer than the shared scale: then a product reads the value in its own, at one more copy

Read = tuple[Node, int]
"""A reader and which of its inputs."""


Placement = dict[Value, list[tuple[Quantization, list[Read]]]]
"""For each value who reads it in 8 bits, by the parameters that the reader gets."""


def place(graph: Graph, groups: Collection[Group], taken: Collection[Node] = ()) -> Placement:
    """The pairs that the static ``groups`` of ``graph`` need; nodes of ``taken`` become something else. Raises
    LoweringError for a value without a range.

    Linear in the size of the graph.
    """
    products: dict[Value, list[Read]] = {}
    anchors = {group.anchor for group in groups}
    for group in groups:
        for place_of, value in enumerate(group.data):
            products.setdefault(value, []).append((group.anchor, place_of))
    through = _carriers(graph, anchors)
    shared = _shared(through)
    found: Placement = {}
    for value, readers in products.items():
        own, common = _range(value), shared.get(value)
        if common is None or common is own:
            _add(found, value, own, readers)
        elif value.producer in through or not _much_finer(own, common):
            _add(found, value, common, readers)
        else:
            _add(found, value, own, readers)
    for node in through:
        for place_of, value in carried(node):
            _add(found, value, shared[value], [(node, place_of)])
        for value in node.outputs:
            found.setdefault(value, [])
    _residuals(graph, anchors, found, taken)
    return found


def _add(found: Placement, value: Value, quant: Quantization, readers: Iterable[Read]) -> None:
    for known, there in found.setdefault(value, []):
        if known.scale == quant.scale:
            there.extend(readers)
            return
    found[value].append((quant, list(readers)))


def _carriers(graph: Graph, anchors: Collection[Node]) -> set[Node]:
    """What int8 passes through: nodes of which everybody reads int8."""
    kept: set[Node] = set()
    for node in reversed(graph):
        if not passes_int8(node) or any(value.quant is None for value in (*node.outputs, *_data(node))):
            continue
        if any(value.is_output or not value.uses for value in node.outputs):
            continue
        if any(value.const is not None for value in _data(node)):
            continue
        uses = [use for value in node.outputs for use in value.uses]
        if all(isinstance(user, Node) and _in_int8(user, at, anchors, kept) for user, at in uses):
            kept.add(node)
    return kept


def _in_int8(user: Node, at: int, anchors: Collection[Node], kept: Collection[Node]) -> bool:
    if user in anchors:
        return at < 2
    return user in kept and carries(user, at)


def _data(node: Node) -> list[Value]:
    return [value for _, value in carried(node)]


def _shared(through: Collection[Node]) -> dict[Value, Quantization]:
    """The parameters that values joined by nodes of ``through`` have in common: those of the widest range."""
    parent: dict[Value, Value] = {}

    def root(value: Value) -> Value:
        parent.setdefault(value, value)
        while parent[value] is not value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    for node in through:
        first, *others = (*_data(node), *node.outputs)
        for other in others:
            parent[root(other)] = root(first)
    widest: dict[Value, Quantization] = {}
    for value in parent:
        quant, top = _range(value), root(value)
        if top not in widest or quant.scale > widest[top].scale:
            widest[top] = quant
    return {value: widest[root(value)] for value in parent}


def _much_finer(own: Quantization, common: Quantization) -> bool:
    return bool(common.scale > _OWN_SCALE * own.scale)


def _residuals(graph: Graph, anchors: Collection[Node], found: Placement, taken: Collection[Node]) -> None:
    """Sums whose result is read in 8 bits: what joins the result of a product there is read in 8 bits too."""
    for node in graph:
        a, b = (node.inputs[0], node.inputs[1]) if node.is_op("Add") else (None, None)
        if node in taken or a is None or b is None or a is b or a.const is not None or b.const is not None:
            continue
        if a.quant is None or b.quant is None or not _alike(a, b) or not _feeds_int8(node.output, found):
            continue
        last = max((value for value in (a, b) if _fused(value, anchors)), key=_order, default=None)
        others = [value for value in (a, b) if value is not last]
        for value in others:
            known = found.get(value)
            quant = known[0][0] if known else _range(value)
            _add(found, value, quant, [(node, 0 if value is a else 1)])


def _alike(a: Value, b: Value) -> bool:
    return a.shape is not None and a.shape == b.shape


def _feeds_int8(value: Value, found: Placement) -> bool:
    """True when ``value``, or what one activation makes of it, is read in 8 bits."""
    if value in found:
        return True
    users = value.users()
    return len(users) == 1 and len(users[0].outputs) == 1 and users[0].is_op("Relu", "Clip") and (
        users[0].output in found
    )  # fmt: skip


def _fused(value: Value, anchors: Collection[Node]) -> bool:
    """True for the result of an int8 product, bias included, that nothing else reads."""
    node = value.producer
    if node is None or len(value.uses) != 1:
        return False
    if node.is_op("Add") and any(item is not None and item.const is not None for item in node.inputs):
        inner = next((item for item in node.inputs if item is not None and item.const is None), None)
        node = inner.producer if inner is not None and len(inner.uses) == 1 else None
    return node in anchors


def _order(value: Value) -> int:
    assert value.producer is not None
    return value.producer.order


def _range(value: Value) -> Quantization:
    if value.quant is None:
        raise LoweringError(f"{value!r} has no calibrated range", hint="run a calibrating pass before lowering")
    if np.any(value.quant.zero_point):
        raise LoweringError(f"{value!r} has a zero point, and TensorRT takes 0 alone")
    return value.quant
