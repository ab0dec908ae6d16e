"""Operators that hand on what they were given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.passes.lossless.known import broadcasts_into, computed, is_filled, listed, static_shape
from qcompiler.rewrite import Match, Rewriter, Rule, any_of, const, maybe, op, rule

__all__ = ["NO_OPS"]

_FEW = 1024  # elements of a constant that comes instead of a computation
_ENDLESS = 2**31 - 1  # exporters write this, or more, for "to the end"
_MANTISSA = {DType.BFLOAT16: 8, DType.FLOAT16: 11, DType.FLOAT: 24, DType.DOUBLE: 53}  # bits, the hidden one included
_EXPONENT = {DType.BFLOAT16: 8, DType.FLOAT16: 5, DType.FLOAT: 8, DType.DOUBLE: 11}


@rule(lambda x: op.Identity(x))
def identity(rw: Rewriter, m: Match) -> Any:
    """Identity(x) is x. It stays where an output of a graph needs a name of its own."""
    return m.x


@rule(lambda x, ratio, training: op.Dropout(x, maybe(ratio), maybe(training)))
def dropout(rw: Rewriter, m: Match) -> Any:
    """Dropout in inference is x (ONNX, Dropout-7 and later: inference unless ``training_mode`` is true)."""
    node = m.Dropout
    if any(value.uses for value in node.outputs[1:]):
        return m.no("its mask is used")
    if node.attr("is_test", 1) == 0:
        return m.no("it is in training mode")
    if m.training is not None and (m.training.constant is None or m.array("training").any()):
        return m.no("it may be in training mode")
    return m.x


@rule(lambda x: op.Cast(x))
def same_cast(rw: Rewriter, m: Match) -> Any:
    """Cast to the type that x has."""
    if m.x.dtype is None or m.Cast.attr("to") != m.x.dtype:
        return m.no("it changes the element type")
    return m.x


@rule(lambda x, like: op.CastLike(x, like))
def same_cast_like(rw: Rewriter, m: Match) -> Any:
    """CastLike to the type that x has."""
    if m.x.dtype is None or m.x.dtype is not m.like.dtype:
        return m.no("it changes the element type")
    return m.x


@rule(lambda x: op.Cast(op.Cast(x, _as="inner"), _as="outer"))
def cast_twice(rw: Rewriter, m: Match) -> Any:
    """Cast(Cast(x, wide), to) is Cast(x, to) where ``wide`` holds every value of x's type exactly."""
    wide = DType(m.inner.attr("to"))
    if m.x.dtype is None or not _holds(wide, m.x.dtype):
        return m.no("the type in between may round or wrap")
    return rw.node("Cast", m.x, **m.outer.attrs)


@rule(lambda x, starts, ends, axes, steps: op.Slice(x, maybe(starts), maybe(ends), maybe(axes), maybe(steps)))
def full_slice(rw: Rewriter, m: Match) -> Any:
    """Slice from the start to the end of every axis, in steps of one."""
    if computed(m.Slice, 1, 2, 3, 4):
        return m.no("its bounds are computed at run time")
    starts, ends = listed(m.Slice, "starts", 1) or (), listed(m.Slice, "ends", 2) or ()
    axes, steps = listed(m.Slice, "axes", 3), listed(m.Slice, "steps", 4)
    sizes = dict(enumerate(m.x.shape or ()))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[i] if axes is not None else i
        size = sizes.get(axis + len(sizes) if axis < 0 else axis)
        whole = start == 0 or (isinstance(size, int) and start <= -size)
        if (steps is not None and steps[i] != 1) or not whole:
            return m.no(f"it does not start at the front of axis {axis}")
        if end < _ENDLESS and not (isinstance(size, int) and end >= size):
            return m.no(f"it may end before axis {axis} does")
    return m.x


@rule(lambda x, shape: op.Expand(x, shape))
def same_expand(rw: Rewriter, m: Match) -> Any:
    """Expand to what x has already: sizes of one, or x's own."""
    wanted = listed(m.Expand, "shape", 1)
    if wanted is None:
        return m.no("the shape is computed at run time")
    if not broadcasts_into(wanted, m.x.shape):
        return m.no("it may grow x")
    return m.x


@rule(lambda x, repeats: op.Tile(x, const(repeats, is_filled(1))))
def tile_once(rw: Rewriter, m: Match) -> Any:
    """Tile with one repeat along every axis."""
    return m.x


