"""Whatever sequence of edits a graph goes through, uses mirror what is taken, and order labels mirror the list."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, clone_model, difference, tensor, verify
from qcompiler.onnx_io import from_proto, to_proto

EDITS = ["add", "add", "add", "branch", "set_input", "resize", "replace_uses", "set_output", "add_output", "remove",
         "constant", "remove_constant", "move"]  # fmt: skip


def mirrored(model: Model) -> None:
    """Uses, counted from scratch; an oracle that shares no code with verify()."""
    taken: Counter[tuple[int, int, int]] = Counter()
    values: dict[int, Value] = {}
    for graph in model.graphs():
        users = [*((node, node.inputs) for node in graph), (graph, graph.outputs)]
        for user, items in users:
            for position, value in enumerate(items):
                if value is not None:
                    taken[id(value), id(user), position] += 1
        for value in (*graph.inputs, *graph.constants, *(v for node in graph for v in node.outputs)):
            values[id(value)] = value
        nodes = list(graph)
        assert len(nodes) == len(graph) and nodes == list(reversed(graph))[::-1]
        assert all(a.before(b) for a, b in pairwise(nodes))
    listed = Counter((key, id(user), place) for key, value in values.items() for user, place in value.uses)
    assert listed == taken
    for value in values.values():
        assert value.output_uses == sum(isinstance(user, Graph) for user, _ in value.uses)


class Editor:
    """Draws edits that keep a graph sound: nothing is used before it is defined."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.graph = Graph("g")
        self.graph.add_input(Value("x", TensorType(DType.FLOAT, (1,))))
        self.graph.add_input(Value("c", TensorType(DType.BOOL, ())))
        self.graph.add_output(self.graph.inputs[0])
        self.model = Model(self.graph, {"": 20, "t": 1})
        self.made = 0

    def pick(self, items: list[Any]) -> Any:
        return self.data.draw(st.sampled_from(items)) if items else None

    def name(self) -> str:
        self.made += 1
        return self.pick(["", "same", f"v{self.made}"])

    def visible(self, node: Node | None) -> list[Value]:
        """The values that a node standing where ``node`` stands may take; all when it would stand last."""
        nodes = [each for each in self.graph if node is None or each.before(node)]
        return [*self.graph.inputs, *self.graph.constants, *(v for each in nodes for v in each.outputs)]

    def some(self, node: Node | None) -> list[Value | None]:
        return [self.pick([None, *self.visible(node)]) for _ in range(self.pick([0, 1, 2, 3]))]

    def edit(self) -> None:
        getattr(self, "_" + self.pick(EDITS))()

    def _add(self) -> None:
        anchor = self.pick([None, *self.graph])
        outputs = [Value(self.name()) for _ in range(self.pick([1, 2]))]
        node = Node(self.pick(["A", "B"]), self.some(anchor), {"n": self.made}, outputs=outputs, domain="t")
        if anchor is None:
            self.graph.append(node)
        elif self.pick([False, True]):
            self.graph.insert_before(anchor, node)
        else:
            self.graph.insert_after(anchor, node)

    def _branch(self) -> None:
        anchor, body = self.pick([None, *self.graph]), Graph(f"b{self.made}")
        outer = self.pick(self.visible(anchor))
        k = body.add_constant(tensor([float(self.made)], DType.FLOAT), self.name())
        inner = body.append(Node("In", [outer, k], outputs=[Value(self.name())], domain="t"))
        body.add_output(self.pick([inner.output, k, outer]))
        node = Node("If", [self.graph.inputs[1]], {"then_branch": body}, outputs=[Value(self.name())], domain="t")
        self.graph.insert_before(anchor, node) if anchor is not None else self.graph.append(node)

    def _set_input(self) -> None:
        node = self.pick([each for each in self.graph if each.inputs])
        if node is not None:
            position = self.pick(list(range(len(node.inputs))))
            node.set_input(position, self.pick([None, *self.visible(node)]))

    def _resize(self) -> None:
        node = self.pick(list(self.graph))
        if node is not None:
            node.resize_inputs(self.some(node))

    def _replace_uses(self) -> None:
        node = self.pick(list(self.graph))
        if node is not None:
            self.pick(list(node.outputs)).replace_uses(self.pick(self.visible(node)))

    def _set_output(self) -> None:
        self.graph.set_output(self.pick(list(range(len(self.graph.outputs)))), self.pick(self.visible(None)))

    def _add_output(self) -> None:
        self.graph.add_output(self.pick(self.visible(None)))

    def _remove(self) -> None:
        node = self.pick([each for each in self.graph if not any(value.uses for value in each.outputs)])
        if node is not None:
            self.graph.remove(node)

    def _constant(self) -> None:
        self.graph.add_constant(tensor(np.float32([self.made])), self.name())

    def _remove_constant(self) -> None:
        value = self.pick([each for each in self.graph.constants if not each.uses])
        if value is not None:
            self.graph.remove_constant(value)

    def _move(self) -> None:
        node, anchor = self.pick(list(self.graph)), self.pick(list(self.graph))
        if node is not None and node is not anchor:
            self.graph.move_before(anchor, node)
            self.graph.sort()


@settings(max_examples=60)
@given(st.data(), st.integers(1, 40))
def test_any_sequence_of_edits_keeps_the_graph_sound(data: st.DataObject, count: int) -> None:
    editor = Editor(data)
    for _ in range(count):
        editor.edit()
        mirrored(editor.model)
    verify(editor.model)
    copy = clone_model(editor.model)
    verify(copy)
    mirrored(copy)
    mirrored(editor.model)
    assert difference(editor.model, copy) == ""


@settings(max_examples=60)
@given(st.data(), st.integers(1, 40))
def test_any_graph_survives_the_way_out_and_in(data: st.DataObject, count: int) -> None:
    editor = Editor(data)
    for _ in range(count):
        editor.edit()
    for position, value in enumerate(editor.graph.outputs):  # names of outputs are promises: let none clash
        editor.graph.set_output(position, editor.graph.append(Node("Identity", [value])).output)
    for position, value in enumerate(editor.graph.outputs):
        value.name = f"out{position}"
    back = from_proto(to_proto(editor.model))
    verify(back)
    mirrored(back)
    assert difference(editor.model, back) == ""
