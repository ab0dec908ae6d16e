"""Small graphs to look at and to break."""

from collections.abc import Callable

import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor

FLOAT = TensorType(DType.FLOAT, (2,))


@pytest.fixture
def chain() -> Callable[..., Model]:
    """chain("Relu", "Neg"): x -> a = Relu(x) -> b = Neg(a) -> output; the values are called a, b, c, ..."""

    def build(*ops: str) -> Model:
        graph = Graph("g")
        value = graph.add_input(Value("x", FLOAT))
        for op_type, name in zip(ops, "abcdefghijklmnop", strict=False):
            value = graph.append(Node(op_type, [value], outputs=[Value(name, FLOAT)])).output
        graph.add_output(value)
        return Model(graph, {"": 17})

    return build


@pytest.fixture
def branching() -> Model:
    """y = If(c) { then: t = Add(r, k) } { else: e = Neg(r) } with r = Relu(x), and k a constant of the then-branch."""
    graph = Graph("g")
    x = graph.add_input(Value("x", FLOAT))
    c = graph.add_input(Value("c", TensorType(DType.BOOL, ())))
    r = graph.append(Node("Relu", [x], outputs=[Value("r", FLOAT)])).output
    then, other = Graph("then"), Graph("else")
    k = then.add_constant(tensor([1.0, 2.0], DType.FLOAT), "k")
    then.add_output(then.append(Node("Add", [r, k], outputs=[Value("t", FLOAT)])).output)
    other.add_output(other.append(Node("Neg", [r], outputs=[Value("e", FLOAT)])).output)
    attrs = {"then_branch": then, "else_branch": other}
    y = graph.append(Node("If", [c], attrs, outputs=[Value("y", FLOAT)])).output
    graph.add_output(y)
    return Model(graph, {"": 17})
