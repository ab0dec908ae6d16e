"""Float16 on the processor: computed in float32, and each result rounded as a card rounds it.

onnxruntime's CPU provider has few operators in float16. It casts around the others and drops pairs of casts, so that
nothing would be rounded and nothing that float16 loses would be seen.
"""

from __future__ import annotations

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Node, TensorType, Value, tensor

__all__ = ["in_float32"]

_SPLIT = 2.0**13 + 1  # float32 has 13 more digits (Dekker, 1971: x * k - (x * k - x) keeps the upper ones)
_NORMAL = 2.0**-14  # below it float16 is a grid of 2**-24, as float32 is around 0.75
_GRID = 0.75
_LARGEST = 65519.996  # what rounds to float16's largest


def in_float32(graph: Graph) -> None:
    """Let everything in ``graph`` that is float16 be float32, rounded to what float16 can hold.

    Inputs and outputs keep their types. Nodes have no graphs of their own that read float16.
    """
    _Rounder(graph).run()


class _Rounder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.numbers: dict[float, Value] = {}

    def run(self) -> None:
        nodes = list(self.graph)
        for value in [*self.graph.constants, *self.graph.inputs]:
            if value.dtype is DType.FLOAT16:
                self._entered(value)
        for node in nodes:
            halves = [value for value in node.outputs if value.dtype is DType.FLOAT16]
            if node.is_op("Cast") and halves:
                node.attrs = {**node.attrs, **Node("Cast", attrs={"to": int(DType.FLOAT)}).attrs}
                node.touch()
            for value in halves:
                value.type = TensorType(DType.FLOAT, value.shape)
                self._rounded(node, value)

    def _entered(self, value: Value) -> None:
        """An input in float32, or a constant."""
        if value.constant is not None:
            held = tensor(value.constant.numpy().astype(np.float32))
            wide = self.graph.add_constant(held, f"{value.name}_wide")
        else:
            node = Node("Cast", [value], {"to": int(DType.FLOAT)}, name=f"{value.name}/wide")
            wide = self.graph.insert_after(None, node).output
            wide.type, wide.name = TensorType(DType.FLOAT, value.shape), f"{value.name}_wide"
        for user, place in list(value.uses):
            if isinstance(user, Node) and user is not wide.producer:
                user.set_input(place, wide)

    def _rounded(self, node: Node, value: Value) -> None:
        """Everybody reads ``value`` rounded; where the graph gives it, in float16 again."""
        uses = list(value.uses)
        self.last = node

        def made(op: str, *inputs: Value, **attrs: int) -> Value:
            new = Node(op, inputs, attrs, name=f"{value.name}/{op.lower()}")
            self.last = self.graph.insert_after(self.last, new)
            return new.output

        size = made("Abs", value)
        high = made("Mul", value, self._number(_SPLIT))
        digits = made("Sub", high, made("Sub", high, value))
        grid = made("Sub", made("Add", value, self._number(_GRID)), self._number(_GRID))
        rounded = made("Where", made("Less", size, self._number(_NORMAL)), grid, digits)
        beyond = made("Greater", size, self._number(_LARGEST))
        whole = made("Where", beyond, made("Mul", value, self._number(np.inf)), rounded)
        whole.type = TensorType(DType.FLOAT, value.shape)
        for user, place in uses:
            if isinstance(user, Node):
                user.set_input(place, whole)
                continue
            half = made("Cast", whole, to=int(DType.FLOAT16))
            half.type = TensorType(DType.FLOAT16, value.shape)
            half.name, value.name = value.name, f"{value.name}_exact"
            user.set_output(place, half)

    def _number(self, value: float) -> Value:
        if value not in self.numbers:
            self.numbers[value] = self.graph.add_constant(tensor(np.float32(value)), f"number_{len(self.numbers)}")
        return self.numbers[value]
