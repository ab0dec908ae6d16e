"""Nodes that depend on nothing but constants are computed once, here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from qcompiler.ir import Graph, Model, Node, Tensor, TensorType, Value
from qcompiler.onnx_io import infer_types
from qcompiler.passes.lossless.evaluate import evaluate
from qcompiler.passes.lossless.fold_cost import foldable, result_bytes, value_bytes, work
from qcompiler.passes.lossless.shape_values import sizes_told
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, erase_dead, label, replace_value

__all__ = ["FoldConstants"]

_WAVES = 10  # each may teach shapes that make more nodes constant; real models need two or three


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace what is computed from constants by its result, and sizes that are known by numbers.

    Exact: onnxruntime computes the results, as it would at run time. Bounded: a node is left alone when its result
    takes more than ``max_bytes`` or about ``max_work`` elements read, written or multiplied, and whole groups of
    nodes are, when their results would take more than the constants that they free and ``allowance`` bytes each. So
    an Expand of one number to millions stays, and a Transpose of a weight goes.

    Not touched: what may be random, operators with subgraphs or unknown to the table, quantization, results of
    unknown size, whatever onnxruntime fails to compute, and functions, whose values have no types. Linear in the nodes.
    """

    max_bytes: int = 1 << 28
    max_work: int = 1 << 27
    allowance: int = 1024
    cost: ClassVar[str] = "Linear in the nodes, and the time of computing once what is folded."
    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        total = 0
        for _ in range(_WAVES):
            plan = _Plan(self, model.graph, context)
            changed = plan.carry_out(model.opsets)
            total += changed
            if not changed or not plan.unclear:
                break
            infer_types(model)
        return total


@dataclass
class _Plan:
    """What is to be folded in a graph and those nested in it.

    ``told`` are values that types alone determine, ``folded`` the nodes to compute, in order. ``unclear`` is set when
    some size was not known that may be after this wave.
    """

    limits: FoldConstants
    graph: Graph
    context: PassContext
    told: dict[Value, Tensor] = field(default_factory=dict)
    folded: dict[Node, None] = field(default_factory=dict)
    unclear: bool = False

    def __post_init__(self) -> None:
        shapes: dict[Value, tuple[int | str | None, ...]] = {}
        for node in self.graph.all_nodes():
            elements = sizes_told(node, shapes)
            if elements is not None:
                self.told[node.output] = elements
                continue
            self.unclear |= node.is_op("Shape", "Size")
            taken = [value for value in node.inputs if value is not None]
            if taken and all(map(self._is_known, taken)) and foldable(node) and self._affordable(node):
                self.folded[node] = None
        self._keep_within_bounds()

    def carry_out(self, opsets: Mapping[str, int]) -> int:
        """Compute and replace; how many values became constants."""
        rule, context = self.limits.name, self.context
        wanted = [value for node in self.folded for value in node.outputs if self._leaves(value)]
        results = {value: held for value, held in self.told.items() if self._leaves(value)}
        results |= evaluate(wanted, self.told, opsets)
        for value in wanted:
            if value not in results and value.producer is not None:
                context.trace.missed(rule, value.producer, "onnxruntime cannot compute it", 1, refused=True)
        count = 0
        for value, held in results.items():
            node = value.producer
            if node is None or node.graph is None or value.dtype not in (None, held.dtype):
                continue
            if not context.permit(rule, node):
                continue
            name = label(node)
            constant = node.graph.add_constant(Value(type=TensorType(held.dtype, held.shape), const=held))
            replace_value(value, constant)
            erase_dead([node])
            context.trace.rewrites.append(Rewrite(rule, (name,), (f"constant {constant.name}",)))
            count += 1
        return count

    def _affordable(self, node: Node) -> bool:
        size, effort = result_bytes(node), work(node)
        if size is None or effort is None:
            self.unclear |= size is None
            why = "the size of its result, or the work that it is, cannot be told"
        elif size > self.limits.max_bytes:
            why = f"its result of {size} bytes is over the limit"
        elif effort > self.limits.max_work:
            why = f"it is too much work (about {effort} steps)"
        elif sum(value.is_output for value in node.outputs) > 1:
            why = "each of its results is an output of the graph and would need a node to name it"
        else:
            # An Identity that gives an output its name is as cheap as that can be.
            return not (node.is_op("Identity") and node.output.output_uses)
        self.context.trace.missed(self.limits.name, node, why, 1, refused=True)
        return False

    def _keep_within_bounds(self) -> None:
        """Drop nodes from the plan until no group of them makes the model grow by more than its allowance.

        A group is what hangs together by results and by constants worth counting; its allowance is one for each value
        that somebody else takes. Where one is refused as a whole, its nodes are looked at one by one: each may add an
        allowance to what it alone takes from.
        """
        members: dict[Node, list[Node]] = {}
        for node, root in self._groups().items():
            members.setdefault(root, []).append(node)
        allowance = self.limits.allowance
        refused: set[Node] = set()
        for group in members.values():
            made = [value for node in group for value in node.outputs if self._leaves(value)]
            if self._growth(group, made) > allowance * len(made):
                refused.update(group)
        for node in [node for node in self.folded if node in refused]:
            inputs = dict.fromkeys(value for value in node.inputs if value is not None)
            freed = sum(value_bytes(value) or 0 for value in inputs if all(user is node for user, _ in value.uses))
            growth = (result_bytes(node) or 0) - freed
            if growth > allowance:
                self.context.trace.missed(
                    self.limits.name, node, f"the model would grow by {growth} bytes", 1, refused=True
                )
            if growth > allowance or not all(map(self._is_known, inputs)):
                del self.folded[node]

    def _is_known(self, value: Value) -> bool:
        return value in self.told or value.constant is not None or value.producer in self.folded

    def _groups(self) -> dict[Node, Node]:
        """Each node of the plan with one that stands for its group (union-find)."""
        parent = {node: node for node in self.folded}

        def root(node: Node) -> Node:
            while parent[node] is not node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        taken_by: dict[Value, Node] = {}
        for node in self.folded:
            for value in node.inputs:
                if value is None or value in self.told or not self._counts(value):
                    continue
                other = value.producer if value.producer in parent else taken_by.setdefault(value, node)
                if other is not None:
                    parent[root(node)] = root(other)
        return {node: root(node) for node in self.folded}

    def _growth(self, group: list[Node], made: list[Value]) -> int:
        """Bytes that ``made`` takes beyond the constants that ``group`` takes and nobody needs any more."""
        taken = dict.fromkeys(value for node in group for value in node.inputs if value is not None)
        freed = sum(
            value.constant.nbytes
            for value in taken
            if value.constant is not None and self._counts(value) and not self._leaves(value)
        )
        return sum(value_bytes(value) or 0 for value in made) - freed

    def _leaves(self, value: Value) -> bool:
        """True when somebody who stays takes ``value``."""
        return any(
            not isinstance(user, Node) or not (user in self.folded or any(made in self.told for made in user.outputs))
            for user, _ in value.uses
        )

    def _counts(self, value: Value) -> bool:
        """False for a constant so small that the allowance covers it."""
        return value.constant is None or value.constant.nbytes > self.limits.allowance
