"""Activations that exporters write in pieces become one operator, or two where one is not to be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.dtypes import DType
from qcompiler.ir import Model
from qcompiler.passes.lossless.known import is_number
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Match, Rewriter, any_of, const, op, rule

__all__ = ["FuseActivations"]

_SIXTH = 1 / 6


def _relu6(x: Any, low: Any, high: Any) -> Any:
    """min(max(x, 0), 6), as Clip, as Min of Relu or of Max."""
    return any_of(
        op.Clip(x, const(low, is_number(0)), const(high, is_number(6))),
        op.Min(op.Relu(x), const(high, is_number(6))),
        op.Min(op.Max(x, const(low, is_number(0))), const(high, is_number(6))),
    )


def _close(number: float) -> Any:
    return lambda array: array.size == 1 and abs(float(array.reshape(-1)[0]) - number) < 1e-5


def _shifted(x: Any, low: Any, high: Any, three: Any) -> Any:
    """relu6(x + 3)"""
    return _relu6(op.Add(x, const(three, is_number(3))), low, high)


@rule(lambda x, low, high, three, six: any_of(
    op.Div(_shifted(x, low, high, three), const(six, is_number(6))),
    op.Mul(_shifted(x, low, high, three), const(six, _close(_SIXTH))),
))  # fmt: skip
def hard_sigmoid(rw: Rewriter, m: Match) -> Any:
    """relu6(x + 3) / 6 is HardSigmoid with alpha 1/6 and beta 1/2 (Howard et al., 2019)."""
    return _checked(m) or rw.op.HardSigmoid(m.x, alpha=_SIXTH, beta=0.5)


@rule(lambda x, low, high, three, six: any_of(
    op.Div(op.Mul(x, _shifted(x, low, high, three)), const(six, is_number(6))),
    op.Mul(op.Mul(x, _shifted(x, low, high, three)), const(six, _close(_SIXTH))),
    op.Mul(op.Div(x, const(six, is_number(6))), _shifted(x, low, high, three)),
))  # fmt: skip
def hard_swish_in_pieces(rw: Rewriter, m: Match) -> Any:
    """x * relu6(x + 3) / 6 is x * HardSigmoid(x) (Howard et al., 2019)."""
    return _checked(m) or rw.op.Mul(m.x, rw.op.HardSigmoid(m.x, alpha=_SIXTH, beta=0.5))


def _checked(m: Match) -> Any:
    """A refusal, or None. A constant of more axes than x would give the result more axes."""
    ranks = [m.bindings[name].rank or 0 for name in ("low", "high", "three", "six") if m.has(name)]
    if m.x.rank is None and max(ranks, default=0) > 0:
        return m.no("the rank of x is not known, and a constant may add an axis")
    if m.x.rank is not None and max(ranks, default=0) > m.x.rank:
        return m.no("a constant adds an axis")
    if m.x.dtype not in (DType.FLOAT, DType.FLOAT16, DType.DOUBLE):
        return m.no("its element type is not known to be a float that HardSigmoid takes")
    return None


@rule(lambda x: op.Mul(x, op.HardSigmoid(x, alpha=_SIXTH, beta=lambda beta: beta in (None, 0.5))))
def hard_swish(rw: Rewriter, m: Match) -> Any:
    """x * HardSigmoid(x) is HardSwish (ONNX, HardSwish-14)."""
    return rw.op.HardSwish(m.x)


@rule(lambda x: op.Mul(x, op.Tanh(op.Softplus(x))))
def mish(rw: Rewriter, m: Match) -> Any:
    """x * tanh(softplus(x)) is Mish (Misra, 2019; ONNX, Mish-18)."""
    return rw.op.Mish(m.x)


@rule(lambda x, one: op.Log(op.Add(op.Exp(x), const(one, is_number(1)))))
def softplus(rw: Rewriter, m: Match) -> Any:
    """log(exp(x) + 1) is Softplus, which does not overflow."""
    if (m.bindings["one"].rank or 0) > (m.x.rank or 0):
        return m.no("the constant may add an axis")
    return rw.op.Softplus(m.x)


@dataclass(frozen=True)
class FuseActivations(Pass):
    """HardSigmoid, HardSwish, Softplus and Mish in pieces become operators that the model's operator set has.

    x * sigmoid(x) stays as it is: onnxruntime has no kernel for Swish, which operator set 24 brought.
    """

    rules = (softplus, hard_sigmoid, hard_swish_in_pieces, hard_swish, mish)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        first = {hard_swish: 14, mish: 18}  # operator sets that brought them
        return self.apply(model, context, [rule for rule in self.rules if model.opset >= first.get(rule, 6)])
