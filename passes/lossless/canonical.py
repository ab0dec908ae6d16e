"""One spelling for what can be spelled in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qcompiler.ir import Graph, Model, Node
from qcompiler.onnx_io import attribute_defaults
from qcompiler.ops import info
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, label

__all__ = ["Canonicalize"]


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Attributes that say what holds anyway are dropped, and a constant stands behind what is computed.

    The defaults are those of the operator set that the model is written in. Inputs change places where a commutative
    operator takes two and only the first is a constant. No node comes or goes; linear in the nodes.
    """

    cost: ClassVar[str] = "Linear in the nodes."
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        for graph, opsets in _graphs(model):
            for node in graph:
                usual = attribute_defaults(node.op_type, node.domain, opsets.get(node.domain, 0))
                said = [key for key, attr in node.attrs.items() if not attr.ref and usual.get(key) == attr.value]
                turned = _constant_first(node)
                if not (said or turned) or not context.permit(self.name, node):
                    continue
                for key in said:
                    del node.attrs[key]
                node.touch()
                if turned:
                    node.resize_inputs(reversed(node.inputs))
                context.trace.rewrites.append(Rewrite(self.name, (label(node),), (label(node),)))
                count += 1
        return count


def _graphs(model: Model) -> Iterator[tuple[Graph, dict[str, int]]]:
    """Every graph with the operator sets that hold in it."""
    for graph in model.graph.all_graphs():
        yield graph, model.opsets
    for function in model.functions.values():
        for graph in function.graph.all_graphs():
            yield graph, function.opsets


def _constant_first(node: Node) -> bool:
    known = info(node)
    if known is None or not known.commutative or len(node.inputs) != 2:
        return False
    first, second = node.inputs
    return first is not None and second is not None and first.constant is not None and second.constant is None
