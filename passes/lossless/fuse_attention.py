"""Scaled dot-product attention of several heads as one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.passes.lossless.newer import apply_newer
from qcompiler.passes.lossless.origins import origin, same_size
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Match, Rewriter, any_of, const, op, rule

__all__ = ["FuseAttention"]

_HEADS, _HEADS_TURNED = [0, 2, 1, 3], [0, 2, 3, 1]


def _one(array: Any) -> bool:
    return bool(array.size == 1)


def _heads(x: Any, shape: Any, name: str, perm: list[int]) -> Any:
    return op.Transpose(op.Reshape(x, shape, _as=name), perm=perm)


def _attention(
    q: Any, k: Any, v: Any, a: Any, b: Any, c: Any, out: Any, mask: Any, sq: Any, sk: Any, s: Any, d: Any
) -> Any:
    """softmax(Q K' s + mask) V, where Q, K and V are split into heads from [batch, sequence, heads * size] and the
    result is put together again; the scale stands at Q, at K, at both or behind the product."""
    query, key = _heads(q, a, "queries", _HEADS), _heads(k, b, "keys", _HEADS_TURNED)
    scaled_first = _heads(op.Mul(q, const(sq, _one)), a, "queries", _HEADS)
    scores = op.MatMul(
        any_of(op.Mul(query, const(sq, _one)), scaled_first, query), any_of(op.Mul(key, const(sk, _one)), key)
    )
    scaled = any_of(scores, op.Mul(scores, const(s, _one)), op.Div(scores, const(d, _one)))
    weights = op.Softmax(any_of(scaled, op.Add(scaled, mask)), axis=lambda axis: axis in (None, -1, 3))
    product = op.MatMul(weights, _heads(v, c, "values", _HEADS))
    return op.Reshape(op.Transpose(product, perm=_HEADS), out, _as="joined")


@rule(_attention)
def attention(rw: Rewriter, m: Match) -> Any:
    """softmax(Q K' / sqrt(size)) V of several heads (Vaswani et al., 2017) is Attention (ONNX, Attention-23).

    With its inputs as [batch, sequence, heads * size], so that the Transposes around it go too.
    """
    sizes = [_split(m.q, m.queries), _split(m.k, m.keys), _split(m.v, m.values)]
    if any(each is None for each in sizes):
        return m.no("queries, keys or values are not split into heads of known number and size")
    (heads, _), (others, _), (last, width) = (each for each in sizes if each is not None)
    if not heads == others == last:
        return m.no("queries, keys and values have not as many heads")
    if not all(same_size(origin(m.q, 0), origin(each, 0)) for each in (m.k, m.v)):
        return m.no("queries, keys and values may be of different batches, of which products broadcast one")
    joined = m.joined.output.shape
    if joined is None or len(joined) != 3 or joined[2] != heads * width:
        return m.no("the heads are not put together to [batch, sequence, heads * size]")
    if m.joined.output.dtype is not DType.FLOAT:
        return m.no("it is not float")
    scale = 1.0
    for name in ("sq", "sk", "s"):
        if m.has(name):
            scale *= float(m.array(name).reshape(-1)[0])
    if m.has("d"):
        scale /= float(m.array("d").reshape(-1)[0])
    if not 0 < scale < np.inf:
        return m.no(f"the scale is {scale:g}")
    mask = m.bindings.get("mask")
    if mask is not None:
        mask = _mask(rw, m, mask, heads)
        if mask is None:
            return m.no("the mask is not surely [batch or 1, heads or 1, queries or 1, keys]")
    inputs = [m.q, m.k, m.v, *([mask] if mask is not None else [])]
    return rw.op.Attention(*inputs, q_num_heads=heads, kv_num_heads=heads, scale=scale)


def _split(x: Value, reshape: Node) -> tuple[int, int] | None:
    """Heads and the size of each, where ``reshape`` splits the last axis of x [batch, sequence, heads * size]."""
    shape = reshape.output.shape
    if x.rank != 3 or x.shape is None or shape is None or len(shape) != 4:
        return None
    heads, size = shape[2:]
    if not isinstance(heads, int) or not isinstance(size, int) or x.shape[2] != heads * size:
        return None
    same = all(same_size(origin(x, axis), origin(reshape.output, axis)) for axis in (0, 1))
    return (heads, size) if same else None


def _mask(rw: Rewriter, m: Match, mask: Value, heads: int) -> Value | None:
    """``mask`` as onnxruntime takes it, which broadcasts batch and heads but not queries; None where it may not fit."""
    shape = mask.shape
    if shape is None or not 2 <= len(shape) <= 4 or mask.dtype is not DType.FLOAT:
        return None
    rank = len(shape)
    if rank == 4 and shape[0] != 1 and not same_size(origin(mask, 0), origin(m.q, 0)):
        return None
    if rank >= 3 and shape[-3] not in (1, heads):
        return None
    if not same_size(origin(mask, rank - 1), origin(m.k, 1)):
        return None
    if same_size(origin(mask, rank - 2), origin(m.q, 1)):
        return mask
    if shape[-2] != 1:
        return None
    one = np.array([1], np.int64)
    made: Value = rw.op.Expand(mask, rw.op.Concat(one, one, rw.op.Shape(m.q, start=1, end=2), one, axis=0))
    return made


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Attention in pieces becomes Attention, where the target has it.

    The model is raised to operator set 23 for it, unless ``raise_opset`` is false.
    onnxruntime's kernel refuses an empty batch or sequence, of which the pieces give an empty result.
    On onnxruntime a MiniLM takes 3 to 9 % less time, the more the longer the sequence. Without a kernel of its own a
    runtime would put the pieces back, slower than they were.
    """

    raise_opset: bool = True
    rules = (attention,)
    lossless: ClassVar[bool] = True
    looks_far: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        but = " and takes no empty batch or sequence"
        return apply_newer(self, model, context, self.rules, "Attention", 23, may_raise=self.raise_opset, but=but)
