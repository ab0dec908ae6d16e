"""Softmax as exporters write it: in pieces, or around a Flatten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.passes.lossless.known import integers, listed, static_shape
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, any_of, maybe, op, rule

__all__ = ["FuseSoftmax"]


def _kinds(x: Any) -> Any:
    kinds = ("Softmax", "LogSoftmax", "Hardmax")
    return any_of(*(getattr(op, kind)(x, axis=_last_of_two, _as="kind") for kind in kinds))


def _last_of_two(axis: Any) -> bool:
    return axis in (None, -1, 1)


@rule(lambda x, shape: op.Reshape(_kinds(op.Flatten(x)), shape))
def softmax_of_flatten(rw: Rewriter, m: Match) -> Any:
    """What Softmax before operator set 13 did: along all axes from ``axis`` on. That is one axis where the axes
    behind it are of size one (ONNX, Softmax-1 and Softmax-13)."""
    sizes = m.x.shape
    if sizes is None:
        return m.no("the number of axes is not known")
    axis = m.Flatten.attr("axis", 1)
    axis += len(sizes) if axis < 0 else 0
    if axis >= len(sizes) or any(size != 1 for size in sizes[axis + 1 :]):
        return m.no("it goes along several axes at once")
    maker = m.shape.producer
    measured = maker is not None and maker.is_op("Shape") and maker.inputs == (m.x,) and not maker.attrs
    if not measured and integers(m.shape) != static_shape(m.x):
        return m.no("the shape may change")
    return rw.node(m.kind.op_type, m.x, axis=axis)


def _exponential(x: Any, axes: Any) -> Any:
    return op.Exp(op.Sub(x, op.ReduceMax(x, maybe(axes), _as="largest")), _as="exponential")


def _parts(x: Any, a: Any, b: Any) -> Any:
    top = _exponential(x, a)
    return op.Div(top, op.ReduceSum(top, maybe(b), _as="total"))


@rule(_parts)
def softmax_in_pieces(rw: Rewriter, m: Match) -> Any:
    """exp(x - max(x)) / sum(exp(x - max(x))) along one axis is Softmax."""
    return _softmax(rw, m, listed(m.largest, "axes", 1), m.largest.attr("keepdims", 1))


def _bare_parts(x: Any, b: Any) -> Any:
    top = op.Exp(x, _as="exponential")
    return op.Div(top, op.ReduceSum(top, maybe(b), _as="total"))


@rule(_bare_parts)
def softmax_without_maximum(rw: Rewriter, m: Match) -> Any:
    """exp(x) / sum(exp(x)) along one axis is Softmax, which does not overflow."""
    return _softmax(rw, m, listed(m.total, "axes", 1), 1)


def _softmax(rw: Rewriter, m: Match, axes: tuple[int, ...] | None, keeps: int) -> Any:
    total = listed(m.total, "axes", 1)
    if axes is None or len(axes) != 1 or total is None or len(total) != 1:
        return m.no("it does not go along one axis that is known")
    if not keeps or not m.total.attr("keepdims", 1):
        return m.no("the reduced axis is dropped, so that other elements meet")
    rank = m.x.rank
    if axes != total and (rank is None or axes[0] % rank != total[0] % rank):
        return m.no("largest and sum go along different axes, or may")
    if "axes" in m.total.attrs and (rank is None or axes[0] % rank != rank - 1):
        return m.no("before operator set 13 Softmax goes along all axes from the one named")
    return rw.op.Softmax(m.x, axis=axes[0])


@dataclass(frozen=True)
class FuseSoftmax(Pass):
    """Softmax in pieces, and Softmax between Flatten and Reshape, become one operator."""

    rules = (softmax_of_flatten, softmax_in_pieces, softmax_without_maximum)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
