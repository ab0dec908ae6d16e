"""Random Ifs in Ifs, with views around them and negated conditions, through all lossless passes."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, clone_model, tensor, verify
from qcompiler.onnx_io import infer_types, open_session
from qcompiler.passes.lossless import LOSSLESS
from qcompiler.pipeline import PassContext, Pipeline

FLOAT, BOOL = TensorType(DType.FLOAT, (2, 3)), TensorType(DType.BOOL, ())


class Program:
    """Grows graphs of float [2, 3] values; a branch may give one as [1, 2, 3], which is squeezed behind its If."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.count = 0
        self.graph = Graph("program")
        self.zero = self.graph.add_constant(tensor(np.array([0])), "zero")
        values = [self.graph.add_input(Value("x", FLOAT))]
        conditions = [self.graph.add_input(Value(f"c{index}", BOOL)) for index in range(2)]
        for _ in range(self.choose.randint(3, 9)):
            self.grow(self.graph, 0, values, conditions)
        for index, value in enumerate(dict.fromkeys(self.choose.choices(values, k=3))):
            given = self.add(self.graph, "Tanh", value)
            given.name = f"y{index}"
            self.graph.add_output(given)

    def add(self, graph: Graph, kind: str, *inputs: Value, **attrs: Any) -> Value:
        self.count += 1
        return graph.append(Node(kind, list(inputs), attrs, name=f"{kind}_{self.count}")).output

    def grow(self, graph: Graph, depth: int, values: list[Value], conditions: list[Value]) -> None:
        chance = self.choose.random()
        if chance < 0.35 and depth < 3:
            self.branch(graph, depth, values, conditions)
        elif chance < 0.55:
            values.append(
                self.add(
                    graph, "Squeeze", self.add(graph, "Unsqueeze", self.choose.choice(values), self.zero), self.zero
                )
            )
        elif chance < 0.8:
            values.append(self.add(graph, self.choose.choice(["Add", "Mul", "Max"]), *self.choose.choices(values, k=2)))
        else:
            values.append(self.add(graph, self.choose.choice(["Neg", "Relu", "Identity"]), self.choose.choice(values)))

    def branch(self, graph: Graph, depth: int, values: list[Value], conditions: list[Value]) -> None:
        condition = self.choose.choice(conditions)
        if self.choose.random() < 0.4:
            condition = self.add(graph, "Not", condition)
            conditions.append(condition)
        wider = [self.choose.random() < 0.5 for _ in range(self.choose.randint(1, 3))]
        bodies = {
            name: self.body(depth + 1, list(values), list(conditions), wider) for name in ("then_branch", "else_branch")
        }
        self.count += 1
        made = graph.append(Node("If", [condition], bodies, outputs=len(wider), name=f"If_{self.count}"))
        for value, wide in zip(made.outputs, wider, strict=True):
            seen = self.add(graph, "Squeeze", value, self.zero) if wide else value
            if wide and self.choose.random() < 0.3:  # two that take it
                seen = self.add(graph, "Add", seen, self.add(graph, "Squeeze", value, self.zero))
            values.append(seen)

    def body(self, depth: int, values: list[Value], conditions: list[Value], wider: list[bool]) -> Graph:
        graph = Graph(f"body_{self.count}")
        for _ in range(self.choose.randint(0, 3)):
            self.grow(graph, depth, values, conditions)
        for wide in wider:
            value = self.choose.choice(values)
            kind = self.choose.choice(["Identity", "Neg", "Relu"])
            graph.add_output(self.add(graph, "Unsqueeze", value, self.zero) if wide else self.add(graph, kind, value))
        return graph


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_branches_keep_the_numbers_whichever_is_taken(seed: int) -> None:
    source = Model(Program(seed).graph, {"": 17})
    infer_types(source)
    model, records = Pipeline([item() for item in LOSSLESS]).run(clone_model(source), PassContext())
    verify(model)
    assert {record.status for record in records} <= {"applied", "no-op"}
    before, after = open_session(source, optimize=False), open_session(model, optimize=False)
    x = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
    for first, second in product([False, True], repeat=2):
        feeds = {"x": x, "c0": np.array(first), "c1": np.array(second)}
        expected, found = before.run(feeds), after.run(feeds)
        assert list(found) == list(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, atol=1e-5)
