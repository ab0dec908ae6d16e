"""The invariants of the IR. Whoever changes a graph may ask whether they still hold."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.errors import VerifyError
from qcompiler.ir.graph import Graph, Node, Value
from qcompiler.ir.model import Model
from qcompiler.ir.text import format_node

__all__ = ["surroundings", "verify"]


def verify(model: Model) -> None:
    """Check every graph of ``model`` in linear time.

    Every input of a node is a value in scope that was defined before it; uses and inputs mirror each other;
    producers and outputs mirror each other; order labels grow; constants have elements of the type they claim.
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


Standing = dict[Graph, tuple[Value, ...]]
"""The graphs that belong to the model, with their outputs."""


class _Scope:
    """A graph on the way down: the nodes yet to come, the node in hand and its subgraphs, what is in scope by it."""

    __slots__ = ("graph", "inner", "mine", "node", "nodes")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = iter(graph)
        self.node: Node | None = None
        self.inner: Iterator[Graph] = iter(())
        self.mine: list[Value] = [*graph.inputs, *(value for value in graph.constants if not value.is_input)]


def _verify_scope(top: Graph) -> None:
    standing = {graph: graph.outputs for graph in top.all_graphs()}
    defined: set[Value] = set()
    stack = [_enter(top, defined, standing)]
    while stack:
        scope = stack[-1]
        inner = next(scope.inner, None)
        if inner is not None:
            stack.append(_enter(inner, defined, standing))
            continue
        if scope.node is not None:  # its outputs come into scope behind it, not in its own subgraphs
            defined.update(scope.node.outputs)
            scope.mine.extend(scope.node.outputs)
        previous, scope.node = scope.node, next(scope.nodes, None)
        if scope.node is not None:
            _verify_node(scope.node, previous, scope.graph, defined, standing)
            if scope.node.attrs:
                scope.inner = scope.node.subgraphs()
        else:
            _verify_outputs(scope.graph, defined)
            defined.difference_update(scope.mine)  # what a graph defines goes out of scope with it
            stack.pop()


def _enter(graph: Graph, defined: set[Value], standing: Standing) -> _Scope:
    scope = _Scope(graph)
    for value in scope.mine:
        if value.graph is not graph:
            raise VerifyError(f"{value!r} stands in graph '{graph.name}' but belongs to another")
        if value.producer is not None:
            raise VerifyError(f"{value!r} has no producer in graph '{graph.name}', yet names {value.producer!r}")
        stray = _stray_use(value, standing)
        if stray:
            raise VerifyError(f"{value!r} of graph '{graph.name}' {stray}")
    for value in graph.constants:
        if value.const is None:
            raise VerifyError(f"constant {value!r} of graph '{graph.name}' has no elements")
        if value.dtype is not None and value.dtype is not value.const.dtype:
            raise VerifyError(f"constant {value!r} is typed {value.dtype.name} but holds {value.const.dtype.name}")
    defined.update(scope.mine)
    return scope


def _verify_outputs(graph: Graph, defined: set[Value]) -> None:
    for position, value in enumerate(graph.outputs):
        if value not in defined:
            raise VerifyError(f"output {position} of graph '{graph.name}' ({value!r}) is not defined in it")
        if (graph, position) not in value.uses:
            raise VerifyError(f"output {position} of graph '{graph.name}' is no use of {value!r}")


def _verify_node(node: Node, previous: Node | None, graph: Graph, defined: set[Value], standing: Standing) -> None:
    def fail(what: str) -> VerifyError:
        return VerifyError(f"{node!r} {what} in graph '{graph.name}':\n{surroundings(node)}".replace("\n", " | "))

    if node.graph is not graph:
        raise fail("is linked into a graph that it does not claim")
    if previous is not None and not previous.before(node):
        raise fail(f"has an order label that is not above that of {previous!r}")
    if node.attrs and (node in graph._holders) != (next(node.subgraphs(), None) is not None):
        raise fail("got or lost a subgraph while it stood")
    for position, value in enumerate(node._inputs):
        if value is None:
            continue
        if (node, position) not in value.uses:
            raise fail(f"takes {value!r} as input {position}, which does not list the use")
        if value not in defined:
            raise fail(f"takes {value!r} as input {position} before it is defined or out of its scope")
    for index, value in enumerate(node._outputs):
        if value.producer is not node or value.index != index:
            raise fail(f"gives {value!r} as output {index}, which names another producer")
        stray = _stray_use(value, standing)
        if stray:
            raise fail(f"gives {value!r}, which {stray}")


def _stray_use(value: Value, standing: Standing) -> str:
    """What is wrong with the uses that ``value`` lists, in words; empty when each of them is there."""
    given = 0
    for user, place in value.uses:
        if isinstance(user, Node):
            taken, stands = user._inputs, user.graph in standing
        else:
            taken, stands = standing.get(user, ()), True
            given += 1
        if not stands or place >= len(taken) or taken[place] is not value:
            return f"lists a use by {user!r} that is not there"
    return "" if given == value.output_uses else f"is an output {given} times and counts {value.output_uses}"
