"""RMS normalization in the one form that onnxruntime fuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.passes.lossless.known import is_number, listed
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, any_of, const, maybe, op, rule

__all__ = ["FuseRMSNorm"]


def _slow_forms(x: Any, axes: Any, epsilon: Any, scale: Any) -> Any:
    """Every way of writing it but Div(x, Sqrt(... Pow(x, 2) ...)), which needs no rewriting."""
    forms = []
    for square, usual in ((op.Pow(x, const(accepts=is_number(2))), True), (op.Mul(x, x, _as="square"), False)):
        root = op.Sqrt(op.Add(op.ReduceMean(square, maybe(axes), _as="mean"), const(epsilon)), _as="root")
        normed = [op.Mul(x, op.Reciprocal(root)), op.Mul(x, op.Div(const(accepts=is_number(1)), root))]
        forms += normed if usual else [*normed, op.Div(x, root)]
    return any_of(*(op.Mul(form, const(scale), _as="scaled") for form in forms))


@rule(_slow_forms)
def rms_norm_by_division(rw: Rewriter, m: Match) -> Any:
    """x / sqrt(mean(x ** 2) + epsilon) * scale (Zhang and Sennrich, 2019), written with Pow and Div.

    onnxruntime makes one operator of exactly this form, at every load.
    """
    axes = listed(m.mean, "axes", 1)
    if axes is None or m.x.rank is None or [axis % m.x.rank for axis in axes] != [m.x.rank - 1]:
        return m.no("the mean does not go along the last axis, or the rank is not known")
    if not m.mean.attr("keepdims", 1) or m.array("epsilon").size != 1 or m.bindings["scale"].rank != 1:
        return m.no("the axis is dropped, or epsilon or the scale have other shapes than usual")
    if m.x.dtype is None or not m.x.dtype.is_float:
        return m.no("the element type is not known to be a float")
    squared = rw.op.Pow(m.x, np.asarray(2, m.x.dtype.numpy))
    again = [value for value in m.mean.inputs[1:] if value is not None]
    mean = rw.node("ReduceMean", squared, *again, **m.mean.attrs)
    root = rw.op.Sqrt(rw.op.Add(mean, m.bindings["epsilon"]))
    return rw.op.Mul(rw.op.Div(m.x, root), m.bindings["scale"])


@dataclass(frozen=True)
class FuseRMSNorm(Pass):
    """RMS normalization with a scale is written as onnxruntime recognizes it: two to three times faster there."""

    rules = (rms_norm_by_division,)
    lossless: ClassVar[bool] = True
    name: ClassVar[str] = "fuse-rms-norm"
