"""What nobody uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.ir import Model, Node
from qcompiler.ops import is_pure
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, drop_constant_if_unused, erase_dead, label

__all__ = ["RemoveDeadCode"]


@dataclass(frozen=True)
class RemoveDeadCode(Pass):
    """Remove nodes without a use, constants without a use, and functions that nobody calls.

    Only what is pure goes: an operator that is not in the table may have an effect, and a call of one is kept. Inputs
    of the model stay whether used or not. Linear: nodes are visited once, last first, so a chain dies in one sweep.
    """

    cost: ClassVar[str] = "Linear in the nodes."
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        graphs = list(model.graphs())
        for graph in reversed(graphs):  # inner graphs first: what they let go of may die outside
            for node in reversed(graph):
                if node.graph is None or any(value.uses for value in node.outputs) or not is_pure(node):
                    continue
                if context.permit(self.name, node):
                    name, removed = label(node), list[Node]()
                    erase_dead([node], removed)
                    context.trace.rewrites.append(Rewrite(self.name, (name,), ()))
                    count += len(removed)
        for graph in graphs:
            for value in list(graph.constants):
                count += drop_constant_if_unused(value)
        return count + self._functions(model, context)

    def _functions(self, model: Model, context: PassContext) -> int:
        called: set[tuple[str, str, str]] = set()
        waiting = [model.graph]
        while waiting:
            for node in waiting.pop().all_nodes():
                key = node.domain, node.op_type, node.overload
                if key in model.functions and key not in called:
                    called.add(key)
                    waiting.append(model.functions[key].graph)
        dead = [key for key in model.functions if key not in called]
        for domain, name, overload in dead:
            # A function is no node; this one stands for it in the trace. Nothing runs it, so no permit is asked.
            context.trace.rewrites.append(Rewrite(self.name, (label(Node("Function", name=f"{domain}:{name}")),), ()))
            del model.functions[domain, name, overload]
        return len(dead)
