"""Equal constants become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Tensor, Value
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, drop_constant_if_unused, label

__all__ = ["ShareEqualWeights"]

_HEAD = 4096  # bytes that are compared first: most tensors of one shape differ in them, and the rest is never read


@dataclass(frozen=True)
class ShareEqualWeights(Pass):
    """Constants of the same type, shape and bytes become one value; where scopes forbid that, one tensor.

    A constant is replaced by an equal one of its own graph or of a graph around it. Two that live in graphs which do
    not see each other (the branches of an If) keep their values but share the tensor, which a file with external
    data stores once. Zero and minus zero differ; a NaN equals the same NaN. What a caller may override, what is an
    output, and what bears quantization of its own is left alone.

    Tensors are read only when another has their type and shape, and as a whole only when the first bytes agree.
    """

    cost: ClassVar[str] = "Linear in the bytes of the constants, of which those of equal type and shape are read."
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        for graph in (model.graph, *(function.graph for function in model.functions.values())):
            count += self._scope(graph, context)
        return count

    def _scope(self, top: Graph, context: PassContext) -> int:
        values = [value for graph in top.all_graphs() for value in graph.constants if value.constant is not None]
        first: dict[bytes, Value] = {}
        first_in: dict[tuple[Graph, bytes], Value] = {}
        count = 0
        for value, digest in _digests(values):
            if not value.uses or value.graph is None or value.quant is not None:
                continue
            scopes = ((graph, digest) for graph in _around(value.graph))
            there = next((first_in[scope] for scope in scopes if scope in first_in), None)
            if there is None:
                first_in[value.graph, digest] = value
                original = first.setdefault(digest, value)
                value.const = original.const
                continue
            if value.output_uses:
                continue
            user = value.users()[0]
            if not context.permit(self.name, user):
                continue
            before, after = f"constant {value.name} of {label(user)}", f"constant {there.name}"
            context.trace.rewrites.append(Rewrite(self.name, (before,), (after,)))
            value.replace_uses(there)
            drop_constant_if_unused(value)
            count += 1
        return count


def _digests(values: list[Value]) -> Iterator[tuple[Value, bytes]]:
    """The values that may have an equal among them, in order, with a digest that equal ones share."""
    tensors = {id(value.const): value.const for value in values if isinstance(value.const, Tensor)}
    alike = Counter((held.dtype, held.shape) for held in tensors.values())
    heads = {key: _head(held) for key, held in tensors.items() if alike[held.dtype, held.shape] > 1}
    same_head = Counter(heads.values())
    digests: dict[int, bytes] = {}
    uses = Counter(id(value.const) for value in values)
    for value in values:
        key = id(value.const)
        if key in heads and same_head[heads[key]] > 1:
            if key not in digests:
                digests[key] = tensors[key].digest()
            yield value, digests[key]
        elif uses[key] > 1:  # values of one and the same tensor: equal without a look at it
            yield value, key.to_bytes(8, "little")


def _head(held: Tensor) -> tuple[DType, tuple[int, ...], bytes]:
    if held.dtype is DType.STRING:
        return held.dtype, held.shape, held.digest()
    return held.dtype, held.shape, bytes(memoryview(held.data())[:_HEAD])


def _around(graph: Graph) -> Iterator[Graph]:
    """``graph`` and those that enclose it, innermost first."""
    inner: Graph | None = graph
    while inner is not None:
        yield inner
        inner = inner.owner.graph if inner.owner is not None else None
