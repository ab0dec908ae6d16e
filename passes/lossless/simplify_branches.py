"""If: fewer of them, and less around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qcompiler.ir import Graph, Model, Node, Value, dependencies
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, erase_dead, label, replace_value

__all__ = ["SimplifyBranches"]

_BRANCHES = ("then_branch", "else_branch")
_VIEWS = ("Identity", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class SimplifyBranches(Pass):
    """If of Not becomes If with its branches changed; Ifs of one condition become one; what counts axes anew behind an
    If goes into its branches, where that is what ends them.

    Exporters write an If for every ``squeeze`` of an axis that may be one; a runtime sets up each by itself. Exact.
    Linear in the nodes, but for Ifs nested in each other, of which each is looked at once a level.
    """

    cost: ClassVar[str] = "Linear in the nodes, but for Ifs within Ifs."
    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        for graph in list(model.graphs()):
            for node in graph:
                if node.is_op("If"):
                    count += self._without_not(node, context)
                    count += self._take_in(graph, node, context)
            count += self._merge(graph, context)
        return count

    def _without_not(self, node: Node, context: PassContext) -> int:
        """If(Not(c), a, b) is If(c, b, a)."""
        maker = node.inputs[0].producer if node.inputs[0] is not None else None
        if maker is None or not maker.is_op("Not") or not _plain(node) or not context.permit(self.name, node):
            return 0
        node.set_input(0, maker.inputs[0])
        first, second = _BRANCHES
        node.attrs[first], node.attrs[second] = node.attrs[second], node.attrs[first]
        node.touch()
        name = label(maker)
        erase_dead([maker])
        context.trace.rewrites.append(Rewrite(self.name, (label(node), name), (label(node),)))
        return 1

    def _take_in(self, graph: Graph, node: Node, context: PassContext) -> int:
        """Squeeze or Unsqueeze of an output of ``node`` that nobody else takes becomes the end of each branch."""
        count = 0
        for index, value in enumerate(node.outputs):
            user = value.users()[0] if len(value.uses) == 1 and value.users() else None
            if user is None or user.graph is not graph or not user.is_op(*_VIEWS[1:]) or user.inputs[0] is not value:
                continue
            if any(other is not None and other.constant is None for other in user.inputs[1:]):
                continue
            if not _plain(node) or not _ends_in_a_view(node, index) or not context.permit(self.name, user):
                continue
            name = label(user)
            for branch in (node.attr(each) for each in _BRANCHES):
                taken = branch.outputs[index]
                end = Node(user.op_type, [taken, *user.inputs[1:]], user.attrs, name=user.name)
                branch.append(end)
                end.output.name, taken.name = taken.name, ""
                branch.set_output(index, end.output)
            value.type = user.output.type
            replace_value(user.output, value)
            erase_dead([user])
            context.trace.rewrites.append(Rewrite(self.name, (label(node), name), (label(node),)))
            count += 1
        return count

    def _merge(self, graph: Graph, context: PassContext) -> int:
        """Two Ifs of one condition are one, if what the later takes was there before the earlier."""
        count = 0
        first: dict[Value, Node] = {}
        for node in graph:
            condition = node.input(0)
            if not node.is_op("If") or not _plain(node) or condition is None:
                continue
            earlier = first.get(condition)
            if earlier is None or not _ready_before(node, earlier) or not context.permit(self.name, node):
                first[condition] = node
                continue
            names = label(earlier), label(node)
            first[condition] = _merged(graph, earlier, node)
            context.trace.rewrites.append(Rewrite(self.name, names, (label(first[condition]),)))
            count += 1
        return count


def _plain(node: Node) -> bool:
    """True when both branches are there, with nodes in them."""
    branches = [node.attrs.get(name) for name in _BRANCHES]
    return all(branch is not None and not branch.ref and len(branch.value) for branch in branches)


def _ends_in_a_view(node: Node, index: int) -> bool:
    """True when each branch gives output ``index`` from a node that another view behind it merges with."""
    waiting = [(node, index)]
    while waiting:
        current, place = waiting.pop()
        for branch in (current.attr(name) for name in _BRANCHES):
            value = branch.outputs[place]
            maker = value.producer
            if maker is None or maker.graph is not branch or len(value.uses) > 1:
                return False
            if maker.is_op("If") and _plain(maker):
                waiting.append((maker, value.index))
            elif not maker.is_op(*_VIEWS):
                return False
    return True


def _ready_before(node: Node, earlier: Node) -> bool:
    """True when nothing that ``node`` takes is computed behind ``earlier``, or by it."""
    graph = node.graph
    makers = (value.producer for value in dependencies(node))
    return all(maker is None or maker.graph is not graph or maker.before(earlier) for maker in makers)


def _merged(graph: Graph, earlier: Node, later: Node) -> Node:
    """One If in the place of ``earlier`` that gives what both give."""
    for name in _BRANCHES:
        home, branch = earlier.attr(name), later.attr(name)
        last = next(reversed(home))
        for value in home.inline_before(last, branch):
            home.add_output(value)
    branches = dict(earlier.attrs)
    earlier.attrs.clear()  # the graphs have another owner now, and must not be let go of with this node
    count = len(earlier.outputs)
    made = Node("If", earlier.inputs, branches, outputs=count + len(later.outputs), name=earlier.name)
    graph.insert_before(earlier, made)
    for old, new in zip(_outputs(earlier, later), made.outputs, strict=True):
        new.type = old.type
        if old.uses:
            replace_value(old, new)
    graph.remove(earlier)
    graph.remove(later)
    return made


def _outputs(*nodes: Node) -> Iterator[Value]:
    for node in nodes:
        yield from node.outputs
