"""Arithmetic on sizes that no longer needs to be done, whether they are numbers or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.ir import Model, Node, Value
from qcompiler.passes.lossless.known import integers, listed
from qcompiler.passes.lossless.origins import axis_taken, is_name, origin, same_name, same_size, size_of
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import (
    Match,
    Rewrite,
    Rewriter,
    const,
    erase_dead,
    label,
    maybe,
    op,
    replace_value,
    rest,
    rule,
)

__all__ = ["SimplifySizes"]


@rule(lambda s, i, axes: op.Unsqueeze(op.Gather(s, const(i)), maybe(axes)))
def gather_with_its_axis(rw: Rewriter, m: Match) -> Any:
    """One element taken from a list and made a list again is Gather with a list of one index."""
    if m.bindings["i"].rank != 0 or m.s.rank != 1 or listed(m.Unsqueeze, "axes", 1) not in ((0,), (-1,)):
        return m.no("it does not take one element of a list")
    return rw.op.Gather(m.s, m.array("i").reshape(1), **m.Gather.attrs)


@rule(lambda x, i: op.Gather(op.Shape(x, _shared=True), const(i)))
def gather_of_shape(rw: Rewriter, m: Match) -> Any:
    """One size out of a shape, as a list, is Shape from that axis to the next (ONNX, Shape-15)."""
    index = integers(m.bindings["i"])
    if m.bindings["i"].rank != 1 or index is None or len(index) != 1 or m.Shape.attrs:
        return m.no("it does not take one size as a list, or of a part of the shape")
    return _part(rw, m.x, index[0])


@rule(lambda x, a, b, axes, steps: op.Slice(op.Shape(x, _shared=True), const(a), const(b), maybe(axes), maybe(steps)))
def slice_of_shape(rw: Rewriter, m: Match) -> Any:
    """A part of a shape is Shape with ``start`` and ``end`` (ONNX, Shape-15)."""
    start, end, steps = integers(m.bindings["a"]), integers(m.bindings["b"]), listed(m.Slice, "steps", 4) or (1,)
    if m.Shape.attrs or start is None or end is None or len(start) != 1 or steps != (1,):
        return m.no("it does not take sizes in a row, or of a part of the shape")
    ends = {} if end[0] >= 2**31 - 1 else {"end": end[0]}
    return rw.op.Shape(m.x, start=start[0], **ends)


def _part(rw: Rewriter, x: Value, axis: int) -> Any:
    if axis < 0:
        if x.rank is None:
            return rw.op.Shape(x, start=axis, **({} if axis == -1 else {"end": axis + 1}))
        axis += x.rank
    return rw.op.Shape(x, start=axis, end=axis + 1)


@rule(lambda x, sizes: op.Reshape(x, op.Concat(rest(sizes), _shared=True)))
def reshape_to_own_sizes(rw: Rewriter, m: Match) -> Any:
    """Reshape to sizes that x has itself at the same places copies them: 0 says so (ONNX, Reshape-5)."""
    if m.x.rank is None:
        return m.no("the rank of x is not known")
    wanted: list[int] = []
    for part in m.sizes:
        numbers, taken = integers(part), axis_taken(part)
        if numbers is not None and 0 not in numbers:
            wanted += numbers
            continue
        if taken is None:
            return m.no("a size is neither a number nor taken from a shape")
        place = (m.x, len(wanted)) if len(wanted) < m.x.rank else None
        if place is not None and same_name(taken, place):
            wanted.append(0)
            continue
        found = origin(*taken)
        if isinstance(found, int) and found > 0:
            wanted.append(found)
        elif place is not None and same_size(found, origin(*place)):
            wanted.append(0)
        else:
            return m.no("a size is not surely the one that x has at the same place")
    return rw.node("Reshape", m.x, np.array(wanted, np.int64), name=m.Reshape.name)


@dataclass(frozen=True)
class SimplifySizes(Pass):
    """Sizes are taken from shapes in one form, and Reshape copies sizes instead of being told them.

    A size that an input of the graph has under a symbolic name is taken from the first input that has it.
    """

    rules = (gather_with_its_axis, gather_of_shape, slice_of_shape, reshape_to_own_sizes)
    lossless: ClassVar[bool] = True
    looks_far: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        since_15 = (gather_of_shape, slice_of_shape)
        rules = [rule for rule in self.rules if model.opset >= 15 or rule not in since_15]
        count = self.apply(model, context, rules)
        return count + self._from_inputs(model, context)

    def _from_inputs(self, model: Model, context: PassContext) -> int:
        """Let each Shape of one axis read the first input that has the size."""
        holders: dict[str, tuple[Value, int]] = {}
        for value in model.graph.inputs:
            for axis, size in enumerate(value.shape or ()):
                if is_name(size) and value.const is None:
                    holders.setdefault(str(size), (value, axis))
        count = 0
        for node in model.graph:
            taken = axis_taken(node.output) if node.is_op("Shape") and holders else None
            found = origin(*taken) if taken is not None else 0
            size = size_of(*found) if isinstance(found, tuple) else None
            holder = holders.get(size) if isinstance(size, str) else None
            if holder is None or taken == holder or not context.permit(self.name, node):
                continue
            old = label(node)
            made = model.graph.insert_before(
                node, Node("Shape", [holder[0]], {"start": holder[1], "end": holder[1] + 1}, name=node.name)
            )
            replace_value(node.output, made.output)
            erase_dead([node])
            context.trace.rewrites.append(Rewrite(self.name, (old,), (label(made),)))
            count += 1
        return count
