"""Rotary position embedding as one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.passes.lossless.known import listed
from qcompiler.passes.lossless.newer import apply_newer
from qcompiler.passes.lossless.origins import origin, same_size
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Match, Rewriter, maybe, op, rule

__all__ = ["FuseRotary"]


def _last(axis: Any) -> bool:
    return axis in (-1, 3)


@rule(lambda x, cos, sin, s, e, a, t, s2, e2, a2, t2: op.Add(
    op.Mul(x, cos),
    op.Mul(op.Concat(op.Neg(op.Slice(x, s, e, maybe(a), maybe(t), _as="back")),
                     op.Slice(x, s2, e2, maybe(a2), maybe(t2), _as="front"), axis=_last), sin),
))  # fmt: skip
def rotary_embedding(rw: Rewriter, m: Match) -> Any:
    """x cos + rotate(x) sin, where rotate swaps the halves of each head and turns one's sign (Su et al., 2021), is
    RotaryEmbedding (ONNX, RotaryEmbedding-23), which takes cosine and sine of one half: in both they are the same."""
    shape = m.x.shape
    if shape is None or len(shape) != 4 or not isinstance(shape[3], int) or m.x.dtype is not DType.FLOAT:
        return m.no("x is not float [batch, heads, sequence, size] with a known size")
    half = shape[3] // 2
    if shape[3] % 2 or _part(m.front, shape[3]) != (0, half) or _part(m.back, shape[3]) != (half, shape[3]):
        return m.no("it does not swap the two halves of the last axis")
    tables = [_half(rw, m.x, value, half) for value in (m.cos, m.sin)]
    if any(table is None for table in tables):
        return m.no("cosine and sine are not surely the same in both halves, for each place of the sequence")
    return rw.op.RotaryEmbedding(m.x, *tables)


def _part(node: Node, size: int) -> tuple[int, int] | None:
    """Begin and end of what a Slice takes of the last of four axes of ``size``."""
    starts, ends = listed(node, "starts", 1), listed(node, "ends", 2)
    axes, steps = listed(node, "axes", 3), listed(node, "steps", 4) or (1,)
    if starts is None or ends is None or len(starts) != 1 or axes not in ((3,), (-1,)) or steps != (1,):
        return None
    begin, end, _ = slice(starts[0], ends[0]).indices(size)
    return begin, end


def _half(rw: Rewriter, x: Value, table: Value, half: int) -> Value | None:
    """``table`` [batch, 1, sequence, 2 * half] as [batch, sequence, half]; None unless both halves are surely the same.

    That they are can be seen where they are computed: behind Unsqueeze, from a Concat of one value with itself.
    """
    unsqueeze = table.producer
    if unsqueeze is None or not unsqueeze.is_op("Unsqueeze") or listed(unsqueeze, "axes", 1) not in ((1,), (-3,)):
        return None
    chain: list[Node] = []
    value = unsqueeze.inputs[0]
    node = value.producer if value is not None else None
    while node is not None and len(chain) < 4 and node.is_op("Cos", "Sin", "Cast", "Mul"):
        factor = node.input(1)
        if factor is not None and (factor.constant is None or factor.constant.size != 1):
            return None
        chain.append(node)
        node = node.inputs[0].producer if node.inputs[0] is not None else None
    if node is None or not node.is_op("Concat") or node.attr("axis", 0) not in (-1, 2):
        return None
    angles, again = node.inputs if len(node.inputs) == 2 else (None, None)
    if angles is None or angles is not again or angles.rank != 3 or angles.shape is None or angles.shape[2] != half:
        return None
    if not same_size(origin(angles, 1), origin(x, 2)):
        return None
    made = angles
    for step in reversed(chain):
        attrs: dict[str, Any] = dict(step.attrs)
        made = rw.node(step.op_type, made, *step.inputs[1:], **attrs)
    if same_size(origin(angles, 0), origin(x, 0)):
        return made
    if angles.shape[0] != 1:
        return None
    batch = rw.op.Concat(rw.op.Shape(x, start=0, end=1), np.array([1, 1], np.int64), axis=0)
    expanded: Value = rw.op.Expand(made, batch)
    return expanded


@rule(lambda x, shape, cos, sin: op.RotaryEmbedding(
    op.Transpose(op.Reshape(x, shape), perm=[0, 2, 1, 3]), cos, sin, None, _as="rotary"
))  # fmt: skip
def rotary_before_heads(rw: Rewriter, m: Match) -> Any:
    """RotaryEmbedding of [batch, heads, sequence, size] is one of [batch, sequence, heads * size], which is told the
    heads: what splits and turns them stands behind it then, where Attention can take it in."""
    split = m.Reshape.output.shape
    if split is None or len(split) != 4 or m.x.rank != 3 or m.x.shape is None or m.rotary.attr("num_heads", 0):
        return m.no("the heads are not known")
    heads, size = split[2:]
    if not isinstance(heads, int) or not isinstance(size, int) or m.x.shape[2] != heads * size:
        return m.no("it does not split the last axis into heads")
    if not all(same_size(origin(m.x, axis), origin(m.Reshape.output, axis)) for axis in (0, 1)):
        return m.no("it does more than to split the last axis")
    turned = rw.op.RotaryEmbedding(m.x, m.cos, m.sin, **m.rotary.attrs, num_heads=heads)
    turned.type = m.x.type
    again = rw.node("Reshape", turned, m.shape, name=m.Reshape.name, **m.Reshape.attrs)
    again.type = m.Reshape.output.type
    return rw.op.Transpose(again, perm=[0, 2, 1, 3])


@dataclass(frozen=True)
class FuseRotary(Pass):
    """Rotary position embedding in pieces becomes RotaryEmbedding, where the target has it: twice as fast or more.

    The model is raised to operator set 23 for it, unless ``raise_opset`` is false.
    """

    raise_opset: bool = True
    rules = (rotary_embedding, rotary_before_heads)
    lossless: ClassVar[bool] = True
    looks_far: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        return apply_newer(self, model, context, self.rules, "RotaryEmbedding", 23, may_raise=self.raise_opset)
