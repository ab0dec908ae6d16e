"""The graph as text: one line a node, stable names, made for reading and for golden tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir.attributes import Attr, AttrKind
from qcompiler.ir.graph import Graph, Node, Value
from qcompiler.ir.model import Model
from qcompiler.ir.tensor import SparseTensor, Tensor
from qcompiler.ir.types import MapType, OptionalType, SequenceType, Shape, TensorType, Type

__all__ = ["format_graph", "format_model", "format_node", "format_type"]

_FEW = 8  # constants of at most so many elements are shown whole, where the caller does not say


def format_model(model: Model, *, numbered: bool = False, most: int = _FEW) -> str:
    """The whole model.

    With ``numbered``, all values but the inputs and outputs of the model are called %0, %1, ... whatever their names.
    Constants of at most ``most`` elements are written out.
    """
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in sorted(model.opsets.items()))
    parts = [f"model <{opsets}>", format_graph(model.graph, numbered=numbered, most=most)]
    for function in model.functions.values():
        label = ":".join(part for part in function.key if part)
        parts.append(f"function {label}\n{format_graph(function.graph, numbered=numbered, most=most)}")
    return "\n".join(parts)


def format_graph(graph: Graph, *, numbered: bool = False, most: int = _FEW) -> str:
    """Inputs, constants, nodes and outputs of ``graph``, subgraphs indented below their node."""
    names = {value: value.name for value in (*graph.inputs, *graph.outputs) if value.name}
    return "\n".join(_lines(graph, names, len(names), numbered, most))


def _lines(graph: Graph, names: dict[Value, str], given: int, numbered: bool, most: int) -> Iterator[str]:
    """``names`` holds the labels of what is around; the first ``given`` of them are not numbers."""
    used = set(names.values())

    def name(value: Value | None) -> str:
        if value is None:
            return "-"
        if value not in names:
            label = "" if numbered else value.name
            if not label or label in used:
                label = f"%{len(names) - given}"
            names[value] = label
            used.add(label)
        return names[value]

    defaults = {v: " = default" if v.const is not None else "" for v in graph.inputs}
    inputs = ", ".join(f"{name(v)}: {format_type(v.type)}{defaults[v]}" for v in graph.inputs)
    yield f"graph {graph.name or '-'}({inputs}) {{"
    for value in graph.constants:
        if not value.is_input and value.const is not None and value.uses:
            yield f"  {name(value)}: {format_type(value.type)} = {_constant(value.const, most)}"
    for node in graph:
        yield f"  {_node(node, name)}"
        for sub in node.subgraphs():
            yield from (f"    {line}" for line in _lines(sub, dict(names), given, numbered, most))
    yield "  return " + ", ".join(f"{name(v)}: {format_type(v.type)}" for v in graph.outputs)
    yield "}"


def format_node(node: Node) -> str:
    """One node on one line, with its values' own names."""
    return _node(node, lambda value: "-" if value is None else value.name or "%?")


def format_type(type: Type | None) -> str:
    """Short form of a type: ``float[n,3]``, ``seq(int64[])``, ``?`` when unknown."""
    if isinstance(type, TensorType):
        element = type.dtype.name.lower() if type.dtype is not None else "?"
        return ("sparse " if type.sparse else "") + element + _shape(type.shape)
    if isinstance(type, SequenceType):
        return f"seq({format_type(type.element)})"
    if isinstance(type, OptionalType):
        return f"optional({format_type(type.element)})"
    if isinstance(type, MapType):
        return f"map({type.key.name.lower()}, {format_type(type.value)})"
    return "?" if type is None else f"opaque({type.domain}:{type.name})"


def _shape(shape: Shape | None) -> str:
    return "[...]" if shape is None else "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _node(node: Node, name: Any) -> str:
    outputs = ", ".join(name(value) for value in node.outputs)
    kind = ":".join(part for part in (node.domain, node.op_type, node.overload) if part)
    attrs = ", ".join(f"{key}={_attr(attr)}" for key, attr in sorted(node.attrs.items()))
    return f"{outputs} = {kind}({', '.join(name(v) for v in node.inputs)})" + (f" {{{attrs}}}" if attrs else "")


def _attr(attr: Attr) -> str:
    if attr.ref:
        return f"@{attr.ref}"
    if attr.kind in (AttrKind.GRAPH, AttrKind.GRAPHS):
        return "graph"
    if isinstance(attr.value, tuple):
        return "[" + ",".join(_item(item) for item in attr.value) + "]"
    return _item(attr.value)


def _item(item: Any) -> str:
    if isinstance(item, Tensor | SparseTensor):
        return _constant(item)
    if isinstance(item, Type):
        return format_type(item)
    return _scalar(item)


def _scalar(item: Any) -> str:
    return f"{item:.6g}" if isinstance(item, float) else repr(item) if isinstance(item, str | bytes) else str(item)


def _constant(value: Tensor | SparseTensor, most: int = _FEW) -> str:
    if isinstance(value, Tensor) and value.size <= most:
        items = value.numpy().reshape(-1)
        if value.dtype.is_float and value.dtype is not DType.DOUBLE:
            items = items.astype(np.float32)
        text = ",".join(_scalar(item.item() if hasattr(item, "item") else item) for item in items)
        return f"[{text}]" if value.shape else text
    return "const"
