"""Copies of models. Tensors are shared: they never change."""

from __future__ import annotations

from dataclasses import replace

from qcompiler.ir.attributes import Attr, AttrKind
from qcompiler.ir.graph import Graph, Node, Value
from qcompiler.ir.model import Function, Model

__all__ = ["clone_graph", "clone_model", "clone_node"]


def clone_model(model: Model, mapping: dict[Value, Value] | None = None) -> Model:
    """An independent copy. ``mapping`` is filled with the copy of every value."""
    mapping = {} if mapping is None else mapping
    copy = Model(clone_graph(model.graph, mapping), dict(model.opsets))
    for key, function in model.functions.items():
        copy.functions[key] = _clone_function(function)
    for name in ("ir_version", "producer", "domain", "version", "doc"):
        setattr(copy, name, getattr(model, name))
    copy.metadata, copy.repairs = dict(model.metadata), list(model.repairs)
    copy.carried = {key: list(items) for key, items in model.carried.items()}
    return copy


def clone_graph(graph: Graph, mapping: dict[Value, Value]) -> Graph:
    """A copy of ``graph``. Values that it captures from outside are taken from ``mapping``, else shared."""
    copy = Graph(graph.name)
    copy.doc, copy.metadata = graph.doc, dict(graph.metadata)
    for value in graph.inputs:
        copy.add_input(_clone_value(value, mapping))
    for value in graph.constants:
        copy.add_constant(mapping.get(value) or _clone_value(value, mapping))
    for node in graph:
        copy.append(clone_node(node, mapping))
    for value in graph.outputs:
        copy.add_output(mapping.get(value, value))
    return copy


def clone_node(node: Node, mapping: dict[Value, Value]) -> Node:
    """A detached copy of ``node`` over the mapped inputs, with copies of its subgraphs."""
    attrs = {name: _clone_attr(attr, mapping) for name, attr in node.attrs.items()}
    copy = Node(
        node.op_type,
        [None if value is None else mapping.get(value, value) for value in node.inputs],
        attrs,
        outputs=[_clone_value(value, mapping) for value in node.outputs],
        domain=node.domain,
        name=node.name,
        overload=node.overload,
    )
    copy.doc, copy.metadata = node.doc, dict(node.metadata)
    return copy


def _clone_value(value: Value, mapping: dict[Value, Value]) -> Value:
    copy = Value(value.name, value.type, value.const)
    copy.quant = None if value.quant is None else replace(value.quant)
    copy.doc, copy.metadata = value.doc, dict(value.metadata)
    mapping[value] = copy
    return copy


def _clone_attr(attr: Attr, mapping: dict[Value, Value]) -> Attr:
    if attr.ref or attr.kind not in (AttrKind.GRAPH, AttrKind.GRAPHS):
        return attr
    copies = tuple(clone_graph(graph, mapping) for graph in attr.graphs())
    return Attr(attr.kind, copies[0] if attr.kind is AttrKind.GRAPH else copies, doc=attr.doc)


def _clone_function(function: Function) -> Function:
    graph = clone_graph(function.graph, {})
    copy = Function(function.domain, function.name, graph, dict(function.opsets), function.overload)
    copy.attributes, copy.defaults = list(function.attributes), dict(function.defaults)
    copy.doc, copy.metadata = function.doc, dict(function.metadata)
    return copy
