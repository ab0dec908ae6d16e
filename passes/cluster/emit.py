"""Clustered weights in the model: indices, and standard operators that make weights of them at loading."""

from __future__ import annotations

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor
from qcompiler.passes.cluster.coding import Coded
from qcompiler.passes.cluster.layers import Layer
from qcompiler.passes.matrix import channel_shape, from_rows, is_turned

__all__ = ["emit", "index_type", "stored_bytes"]

_SINCE = {4: 21, 2: 25}
"""Operator sets in which Cast reads integers of so many bits."""


def index_type(coded: Coded, opset: int) -> DType:
    """The narrowest type of the operator set that holds the indices; for even levels the multiples themselves."""
    if coded.even:
        reach = max(-coded.lowest, coded.lowest + coded.levels.shape[1])
        narrow = {2: DType.INT2, 4: DType.INT4}
        bits = next((bits for bits in (2, 4) if opset >= _SINCE[bits] and reach <= 1 << (bits - 1)), 8)
        return narrow.get(bits, DType.INT8)
    bits = next((bits for bits in (2, 4) if opset >= _SINCE[bits] and coded.bits <= bits), 8)
    return {2: DType.UINT2, 4: DType.UINT4}.get(bits, DType.UINT8)


def stored_bytes(coded: Coded, kind: DType) -> int:
    """What the indices, levels and scales take in the model."""
    return -(-coded.indices.size * kind.bits // 8) + coded.level_bytes + coded.scale_bytes


def emit(model: Model, layer: Layer, coded: Coded) -> None:
    """Write the weight of ``layer`` as ``coded``, for all who read it.

    Even levels: Cast(indices) * scale. Otherwise Gather(codebook, indices) * scale, or GatherElements by codebook, with
    a Cast between where the codebook is of int8. The result is the float32 weights of :meth:`Coded.rows` to the bit,
    cast to the weight's own type where that differs.
    """
    value, graph = layer.value, layer.value.home
    assert graph is not None
    kind = index_type(coded, model.opset)
    made = _Chain(graph, value)
    if coded.even:
        whole = from_rows(layer.node, coded.indices.astype(np.int16) + coded.lowest, layer.array).astype(kind.numpy)
        current = made.node("Cast", [made.constant(tensor(whole, kind), "indices")], to=int(DType.FLOAT))
    else:
        current = made.gathered(layer, coded, kind)
        if coded.step:
            current = made.node("Cast", [current], to=int(DType.FLOAT))
    factors = coded.factors()
    if (factors != 1).any():
        shape = channel_shape(layer.node, layer.array) if (factors != factors.flat[0]).any() else ()
        numbers = factors.reshape(shape) if shape else factors.reshape(-1)[:1].reshape(())
        current = made.node("Mul", [current, made.constant(tensor(np.ascontiguousarray(numbers)), "scale")])
    constant = value.constant
    assert constant is not None
    if constant.dtype is not DType.FLOAT:
        current = made.node("Cast", [current], to=int(constant.dtype))
    current.type = TensorType(constant.dtype, constant.shape)
    value.replace_uses(current)
    graph.remove_constant(value)


class _Chain:
    """Nodes at the beginning of a graph that make one weight."""

    def __init__(self, graph: Graph, value: Value) -> None:
        self.graph, self.name = graph, value.name
        self.first = next(iter(graph))
        self.count = 0

    def constant(self, held: object, what: str) -> Value:
        return self.graph.add_constant(held, f"{self.name}_{what}")  # type: ignore[arg-type]

    def node(self, kind: str, inputs: list[Value], **attrs: object) -> Value:
        self.count += 1
        made = Node(kind, inputs, attrs, name=f"{self.name}/{kind}_{self.count}")
        self.graph.insert_before(self.first, made)
        return made.output

    def gathered(self, layer: Layer, coded: Coded, kind: DType) -> Value:
        """The levels that the indices name, in the shape of the weight."""
        books = len(coded.levels)
        levels = coded.multiples if coded.step else coded.levels
        if books == 1:
            whole = from_rows(layer.node, coded.indices, layer.array)
            indices = self.constant(tensor(whole.astype(kind.numpy), kind), "indices")
            places = self.node("Cast", [indices], to=int(DType.INT32))
            return self.node("Gather", [self.constant(tensor(levels[0]), "codebook"), places], axis=0)
        flat = coded.indices.reshape(books, -1)
        places = self.node(
            "Cast", [self.constant(tensor(flat.astype(kind.numpy), kind), "indices")], to=int(DType.INT32)
        )
        found = self.node("GatherElements", [self.constant(tensor(levels), "codebook"), places], axis=1)
        turned = is_turned(layer.node, layer.array)
        shape = layer.array.shape[::-1] if turned else layer.array.shape
        found = self.node("Reshape", [found, self.constant(tensor(np.array(shape, np.int64)), "shape")])
        return self.node("Transpose", [found], perm=[1, 0]) if turned else found
