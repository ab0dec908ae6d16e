"""A model that also gives its inner values, those in branches and loop bodies too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, clone_model, tensor

__all__ = ["reachable", "with_outputs"]


def reachable(graph: Graph, model: Model) -> bool:
    """True when what is computed in ``graph`` can be given by ``model``: it stands at the top, in If, Loop or Scan."""
    while graph is not model.graph:
        owner = graph.owner
        if owner is None or owner.graph is None or not owner.is_op("If", "Loop", "Scan"):
            return False
        if {"scan_output_axes", "scan_output_directions"} & owner.attrs.keys():
            return False
        graph = owner.graph
    return True


def with_outputs(model: Model, values: Sequence[Value]) -> tuple[Model, dict[Value, str]]:
    """A copy of ``model`` that also gives ``values`` as outputs, and the name under which each is found.

    A graph input keeps its name and is not given again: whoever feeds it knows it. A value of a loop's body comes
    stacked, one slice a turn; one of a branch that was not taken comes as an array without elements.
    """
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    taken = {value.name for graph in copy.graphs() for node in graph for value in node.outputs}
    taken |= {value.name for value in (*copy.graph.inputs, *copy.graph.constants)}
    names: dict[Value, str] = {}
    seen: set[str] = {value.name for value in copy.graph.outputs}
    lifted = _lifted(copy, [mapping[value] for value in values])
    for value in values:
        twin = lifted.get(mapping[value], mapping[value])
        if not twin.is_input and not twin.output_uses:
            if not twin.name or twin.name in seen:
                twin.name = f"observed_{len(names)}"
                while twin.name in taken:
                    twin.name += "_"
            copy.graph.add_output(twin)
        seen.add(twin.name)
        names[value] = twin.name
    return copy, names


def _lifted(model: Model, values: list[Value]) -> dict[Value, Value]:
    """For each of ``values``, which stand in subgraphs, the output of the main graph that gives it."""
    found = {value: value for value in values if _graph_of(value) is not model.graph}
    while inner := {key: value for key, value in found.items() if _graph_of(value) is not model.graph}:
        # The deepest first: what they give stands one graph further out, where others may stand already.
        depth = max(_depth(_graph_of(value)) for value in inner.values())
        for owner in dict.fromkeys(_graph_of(value).owner for value in inner.values()):
            assert owner is not None
            part = {key: value for key, value in inner.items() if _graph_of(value).owner is owner}
            if _depth(_graph_of(next(iter(part.values())))) == depth:
                found |= dict(zip(part, _given_by(owner, list(part.values())), strict=True))
    return found


def _graph_of(value: Value) -> Graph:
    assert value.home is not None
    return value.home


def _depth(graph: Graph) -> int:
    depth = 0
    while graph.owner is not None and graph.owner.graph is not None:
        graph, depth = graph.owner.graph, depth + 1
    return depth


def _given_by(owner: Node, values: list[Value]) -> list[Value]:
    """Further outputs of ``owner`` that give ``values`` of its subgraphs."""
    given = []
    for value in values:
        for graph in owner.subgraphs():
            held = (
                value if _graph_of(value) is graph else graph.add_constant(tensor(np.zeros(0, np.float32)), "nothing")
            )
            graph.add_output(_of_its_own(graph, held))
        given.append(owner.add_output())
        given[-1].type = TensorType(DType.FLOAT, None)
    return given


def _of_its_own(graph: Graph, value: Value) -> Value:
    """``value``, or a copy of it, of which nobody says a shape: branches need not agree in those of what they give."""
    node = Node("Identity", [value])
    node.output.type, node.output.name = TensorType(DType.FLOAT, None), f"{value.name}_observed"
    return graph.append(node).output
