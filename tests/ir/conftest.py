"""Small graphs to look at and to break."""

from collections.abc import Callable

import onnx.parser
import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor
from qcompiler.onnx_io import from_proto

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


@pytest.fixture(scope="session")
def read() -> Callable[[str], Model]:
    """read("g (float[2] x) => (float[2] y) { y = Relu(x) }"): a model in onnx's own text form, functions behind it."""

    def build(text: str) -> Model:
        head = '<ir_version: 10, opset_import: ["": 20, "local": 1]>'
        return from_proto(onnx.parser.parse_model(head + text))

    return build
