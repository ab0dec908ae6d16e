"""BatchNormalization in inference is a scale and a shift per channel, which a convolution can do with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.passes.lossless.channels import affine_conv, normalization
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
    affine = normalization(m)
    if isinstance(affine, str):
        return m.no(affine)
    why = not_constant(weight=m.w, bias=m.b)
    return m.no(why) if why else affine_conv(rw, m, *affine)


@dataclass(frozen=True)
class FuseConvBatchNorm(Pass):
    """Fold BatchNormalization into the Conv or ConvTranspose before it."""

    rules = (conv_batch_norm,)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
