"""A pattern of five operators, two of them commutative, over graphs of 10,000 and 100,000 nodes.

python -m benchmarks.rewriting
"""

from __future__ import annotations

import time
from typing import Any

from qcompiler import op, rule
from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor, verify
from qcompiler.rewrite import apply_rules, const


@rule(lambda x, c: op.Relu(op.Add(op.Tanh(op.Mul(x, op.Sigmoid(x))), const(c))))
def five(rw: Any, m: Any) -> Any:
    """Relu(tanh(x * sigmoid(x)) + c), inputs of the product and of the sum in any order."""
    return rw.node("Fused", m.x, m.c, domain="benchmark")


def chain(nodes: int) -> Model:
    """``nodes`` nodes in a row, every five of them a match, the commutative inputs in changing order."""
    graph = Graph("chain")
    current = graph.add_input(Value("x", TensorType(DType.FLOAT, (1, 8))))
    one = graph.add_constant(tensor([1.0], DType.FLOAT), "one")
    for i in range(nodes // 5):
        gate = graph.append(Node("Sigmoid", [current])).output
        product = graph.append(Node("Mul", [gate, current] if i % 2 else [current, gate])).output
        bent = graph.append(Node("Tanh", [product])).output
        total = graph.append(Node("Add", [bent, one] if i % 3 else [one, bent])).output
        current = graph.append(Node("Relu", [total])).output
    current.name = "y"
    graph.add_output(current)
    return Model(graph, {"": 17})


def main() -> None:
    """Print seconds for both sizes, the least of three."""
    least = {}
    for nodes in (10_000, 100_000):
        times = []
        for _ in range(3):
            model = chain(nodes)
            start = time.perf_counter()
            count = apply_rules(model, [five])
            times.append(time.perf_counter() - start)
            verify(model)
        least[nodes] = min(times)
        print(f"{nodes:7} nodes: {count} rewrites, {len(model.graph)} nodes left, {min(times):.3f} s", flush=True)
    print(f"ratio {least[100_000] / least[10_000]:.1f}")


if __name__ == "__main__":
    main()
