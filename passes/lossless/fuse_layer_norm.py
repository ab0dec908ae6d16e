"""LayerNormalization in pieces, as exporters before operator set 17 write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Model
from qcompiler.passes.lossless.known import broadcasts_into, is_filled, is_number, listed
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Match, Rewriter, any_of, const, maybe, op, rule

__all__ = ["FuseLayerNorm", "normal"]


def normal(x: Any, a: Any, b: Any, epsilon: Any) -> Any:
    """(x - mean(x)) / sqrt(mean((x - mean(x)) ** 2) + epsilon); the difference may be written down twice."""
    mean = op.ReduceMean(x, maybe(a), _as="mean")
    centred, again = op.Sub(x, mean, _as="centred"), op.Sub(x, mean, _as="again")
    inner = any_of(centred, again)
    square = any_of(op.Pow(inner, const(accepts=is_number(2))), *(op.Mul(each, each) for each in (centred, again)))
    spread = op.Add(op.ReduceMean(square, maybe(b), _as="variance"), const(epsilon))
    root = any_of(op.Sqrt(spread), op.Pow(spread, const(accepts=is_number(0.5))))
    inverse = any_of(op.Reciprocal(root), op.Div(const(accepts=is_number(1)), root))
    return any_of(op.Div(centred, root), op.Mul(centred, inverse))


@rule(normal)
def layer_norm_in_pieces(rw: Rewriter, m: Match) -> Any:
    """(x - mean) / sqrt(variance + epsilon) is LayerNormalization with scale one (Ba et al., 2016)."""
    axes, again = listed(m.mean, "axes", 1), listed(m.variance, "axes", 1)
    rank, sizes = m.x.rank, m.x.shape
    if axes is None or again is None or rank is None or sizes is None:
        return m.no("the axes or the rank are not known")
    places = sorted(axis % rank for axis in axes)
    if places != sorted(axis % rank for axis in again) or places != list(range(rank - len(places), rank)):
        return m.no("mean and variance do not go along the same last axes")
    if not m.mean.attr("keepdims", 1) or not m.variance.attr("keepdims", 1):
        return m.no("a reduced axis is dropped, so that other elements meet")
    last = sizes[places[0] :]
    if not all(isinstance(size, int) for size in last):
        return m.no("the normalized sizes are not known, and the scale needs them")
    epsilon = m.array("epsilon")
    if epsilon.size != 1 or m.x.dtype not in (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE):
        return m.no("epsilon is not one number, or the element type is not known")
    ones = np.ones(last, m.x.dtype.numpy)
    return rw.op.LayerNormalization(m.x, ones, axis=places[0] - rank, epsilon=float(epsilon.reshape(-1)[0]))


@rule(lambda x, ones, scale: op.Mul(op.LayerNormalization(x, const(ones, is_filled(1)), _as="norm"), const(scale)))
def layer_norm_scale(rw: Rewriter, m: Match) -> Any:
    """A factor behind a LayerNormalization of scale one is its scale."""
    if not broadcasts_into(m.array("scale").shape, m.bindings["ones"].shape):
        return m.no("the factor varies along other axes")
    scale = np.broadcast_to(m.array("scale"), m.bindings["ones"].shape)
    held = m.scale if scale.shape == m.array("scale").shape else np.ascontiguousarray(scale)
    return rw.op.LayerNormalization(m.x, held, **m.norm.attrs)


@rule(lambda x, scale, shift: op.Add(op.LayerNormalization(x, scale, _as="norm"), const(shift)))
def layer_norm_shift(rw: Rewriter, m: Match) -> Any:
    """A summand behind a LayerNormalization without bias is its bias."""
    if m.scale.shape is None or not broadcasts_into(m.array("shift").shape, m.scale.shape):
        return m.no("the summand varies along other axes")
    shift = np.broadcast_to(m.array("shift"), m.scale.shape)
    held = m.shift if shift.shape == m.array("shift").shape else np.ascontiguousarray(shift)
    return rw.op.LayerNormalization(m.x, m.scale, held, **m.norm.attrs)


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """Mean, variance, scale and shift in pieces become LayerNormalization, from operator set 17 on."""

    rules = (layer_norm_in_pieces, layer_norm_scale, layer_norm_shift)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        if model.opset < 17:
            return 0
        return self.apply(model, context, self.rules)
