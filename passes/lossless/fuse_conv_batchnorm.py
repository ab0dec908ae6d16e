"""BatchNormalization in inference is a scale and a shift per channel, which a convolution can do with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.passes.lossless.channels import affine_conv
from qcompiler.passes.lossless.known import not_constant
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, any_of, maybe, op, rule

__all__ = ["FuseConvBatchNorm", "conv_batch_norm"]


@rule(lambda x, w, b, scale, shift, mean, var: op.BatchNormalization(
    any_of(op.Conv(x, w, maybe(b), _as="conv"), op.ConvTranspose(x, w, maybe(b), _as="conv")), scale, shift, mean, var,
    _as="norm",
))  # fmt: skip
def conv_batch_norm(rw: Rewriter, m: Match) -> Any:
    """(conv(x) + b - mean) * k + shift = conv(k * w)(x) + (b - mean) * k + shift, with k = scale / sqrt(var + epsilon).

    Per output channel (Ioffe and Szegedy, 2015; Jacob et al., 2018, section 3.2).
    """
    norm = m.norm
    if norm.attr("training_mode", 0) or norm.attr("is_test", 1) == 0:
        return m.no("it normalizes by the statistics of the batch")
    if any(value.uses for value in norm.outputs[1:]):
        return m.no("its statistics are used")
    if norm.attr("spatial", 1) == 0:
        return m.no("it normalizes every position by itself (spatial is 0)")
    why = not_constant(weight=m.w, bias=m.b, scale=m.scale, shift=m.shift, mean=m.mean, variance=m.var)
    if why:
        return m.no(why)
    scale, shift, mean, var = (np.asarray(m.array(name), np.float64) for name in ("scale", "shift", "mean", "var"))
    spread = var + norm.attr("epsilon", 1e-5)
    if not (spread > 0).all():
        return m.no("a variance is negative, or zero without an epsilon")
    factor = scale / np.sqrt(spread)
    return affine_conv(rw, m, factor, shift - mean * factor)


@dataclass(frozen=True)
class FuseConvBatchNorm(Pass):
    """Fold BatchNormalization into the Conv or ConvTranspose before it."""

    rules = (conv_batch_norm,)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
