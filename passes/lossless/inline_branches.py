"""Branches that are always taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.ir import Graph, Model, Node
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, erase_dead, label, replace_value

__all__ = ["InlineConstantBranches"]


@dataclass(frozen=True)
class InlineConstantBranches(Pass):
    """Replace an If whose condition is a constant by the branch that it takes (ONNX, If-1 and later).

    Nested ones too: what the outer branch decides is decided first. The other branch goes, with all that only it
    took. An If in a function whose condition the caller gives stays. Linear in the nodes.
    """

    cost: ClassVar[str] = "Linear in the nodes."
    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        for top in (model.graph, *(function.graph for function in model.functions.values())):
            graphs = [top]
            while graphs:
                graph = graphs.pop()
                for node in graph:  # what was moved in front of a node has been passed: its own Ifs come from here
                    count += self._settle(graph, node, context)
                graphs.extend(inner for node in graph for inner in node.subgraphs())
        return count

    def _settle(self, graph: Graph, node: Node, context: PassContext) -> int:
        """Inline ``node`` if it is an If that is decided, and the Ifs that come out of it; how many."""
        count = 0
        waiting = [node]
        while waiting:
            current = waiting.pop()
            branch = self._taken(current, context)
            if branch is None or not context.permit(self.name, current):
                continue
            name = label(current)
            inner = [each for each in branch if each.is_op("If")]
            moved = tuple(label(each) for each in branch)
            for old, new in zip(current.outputs, graph.inline_before(current, branch), strict=True):
                replace_value(old, new)
            erase_dead([current], matched=[current])
            context.trace.rewrites.append(Rewrite(self.name, (name,), moved))
            waiting.extend(reversed(inner))
            count += 1
        return count

    def _taken(self, node: Node, context: PassContext) -> Graph | None:
        if not node.is_op("If") or node.graph is None:
            return None
        condition = node.input(0)
        held = condition.constant if condition is not None else None
        if held is None:
            context.trace.missed(
                self.name, node, "its condition is computed at run time or can be overridden", 1, refused=True
            )
            return None
        branch = node.attrs["then_branch" if held.numpy().reshape(-1)[0] else "else_branch"]
        return None if branch.ref else branch.value
