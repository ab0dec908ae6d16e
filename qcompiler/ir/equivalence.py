"""Structural equivalence: the same computation, whatever the names, the order and the identity of objects."""

from __future__ import annotations

from typing import Any

from qcompiler.ir.attributes import Attr, AttrKind
from qcompiler.ir.graph import Graph, Node, Value
from qcompiler.ir.model import Function, Model
from qcompiler.ir.tensor import SparseTensor, Tensor

__all__ = ["difference", "graph_difference"]


def difference(a: Model, b: Model) -> str:
    """The first difference between two models in words; empty when they are equivalent."""
    if a.opsets != b.opsets:
        return f"operator sets {a.opsets} and {b.opsets}"
    if set(a.functions) != set(b.functions):
        return f"functions {sorted(a.functions)} and {sorted(b.functions)}"
    for key, function in a.functions.items():
        found = _function_difference(function, b.functions[key])
        if found:
            return f"function {key}: {found}"
    names = [[v.name for v in (*m.graph.inputs, *m.graph.outputs)] for m in (a, b)]
    if names[0] != names[1]:
        return f"names of inputs and outputs {names[0]} and {names[1]}"
    return graph_difference(a.graph, b.graph, {})


def _function_difference(a: Function, b: Function) -> str:
    if a.opsets != b.opsets:
        return f"operator sets {a.opsets} and {b.opsets}"
    if a.attributes != b.attributes or set(a.defaults) != set(b.defaults):
        return f"attributes {[*a.attributes, *a.defaults]} and {[*b.attributes, *b.defaults]}"
    for key, attr in a.defaults.items():
        found = _attr_difference(attr, b.defaults[key], {})
        if found:
            return f"default of {key}: {found}"
    return graph_difference(a.graph, b.graph, {})


def graph_difference(a: Graph, b: Graph, same: dict[Value, Value]) -> str:
    """The first difference between two graphs, compared from their outputs upwards; empty when there is none.

    ``same`` maps values already taken as equal (those of enclosing graphs) to each other, both ways.
    Nodes that no output depends on are not compared.
    """
    if len(a.inputs) != len(b.inputs) or len(a.outputs) != len(b.outputs):
        return f"graph '{a.name}' has other numbers of inputs or outputs than '{b.name}'"
    for x, y in zip(a.inputs, b.inputs, strict=True):
        if x.type != y.type:
            return f"input {x.name}: {x.type} and {y.type}"
        if not _same_constant(x.const, y.const):
            return f"input {x.name}: defaults differ"
        same[x], same[y] = y, x
    stack = list(zip(a.outputs, b.outputs, strict=True))
    while stack:
        x, y = stack.pop()
        if x in same or y in same:
            if same.get(x) is not y:
                known = x if x in same else y
                return f"{known!r} stands for both {same[known]!r} and {y if known is x else x!r}"
            continue
        if (x.producer is None) != (y.producer is None):
            return f"{x!r} and {y!r} differ in kind"
        if x.producer is None or y.producer is None:
            if not _same_constant(x.const, y.const):
                return f"constants {x!r} and {y!r} differ"
            same[x], same[y] = y, x
            continue
        if x.index != y.index:
            return f"{x!r} is output {x.index} and {y!r} is output {y.index}"
        found = _node_difference(x.producer, y.producer, same)
        if found:
            return found
        for each, other in zip(x.producer.outputs, y.producer.outputs, strict=True):
            same[each], same[other] = other, each
        for u, v in zip(x.producer.inputs, y.producer.inputs, strict=True):
            if u is not None and v is not None:
                stack.append((u, v))
    return ""


def _node_difference(a: Node, b: Node, same: dict[Value, Value]) -> str:
    if (a.op_type, a.domain, a.overload) != (b.op_type, b.domain, b.overload):
        return f"{a!r} and {b!r} are different operations"
    if [v is None for v in a.inputs] != [v is None for v in b.inputs] or len(a.outputs) != len(b.outputs):
        return f"{a!r} and {b!r} have other inputs or outputs"
    if set(a.attrs) != set(b.attrs):
        return f"{a!r} and {b!r} have attributes {sorted(a.attrs)} and {sorted(b.attrs)}"
    for key, attr in a.attrs.items():
        found = _attr_difference(attr, b.attrs[key], same)
        if found:
            return f"attribute {key} of {a!r} and {b!r}: {found}"
    return ""


def _attr_difference(a: Attr, b: Attr, same: dict[Value, Value]) -> str:
    if a.kind is not b.kind or a.ref != b.ref:
        return "kinds differ"
    if a.kind in (AttrKind.GRAPH, AttrKind.GRAPHS) and not a.ref:
        if len(list(a.graphs())) != len(list(b.graphs())):
            return "other numbers of graphs"
        pairs = zip(a.graphs(), b.graphs(), strict=True)
        return next((found for x, y in pairs if (found := graph_difference(x, y, same))), "")
    return "" if _same_item(a.value, b.value) else f"{a.value} and {b.value}"


def _same_item(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor | SparseTensor):
        return _same_constant(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same_item(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b or (a != a and b != b))  # a NaN equals a NaN


def _same_constant(a: Tensor | SparseTensor | None, b: Tensor | SparseTensor | None) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.equal(b)
    if isinstance(a, SparseTensor) and isinstance(b, SparseTensor):
        return a.shape == b.shape and a.values.equal(b.values) and a.indices.equal(b.indices)
    return a is None and b is None