@rule(lambda x, pads, value, axes: op.Pad(x, maybe(pads), maybe(value), maybe(axes)))
def zero_pad(rw: Rewriter, m: Match) -> Any:
    """Pad by nothing, whatever its mode."""
    pads = listed(m.Pad, "pads", 1)
    if pads is None:
        return m.no("the pads are computed at run time")
    if any(pads):
        return m.no("it pads")
    return m.x


@rule(lambda x, low, high: op.Clip(x, maybe(low), maybe(high)))
def unbounded_clip(rw: Rewriter, m: Match) -> Any:
    """Clip without bounds, or with bounds that the largest float32 does not pass (the default before opset 11).

    An infinity, which it would make the largest finite number, stays one.
    """
    if computed(m.Clip, 1, 2):
        return m.no("its bounds are computed at run time")
    largest = float(np.finfo(np.float32 if m.x.dtype is DType.FLOAT else np.float64).max)
    low = m.Clip.attr("min", m.array("low"))
    high = m.Clip.attr("max", m.array("high"))
    if (low is not None and not low <= -largest) or (high is not None and not high >= largest):
        return m.no("it has bounds")
    return m.x


@rule(lambda x: any_of(op.Concat(x), op.Sum(x), op.Max(x), op.Min(x), op.Mean(x)))
def only_one_input(rw: Rewriter, m: Match) -> Any:
    """The concatenation, sum, mean, largest or smallest of one input."""
    return m.x


@rule(lambda x, sizes: op.Split(x, maybe(sizes)))
def split_into_one(rw: Rewriter, m: Match) -> Any:
    """Split into a single part."""
    if len(m.Split.outputs) > 1:
        return m.no("it has several outputs")
    return m.x


@rule(lambda x: op.Relu(op.Relu(x, _as="inner", _shared=True), _as="outer"))
def relu_twice(rw: Rewriter, m: Match) -> Any:
    """Relu(Relu(x)) is Relu(x)."""
    return m.inner.output


@rule(lambda x, one: any_of(op.Mul(x, const(one, is_filled(1))), op.Div(x, const(one, is_filled(1))),
                            op.Pow(x, const(one, is_filled(1)))))  # fmt: skip
def times_one(rw: Rewriter, m: Match) -> Any:
    """x * 1, x / 1 and x ** 1 are x."""
    return _unless_it_grows(m, "one")


@rule(lambda x, zero: any_of(op.Add(x, const(zero, is_filled(0))), op.Sub(x, const(zero, is_filled(0)))))
def plus_zero(rw: Rewriter, m: Match) -> Any:
    """x + 0 and x - 0 are x. Of floats only minus zero differs: -0 + 0 is 0, and here it stays -0."""
    return _unless_it_grows(m, "zero")


@rule(lambda x, zero: op.Mul(x, const(zero, is_filled(0))))
def times_zero(rw: Rewriter, m: Match) -> Any:
    """x * 0 is 0 for integers. Floats have infinities, and a minus."""
    shape = static_shape(m.Mul.output)
    if m.x.dtype is None or not m.x.dtype.is_integer or shape is None or math.prod(shape) > _FEW:
        return m.no("it is not of integers, or of many or not known how many")
    return rw.constant(np.zeros(shape, m.x.dtype.numpy))


def _unless_it_grows(m: Match, constant: str) -> Any:
    if not broadcasts_into(m.array(constant).shape, m.x.shape):
        return m.no(f"the {constant} may change the shape by broadcasting")
    return m.x


def _holds(wide: DType, narrow: DType) -> bool:
    """True when every value of ``narrow`` is one of ``wide``, and each back and forth gives itself."""
    if wide is narrow:
        return True
    if narrow is DType.BOOL:
        return wide.is_integer or wide in _MANTISSA
    if narrow in _MANTISSA:
        return wide in _MANTISSA and _MANTISSA[narrow] <= _MANTISSA[wide] and _EXPONENT[narrow] <= _EXPONENT[wide]
    if not narrow.is_integer:
        return False
    if wide in _MANTISSA:
        return narrow.bits <= _MANTISSA[wide]
    return (
        wide.is_integer
        and narrow.bits + (wide.is_signed and not narrow.is_signed) <= wide.bits
        and (wide.is_signed or not narrow.is_signed)
    )


NO_OPS: tuple[Rule, ...] = (
    identity,
    dropout,
    same_cast,
    same_cast_like,
    cast_twice,
    full_slice,
    same_expand,
    tile_once,
    zero_pad,
    unbounded_clip,
    only_one_input,
    split_into_one,
    relu_twice,
    times_one,
    plus_zero,
    times_zero,
)
