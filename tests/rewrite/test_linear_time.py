"""Ten times the graph, about ten times the time: nothing in the driver or the matcher looks at everything twice."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor, verify
from qcompiler.rewrite import Match, Rewriter, apply_rules, const, op, rule

pytestmark = pytest.mark.long
SMALL, LARGE = 10_000, 100_000
MOST = 15  # of the ratio of times; a quadratic step would give a hundred


@rule(lambda x, c: op.Relu(op.Add(op.Tanh(op.Mul(x, op.Sigmoid(x))), const(c))))
def five(rw: Rewriter, m: Match) -> Any:
    return rw.op("t").Five(m.x, m.c)


@rule(lambda x: op.Identity(x))
def identity(rw: Rewriter, m: Match) -> Any:
    return m.x


@rule(lambda x: op.Neg(op.Neg(x)))
def double_negation(rw: Rewriter, m: Match) -> Any:
    return m.x


@rule(lambda x: op.Sub(x, op.Sigmoid(x, _shared=True)))
def shared(rw: Rewriter, m: Match) -> Any:
    return rw.op("t").Rest(m.x)


@rule(lambda x: (op.Sin(x), op.Cos(x)))
def pair(rw: Rewriter, m: Match) -> Any:
    return rw.op("t").SinCos(m.x, _outputs=2)


def blocks(graph: Graph, x: Value, count: int) -> None:
    """Blocks of five nodes in a row, every order of the two commutative operators among them."""
    c = graph.add_constant(tensor([1.0], DType.FLOAT), "one")
    for i in range(count // 5):
        a = graph.append(Node("Sigmoid", [x])).output
        b = graph.append(Node("Mul", [a, x] if i % 2 else [x, a])).output
        d = graph.append(Node("Tanh", [b])).output
        e = graph.append(Node("Add", [d, c] if i % 3 else [c, d])).output
        x = graph.append(Node("Relu", [e])).output
    graph.add_output(x)


def hub(graph: Graph, x: Value, count: int) -> None:
    """One value that everybody takes, through an Identity each."""
    for _ in range(count // 2):
        graph.add_output(graph.append(Node("Abs", [graph.append(Node("Identity", [x])).output])).output)


def chain(graph: Graph, x: Value, count: int) -> None:
    """A long chain that vanishes from one end to the other."""
    for _ in range(count):
        x = graph.append(Node("Neg", [x])).output
    graph.add_output(graph.append(Node("Abs", [x])).output)


def comb(graph: Graph, x: Value, count: int) -> None:
    """A chain with pairs of siblings at every step."""
    for _ in range(count // 4):
        sin, cos = (graph.append(Node(kind, [x])).output for kind in ("Sin", "Cos"))
        x = graph.append(Node("Identity", [graph.append(Node("Sub", [sin, cos])).output])).output
    graph.add_output(graph.append(Node("Abs", [x])).output)


def rests(graph: Graph, x: Value, count: int) -> None:
    """Inner values that others use as well."""
    for _ in range(count // 3):
        s = graph.append(Node("Sigmoid", [x])).output
        x = graph.append(Node("Div", [graph.append(Node("Sub", [x, s])).output, s])).output
    graph.add_output(x)


def seconds(build: Callable[..., None], rules: list[Any], count: int, rewrites: int) -> float:
    best = float("inf")
    for _ in range(3 if count == SMALL else 1):
        graph = Graph("g")
        build(graph, graph.add_input(Value("x", TensorType(DType.FLOAT, (1, 8)))), count)
        model = Model(graph, {"": 20})
        start = time.process_time()
        assert apply_rules(model, rules) == rewrites
        best = min(best, time.process_time() - start)
        verify(model)
    return best


@pytest.mark.parametrize(
    ("build", "rules", "nodes_a_rewrite"),
    [
        (blocks, [five], 5),
        (blocks, [five, identity, double_negation, shared, pair], 5),
        (hub, [identity], 2),
        (hub, [identity, shared], 2),
        (chain, [double_negation], 2),
        (comb, [identity, pair], 2),
        (rests, [shared, identity], 3),
    ],
    ids=lambda x: x.__name__ if callable(x) else str(len(x)) + " rules" if isinstance(x, list) else "",
)
def test_time_grows_with_the_graph(build: Callable[..., None], rules: list[Any], nodes_a_rewrite: int) -> None:
    small = seconds(build, rules, SMALL, SMALL // nodes_a_rewrite)
    large = seconds(build, rules, LARGE, LARGE // nodes_a_rewrite)
    assert large < MOST * small, f"{SMALL} nodes: {small:.2f} s, {LARGE} nodes: {large:.2f} s"


def test_insertions_at_one_place_do_not_look_at_the_whole_graph() -> None:
    def insert(size: int) -> float:
        graph = Graph("g")
        nodes = [graph.append(Node("Foo", outputs=0)) for _ in range(size)]
        start = time.process_time()
        for _ in range(20_000):
            graph.insert_before(nodes[size // 2], Node("Bar", outputs=0))
        return time.process_time() - start

    small, large = min(insert(SMALL) for _ in range(3)), insert(LARGE)
    assert large < 5 * small, f"{small:.2f} s in {SMALL} nodes, {large:.2f} s in {LARGE}"
