"""A scale and a shift per channel in front of a convolution: its weights and its bias can do that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.ir import Node
from qcompiler.passes.lossless.channels import channel_vector, normalization
from qcompiler.passes.lossless.known import not_constant
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, any_of, const, maybe, op, rule

__all__ = ["FuseAffineConv"]

Array = np.ndarray[Any, np.dtype[Any]]


@rule(lambda x, k, w, b: any_of(*(
    conv(scaled, w, maybe(b), _as="conv")
    for conv in (op.Conv, op.ConvTranspose)
    for scaled in (op.Mul(x, const(k)), op.Div(x, const(k), _as="Div"))
)))  # fmt: skip
def scale_conv(rw: Rewriter, m: Match) -> Any:
    """w * (k * x) + b = (k * w) * x + b, per input channel. What is padded is zero either way."""
    vector = _vector(m)
    if isinstance(vector, str):
        return m.no(vector)
    if m.has("Div"):
        if not vector.all():
            return m.no("it divides by zero")
        vector = 1.0 / vector
    return _convolved(rw, m, vector, np.zeros_like(vector))


@rule(lambda x, k, w, b: any_of(
    op.Conv(op.Add(x, const(k)), w, maybe(b), _as="conv"),
    op.Conv(op.Sub(x, const(k), _as="minus"), w, maybe(b), _as="conv"),
    op.Conv(op.Sub(const(k), x, _as="from_k"), w, maybe(b), _as="conv"),
))  # fmt: skip
def shift_conv(rw: Rewriter, m: Match) -> Any:
    """w * (x + k) + b = w * x + (b + sum of w * k), per input channel, where nothing is padded."""
    vector = _vector(m)
    if isinstance(vector, str):
        return m.no(vector)
    factor = np.full_like(vector, -1.0 if m.has("from_k") else 1.0)
    return _convolved(rw, m, factor, -vector if m.has("minus") else vector)


@rule(lambda x, scale, shift, mean, var, w, b: any_of(*(
    conv(op.BatchNormalization(x, scale, shift, mean, var, _as="norm"), w, maybe(b), _as="conv")
    for conv in (op.Conv, op.ConvTranspose)
)))  # fmt: skip
def batch_norm_conv(rw: Rewriter, m: Match) -> Any:
    """BatchNormalization in inference is a scale and a shift per channel (Ioffe and Szegedy, 2015)."""
    affine = normalization(m)
    if isinstance(affine, str):
        return m.no(affine)
    why = not_constant(weight=m.w, bias=m.b)
    return m.no(why) if why else _convolved(rw, m, *affine)


def _vector(m: Match) -> Array | str:
    """The constant k as float64 [input channels], or why it is none. x has all the axes and channels already."""
    why = not_constant(weight=m.w, bias=m.b)
    if why:
        return why
    channels = _in_channels(m.conv, m.array("w").shape)
    if m.x.rank != m.w.rank or m.x.shape is None or m.x.shape[1] != channels:
        return "x may have other axes or channels than the convolution takes"
    vector = channel_vector(m.array("k"), channels, m.w.rank)
    return vector if vector is not None else f"{m.k!r} is not one number per channel"


def _convolved(rw: Rewriter, m: Match, factor: Array, shift: Array) -> Any:
    """conv(factor * x + shift) as a convolution of x; both are float64 [input channels].

    Computed in float64 and rounded once to the weight's own type. Refuses what the type cannot hold.
    """
    conv, weight = m.conv, m.array("w")
    if shift.any() and (conv.is_op("ConvTranspose") or _pads(conv)):
        return m.no("at the edges it adds up less of the shift than elsewhere")
    wide = weight.astype(np.float64)
    along = _along_inputs(conv, weight.shape)
    dtype = m.w.constant.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        made = [(wide * factor[along]).astype(dtype.numpy)]
        if shift.any():
            added = (wide * shift[along]).sum(axis=tuple(range(1, wide.ndim)))
            old = np.zeros_like(added) if m.b is None else np.asarray(m.array("b"), np.float64)
            made.append((old + added).astype(dtype.numpy))
        elif m.b is not None:
            made.append(m.array("b"))
    if not all(np.isfinite(array.astype(np.float64)).all() for array in made):
        return m.no(f"a weight or bias would leave the range of {dtype.name.lower()}")
    names = (m.w.name, m.b.name if m.b is not None else f"{m.w.name}.bias")
    held = [rw.constant(array, name) for array, name in zip(made, names, strict=False)]
    return rw.node(conv.op_type, m.x, *held, name=conv.name, **conv.attrs)


def _in_channels(conv: Node, shape: tuple[int, ...]) -> int:
    return shape[0] if conv.is_op("ConvTranspose") else shape[1] * int(conv.attr("group", 1))


def _along_inputs(conv: Node, shape: tuple[int, ...]) -> Array:
    """The input channel that each element of the weight multiplies, in a form that broadcasts to its shape.

    Conv: [out, in / group, ...], where out / group filters in a row see the channels of one group. ConvTranspose:
    [in, out / group, ...].
    """
    ones = (1,) * (len(shape) - 2)
    if conv.is_op("ConvTranspose"):
        return np.arange(shape[0]).reshape(-1, 1, *ones)
    group = int(conv.attr("group", 1))
    first = np.arange(shape[0]) // (shape[0] // group) * shape[1]
    return (first[:, None] + np.arange(shape[1])).reshape(shape[0], shape[1], *ones)


def _pads(conv: Node) -> bool:
    return conv.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(conv.attr("pads", ()))


@dataclass(frozen=True)
class FuseAffineConv(Pass):
    """Fold Mul, Div, Add, Sub and BatchNormalization in front of a Conv or ConvTranspose into it.

    A shift only where nothing is padded: the zeros of a border are not shifted.
    """

    rules = (scale_conv, shift_conv, batch_norm_conv)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
