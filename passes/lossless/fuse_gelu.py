"""GELU in pieces, exact and by tanh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.ir import Model, Value
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Match, Rewriter, any_of, const, op, rule

__all__ = ["FuseGelu"]

_DOMAIN = "com.microsoft"


def _is(number: float) -> Any:
    """A predicate: one element that is ``number``, as well as float16 can say it."""
    return lambda array: array.size == 1 and abs(float(array.reshape(-1)[0]) - number) <= 2e-3 * abs(number)


def _number(number: float) -> Any:
    return const(accepts=_is(number))


def _half_times(x: Any, gate: Any) -> Any:
    """0.5 * x * gate, multiplied in any order."""
    half = _number(0.5)
    return any_of(
        op.Mul(x, op.Mul(gate, half), _as="gelu"),
        op.Mul(op.Mul(x, gate), half, _as="gelu"),
        op.Mul(op.Mul(x, half), gate, _as="gelu"),
    )


def _by_erf(x: Any) -> Any:
    root = any_of(op.Div(x, _number(2**0.5)), op.Mul(x, _number(0.5**0.5)))
    return _half_times(x, op.Add(op.Erf(root), _number(1)))


def _by_tanh(x: Any) -> Any:
    cube, outer, inner = any_of(op.Pow(x, _number(3)), op.Mul(x, op.Mul(x, x))), _number(0.79788456), _number(0.044715)
    bent = any_of(
        op.Mul(op.Add(x, op.Mul(cube, inner)), outer),
        op.Mul(op.Mul(x, outer), op.Add(_number(1), op.Mul(op.Mul(x, x), inner))),
    )
    return _half_times(x, op.Add(op.Tanh(bent), _number(1)))


@rule(_by_erf)
def gelu(rw: Rewriter, m: Match) -> Any:
    """x * (1 + erf(x / sqrt(2))) / 2 is Gelu (Hendrycks and Gimpel, 2016; ONNX, Gelu-20)."""
    return _objection(m) or rw.op.Gelu(m.x)


@rule(_by_tanh)
def gelu_tanh(rw: Rewriter, m: Match) -> Any:
    """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) / 2 is Gelu, approximated (ONNX, Gelu-20)."""
    return _objection(m) or rw.op.Gelu(m.x, approximate="tanh")


@rule(_by_erf)
def microsoft_gelu(rw: Rewriter, m: Match) -> Any:
    """x * (1 + erf(x / sqrt(2))) / 2 is onnxruntime's Gelu."""
    return _objection(m) or rw.op(_DOMAIN).Gelu(m.x)


@rule(_by_tanh)
def microsoft_fast_gelu(rw: Rewriter, m: Match) -> Any:
    """x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) / 2 is onnxruntime's FastGelu."""
    return _objection(m) or rw.op(_DOMAIN).FastGelu(m.x)


@rule(lambda x: op.Mul(x, op.Sigmoid(x)))
def microsoft_quick_gelu(rw: Rewriter, m: Match) -> Any:
    """x * sigmoid(alpha * x) is onnxruntime's QuickGelu; with alpha one it is SiLU (Elfwing et al., 2017)."""
    return _objection(m) or rw.op(_DOMAIN).QuickGelu(m.x, alpha=1.0)


def _objection(m: Match) -> Any:
    """A refusal, or None. A constant of more axes than x would have given the result more axes."""
    shape, made = m.x.shape, m.root.output.shape
    if m.x.dtype is None or not m.x.dtype.is_float or m.x.dtype.bits > 32:
        return m.no("its element type is not known to be float or float16")
    if shape is None or (made is not None and len(made) != len(shape)) or (not shape and _constants(m)):
        return m.no("the rank is not known, or a constant adds an axis")
    return None


def _constants(m: Match) -> list[Value]:
    return [value for node in m.nodes for value in node.inputs if value is not None and value.rank]


@dataclass(frozen=True)
class FuseGelu(Pass):
    """GELU in pieces becomes Gelu from operator set 20 on; before, onnxruntime's own form where that is the target.

    SiLU becomes onnxruntime's QuickGelu there, which onnxruntime itself makes of it at every load.
    """

    rules = (gelu, gelu_tanh, microsoft_gelu, microsoft_fast_gelu, microsoft_quick_gelu)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        own: frozenset[str] = getattr(context.target, "own_operators", frozenset())
        wanted = []
        if model.opset >= 20:
            wanted += [gelu, gelu_tanh]
        forms = {"Gelu": microsoft_gelu, "FastGelu": microsoft_fast_gelu, "QuickGelu": microsoft_quick_gelu}
        wanted += [form for name, form in forms.items() if f"{_DOMAIN}:{name}" in own]
        count = self.apply(model, context, wanted)
        if any(item.rule.startswith("microsoft") for item in context.trace.rewrites):
            model.opsets.setdefault(_DOMAIN, 1)
        return count
