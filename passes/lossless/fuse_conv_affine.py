"""Mul, Div, Add and Sub by a constant per channel behind a convolution: its weights can do that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.passes.lossless.channels import affine_conv, channel_vector, out_channels
from qcompiler.passes.lossless.fuse_conv_batchnorm import conv_batch_norm
from qcompiler.passes.lossless.known import not_constant
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, any_of, maybe, op, rule

__all__ = ["FuseConvAffine"]

Array = np.ndarray[Any, np.dtype[Any]]


def _conv(x: Any, w: Any, b: Any) -> Any:
    return any_of(op.Conv(x, w, maybe(b), _as="conv"), op.ConvTranspose(x, w, maybe(b), _as="conv"))


@rule(lambda x, w, b, k: any_of(op.Mul(_conv(x, w, b), k), op.Div(_conv(x, w, b), k, _as="Div")))
def conv_scale(rw: Rewriter, m: Match) -> Any:
    """k * (w * x + b) = (k * w) * x + k * b, per output channel; a division is by 1 / k."""
    why = not_constant(weight=m.w, bias=m.b, factor=m.k)
    if why:
        return m.no(why)
    factor = _vector(m)
    if isinstance(factor, str):
        return m.no(factor)
    if m.has("Div"):
        if not factor.all():
            return m.no("it divides by zero")
        factor = 1.0 / factor
    return affine_conv(rw, m, factor, np.zeros_like(factor))


@rule(lambda x, w, b, k: any_of(op.Add(_conv(x, w, b), k), op.Sub(_conv(x, w, b), k, _as="Sub")))
def conv_shift(rw: Rewriter, m: Match) -> Any:
    """(w * x + b) + k = w * x + (b + k), per output channel. The weight may be anything."""
    return _shifted(rw, m, lambda k: (None, -k if m.has("Sub") else k))


@rule(lambda x, w, b, k: op.Sub(k, _conv(x, w, b)))
def shift_minus_conv(rw: Rewriter, m: Match) -> Any:
    """k - (w * x + b) = -w * x + (k - b), per output channel."""
    why = not_constant(weight=m.w)
    return m.no(why) if why else _shifted(rw, m, lambda k: (-np.ones_like(k), k))


def _shifted(rw: Rewriter, m: Match, affine: Callable[[Array], tuple[Array | None, Array]]) -> Any:
    why = not_constant(bias=m.b, summand=m.k)
    if why:
        return m.no(why)
    vector = _vector(m)
    return m.no(vector) if isinstance(vector, str) else affine_conv(rw, m, *affine(vector))


def _vector(m: Match) -> Array | str:
    """The constant k as float64 [output channels], or why it is none.

    A convolution's result has as many axes as its weight.
    """
    channels = out_channels(m.conv)
    if channels is None:
        return "the number of output channels is not known"
    vector = channel_vector(m.array("k"), channels, m.w.rank)
    return vector if vector is not None else f"{m.k!r} is not one number per channel"


@dataclass(frozen=True)
class FuseConvAffine(Pass):
    """Fold Mul, Div, Add and Sub by one constant per channel into the Conv or ConvTranspose before them.

    Takes in BatchNormalization too, which may come within reach only then.
    """

    rules = (conv_scale, conv_shift, shift_minus_conv, conv_batch_norm)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
