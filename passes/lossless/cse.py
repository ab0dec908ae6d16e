"""Nodes that compute the same thing are computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.ir import Attr, AttrKind, Graph, Model, Node, SparseTensor, Tensor, Value
from qcompiler.ops import info, is_pure
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, can_replace, erase_dead, label, replace_value

__all__ = ["MergeCommonSubexpressions"]

Table = ChainMap[Hashable, Node]


@dataclass(frozen=True)
class MergeCommonSubexpressions(Pass):
    """Replace a node by an earlier one of the same operator, attributes and inputs (value numbering).

    In order of execution, so inputs have been merged before: equal keys mean equal results. Inputs of a commutative
    operator count in any order. A nested graph may take the node of a graph around it that stands before it. Exact:
    only pure operators without subgraphs are merged, and Dropout, which may be random, never is. Two nodes that both
    give outputs of the graph stay, since each output has a name. Linear in the nodes.
    """

    cost: ClassVar[str] = "Linear in the nodes."
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        for top in (model.graph, *(function.graph for function in model.functions.values())):
            numbers: dict[Value, int] = {}
            stack: list[tuple[Iterator[Node], Table]] = [(iter(top), ChainMap())]
            while stack:
                nodes, seen = stack[-1]
                inner: list[Graph] = []
                for node in nodes:
                    inner = list(node.subgraphs())
                    if inner:
                        break
                    count += self._merge(node, seen, numbers, context)
                else:
                    stack.pop()
                stack.extend((iter(graph), seen.new_child()) for graph in reversed(inner))
        return count

    def _merge(self, node: Node, seen: Table, numbers: dict[Value, int], context: PassContext) -> bool:
        if node.is_op("Dropout") or not is_pure(node):
            return False
        key = _key(node, numbers)
        twin = seen.get(key)
        if twin is None:
            seen[key] = node
            return False
        pairs = [(old, new) for old, new in zip(node.outputs, twin.outputs, strict=True) if old.uses]
        if not all(can_replace(old, new) for old, new in pairs):
            context.trace.missed(
                self.name, node, f"it gives an output of the graph that {twin!r} cannot name", 2, refused=True
            )
            return False
        if not pairs or not context.permit(self.name, node):
            return False
        names = label(node), label(twin)
        for old, new in pairs:
            replace_value(old, new)
        erase_dead([node])
        context.trace.rewrites.append(Rewrite(self.name, names, (label(twin),)))
        return True


def _key(node: Node, numbers: dict[Value, int]) -> Hashable:
    """Equal for nodes that compute the same."""
    inputs = [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in node.inputs]
    while inputs and inputs[-1] == -1:
        inputs.pop()
    found = info(node)
    if found is not None and found.commutative:
        inputs.sort()
    attrs = tuple(sorted((name, _attr_key(attr)) for name, attr in node.attrs.items()))
    return node.domain, node.op_type, node.overload, len(node.outputs), tuple(inputs), attrs


def _attr_key(attr: Attr) -> tuple[int, str, str]:
    return int(attr.kind), attr.ref, "" if attr.ref else _text(attr.kind, attr.value)


def _text(kind: AttrKind, value: Any) -> str:
    """A text that is equal for equal values only; a number says whether it is a minus zero."""
    if isinstance(value, Tensor):
        return value.digest().hex()
    if isinstance(value, SparseTensor):
        return f"{value.shape}{value.values.digest().hex()}{value.indices.digest().hex()}"
    if isinstance(value, tuple | list):
        return ",".join(f"({_text(kind, item)})" for item in value)
    return repr(value)
