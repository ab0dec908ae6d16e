"""The few ways in which a graph is changed. Rules and passes alike go through them, so the promises live here once:
graph outputs keep their names, a dead node lets go of what it took, nothing with an effect is dropped."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from qcompiler.ir import Graph, Node, Value, dependencies
from qcompiler.ops import is_pure

__all__ = ["can_replace", "drop_constant_if_unused", "erase_dead", "replace_value"]


def can_replace(old: Value, new: Value) -> bool:
    """True when ``new`` can take the place of ``old`` without an Identity to hold an output's name."""
    if not old.output_uses:
        return True
    if new.is_input or new.output_uses or new.graph is not None:
        return False
    owner = _graph_of(old)
    return new.producer is not None and new.producer.graph is owner


def replace_value(old: Value, new: Value) -> Node | None:
    """Everyone takes ``new`` instead of ``old``; if ``old`` is a graph output, ``new`` takes over its name.

    Where it cannot (it is an input, a constant, another output, or lives in another graph) an Identity does, and is
    returned. Types that only ``old`` knew pass to ``new``.
    """
    holder: Node | None = None
    if old.output_uses:
        if not can_replace(old, new):
            graph = _graph_of(old)
            holder = Node("Identity", [new], outputs=1)
            graph.insert_after(_last_before_use(old, new, graph), holder)
            holder.output.type = new.type
            for user, position in list(old.uses):
                if isinstance(user, Node):
                    user.set_input(position, new)
            new = holder.output
        new.name, old.name = old.name, ""
        new.doc = new.doc or old.doc
        new.metadata = old.metadata | new.metadata
        new.type = old.type if old.type is not None else new.type
    elif not new.name:
        new.name, old.name = old.name, ""
    if new.type is None:
        new.type = old.type
    old.replace_uses(new)
    return holder


def erase_dead(nodes: Iterable[Node], removed: list[Node] | None = None, matched: Collection[Node] = ()) -> list[Value]:
    """Remove those of ``nodes`` that nobody uses, and whatever dies with them, constants included.

    ``removed`` receives the nodes that went. Returns the values that lost a use and live on.
    Linear in what is removed. A node that is not pure stays, unless it is one of ``matched``: whoever replaces a
    node by name knows what it does.
    """
    touched: dict[Value, None] = {}
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node.graph is None or _is_used(node) or (node not in matched and not is_pure(node)):
            continue
        needed = tuple(dependencies(node)) if node.attrs else node.inputs
        node.graph.remove(node)
        if removed is not None:
            removed.append(node)
        for value in needed:
            if value is None:
                continue
            touched[value] = None
            if value.producer is not None:
                stack.append(value.producer)
            else:
                drop_constant_if_unused(value)
    return [value for value in touched if value.uses]


def _is_used(node: Node) -> bool:
    return any(value.uses for value in node.outputs)


def drop_constant_if_unused(value: Value) -> bool:
    """Forget a constant that nobody takes and no caller can see. True when it went."""
    if value.uses or value.graph is None or value.is_input or value not in value.graph.constants:
        return False
    value.graph.remove_constant(value)
    return True


def _graph_of(value: Value) -> Graph:
    """The graph that gives ``value`` as an output."""
    return next(user for user, _ in value.uses if isinstance(user, Graph))


def _last_before_use(old: Value, new: Value, graph: Graph) -> Node | None:
    """The node behind which a copy of ``new`` under the name of ``old`` can stand; None for the very front."""
    makers = [v.producer for v in (old, new) if v.producer is not None and v.producer.graph is graph]
    if len(makers) == 2 and makers[0].before(makers[1]):
        return makers[1]
    return makers[0] if makers else None
