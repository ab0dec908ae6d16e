"""Calls of the model's own functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from qcompiler.ir import Attr, Function, Graph, Model, Node, Value, clone_node
from qcompiler.onnx_io import constant_of
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, label, replace_value

__all__ = ["InlineFunctions"]

_DEPTH = 64  # calls within calls; a function may not call itself (ONNX IR, Functions), and files are not always right


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Put the body of a model-local function in the place of each call of it (ONNX IR, Functions).

    No rule sees through a call, and a runtime without a kernel of that name inlines it at load anyway. Attributes that
    the body takes from the call are filled in; one that neither the call nor a default gives is left out, as are
    inputs. A function stays a function where its operator sets are not the model's, and where the target has an
    operator of that name. Linear in the nodes that come out.
    """

    cost: ClassVar[str] = "Linear in the nodes of the result."
    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        if not model.functions:
            return 0
        own: frozenset[str] = getattr(context.target, "own_operators", frozenset())
        calls = [(node, 0) for node in model.graph.all_nodes()]
        count = 0
        while calls:
            call, depth = calls.pop()
            function = model.functions.get((call.domain, call.op_type, call.overload))
            if function is None or call.graph is None or f"{call.domain}:{call.op_type}" in own:
                continue
            why = _objection(function, model, depth)
            if why:
                context.trace.missed(self.name, call, why, 1, refused=True)
            elif context.permit(self.name, call):
                name, made = label(call), _inline(call, function)
                model.opsets = function.opsets | model.opsets
                context.trace.rewrites.append(Rewrite(self.name, (name,), tuple(label(node) for node in made)))
                calls.extend((node, depth + 1) for node in _with_inner(made))
                count += 1
        return count


def _objection(function: Function, model: Model, depth: int) -> str:
    """Why calls of ``function`` have to stay; empty when they need not."""
    if depth >= _DEPTH:
        return "functions call each other without an end"
    for domain, version in function.opsets.items():
        if model.opsets.get(domain, version) != version:
            title = domain or "ai.onnx"
            return f"its body is written in version {version} of '{title}', the model in {model.opsets[domain]}"
    return ""


def _inline(call: Node, function: Function) -> list[Node]:
    """Copies of the body's nodes in front of ``call``, which goes; they take what the call takes."""
    graph = call.graph
    assert graph is not None
    mapping: dict[Value, Value] = {}
    left_out: set[Value] = set()
    stem = call.name or next((value.name for value in call.outputs if value.name), call.op_type)
    for position, formal in enumerate(function.graph.inputs):
        actual = call.input(position)
        if actual is not None:
            mapping[formal] = actual
        else:
            left_out.add(formal)
    for value in function.graph.constants:
        mapping[value] = graph.add_constant(Value(_inner(stem, value.name), value.type, value.const))
    made = []
    for node in function.graph:
        copy = clone_node(node, mapping)
        for inner in _with_inner([copy]):
            for place, taken in enumerate(inner.inputs):
                if taken in left_out:
                    inner.set_input(place, None)
            _fill_in(inner, call, function)
            inner.name = _inner(stem, inner.name)
            for value in inner.outputs:
                value.name = _inner(stem, value.name)
        held = constant_of(copy.attrs) if copy.is_op("Constant") else None
        if held is not None:
            (given,) = node.outputs
            mapping[given] = graph.add_constant(held, _inner(stem, given.name))
        else:
            made.append(graph.insert_before(call, copy))
    for old, formal in zip(call.outputs, function.graph.outputs, strict=False):
        if old.uses and formal in mapping:
            holder = replace_value(old, mapping[formal])
            made += [holder] if holder is not None else []
    if not any(value.uses for value in call.outputs):
        graph.remove(call)
    return made


def _fill_in(node: Node, call: Node, function: Function) -> None:
    """Give the attributes that refer to the call's the values that they have there."""
    for key, attr in list(node.attrs.items()):
        if attr.ref:
            given: Attr | None = call.attrs.get(attr.ref, function.defaults.get(attr.ref))
            if given is None:
                del node.attrs[key]
            else:
                node.attrs[key] = replace(given, doc=attr.doc)


def _with_inner(nodes: Iterable[Node]) -> list[Node]:
    """``nodes`` and everything nested in them."""
    found: list[Node] = []
    for node in nodes:
        found.append(node)
        graphs: list[Graph] = list(node.subgraphs())
        found.extend(inner for graph in graphs for inner in graph.all_nodes())
    return found


def _inner(stem: str, name: str) -> str:
    return f"{stem}/{name}" if name else ""
