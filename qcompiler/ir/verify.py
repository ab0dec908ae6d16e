"""The invariants of the IR. Whoever changes a graph may ask whether they still hold."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.errors import VerifyError
from qcompiler.ir.graph import Graph, Model, Node, Value
from qcompiler.ir.text import format_node

__all__ = ["surroundings", "verify"]


def verify(model: Model) -> None:
    """Check every graph of ``model`` in linear time.

    Every input of a node is a value in scope that was defined before it; uses and inputs mirror each other;
    producers and outputs mirror each other; constants have elements of the type they claim.
    Raises VerifyError naming the first violation, the node, and up to ten nodes around it.
    """
    _verify_scope(model.graph)
    for function in model.functions.values():
        _verify_scope(function.graph)


def surroundings(node: Node, count: int = 10) -> str:
    """The text of up to ``count`` nodes around ``node``, which is marked with an arrow."""
    nodes = [node]
    left, right = node._prev, node._next
    while len(nodes) < count and (left is not None or right is not None):
        if left is not None:
            nodes.insert(0, left)
            left = left._prev
        if right is not None and len(nodes) < count:
            nodes.append(right)
            right = right._next
    return "\n".join(("-> " if each is node else "   ") + format_node(each) for each in nodes)


def _verify_scope(top: Graph) -> None:
    defined: set[Value] = set()
    # (graph, its nodes, the values it defined), innermost last: what a graph defines goes out of scope with it.
    stack: list[tuple[Graph, Iterator[Node], list[Value]]] = [_enter(top, defined)]
    while stack:
        graph, nodes, mine = stack[-1]
        pending: list[Graph] = []
        for node in nodes:
            _verify_node(node, graph, defined)
            pending = list(node.subgraphs())
            for value in node.outputs:
                defined.add(value)
                mine.append(value)
            if pending:
                break
        else:
            for position, value in enumerate(graph.outputs):
                if value not in defined:
                    raise VerifyError(f"output {position} of graph '{graph.name}' ({value.name or '?'}) is not defined in it")
                if (graph, position) not in value.uses:
                    raise VerifyError(f"output {position} of graph '{graph.name}' is missing among the uses of {value!r}")
            defined.difference_update(mine)
            stack.pop()
        stack.extend(_enter(sub, defined) for sub in reversed(pending))


def _enter(graph: Graph, defined: set[Value]) -> tuple[Graph, Iterator[Node], list[Value]]:
    mine = [*graph.inputs, *(value for value in graph.constants if not value.is_input)]
    for value in mine:
        if value.graph is not graph:
            raise VerifyError(f"{value!r} stands in graph '{graph.name}' but belongs to another")
        if value.producer is not None:
            raise VerifyError(f"{value!r} is an input or constant of graph '{graph.name}' and yet made by {value.producer!r}")
    for value in graph.constants:
        if value.const is None:
            raise VerifyError(f"constant {value!r} of graph '{graph.name}' has no elements")
        if value.dtype is not None and value.dtype is not value.const.dtype:
            raise VerifyError(f"constant {value!r} is typed {value.dtype.name} but holds {value.const.dtype.name}")
    defined.update(mine)
    return graph, iter(graph), mine


def _verify_node(node: Node, graph: Graph, defined: set[Value]) -> None:
    def fail(what: str) -> VerifyError:
        return VerifyError(f"{node!r} {what} in graph '{graph.name}':\n{surroundings(node)}".replace("\n", " | "))

    if node.graph is not graph:
        raise fail("is linked into a graph that it does not claim")
    for position, value in enumerate(node.inputs):
        if value is None:
            continue
        if (node, position) not in value.uses:
            raise fail(f"takes {value!r} as input {position}, which does not list the use")
        if value not in defined:
            raise fail(f"takes {value!r} as input {position} before it is defined or out of its scope")
    for index, value in enumerate(node.outputs):
        if value.producer is not node or value.index != index:
            raise fail(f"gives {value!r} as output {index}, which names another producer")
        if value in defined:
            raise fail(f"defines {value!r} a second time")
        for user, place in value.uses:
            taken = user.inputs if isinstance(user, Node) else user.outputs
            if place >= len(taken) or taken[place] is not value:
                raise fail(f"gives {value!r}, which lists a use by {user!r} that is not there")
