"""Operators whose output elements depend on the elements at the same place."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch.nn import functional

from qcompiler.ir import Node
from qcompiler.training.operators import TORCH_TYPES, Unsupported, operator

__all__: list[str] = []

_UNARY = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil, "Cos": torch.cos,
    "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "HardSwish": functional.hardswish,
    "IsNaN": torch.isnan, "Log": torch.log, "Mish": functional.mish, "Neg": torch.neg, "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid,
    "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": functional.softplus,
    "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip
_BINARY = {
    "Add": torch.add, "And": torch.logical_and, "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "Less": torch.lt, "LessOrEqual": torch.le, "Mul": torch.mul, "Or": torch.logical_or, "Sub": torch.sub,
    "Xor": torch.logical_xor,
}  # fmt: skip
_MANY = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}

for _name, _function in (*_UNARY.items(), *_BINARY.items()):
    operator(_name)(lambda node, *xs, _function=_function: _function(*xs))
for _name, _function in _MANY.items():
    operator(_name)(lambda node, *xs, _function=_function: reduce(_function, xs))


@operator("Identity")
def identity(node: Node, x: Any) -> Any:
    return x


@operator("Dropout")
def dropout(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and bool(training):
        raise Unsupported("it draws at random")
    return (x, torch.ones_like(x, dtype=torch.bool))[: len(node.outputs)]


@operator("Mean")
def mean(node: Node, *xs: Any) -> Any:
    return reduce(torch.add, xs) / len(xs)


@operator("Div")
def div(node: Node, a: Any, b: Any) -> Any:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Mod")
def mod(node: Node, a: Any, b: Any) -> Any:
    return torch.fmod(a, b) if node.attr("fmod", 0) else torch.remainder(a, b)


@operator("Pow")
def power(node: Node, a: Any, b: Any) -> Any:
    return torch.pow(a, b.to(a.dtype) if b.numel() > 1 or not a.is_floating_point() else b).to(a.dtype)


@operator("Where")
def where(node: Node, condition: Any, a: Any, b: Any) -> Any:
    return torch.where(condition, a, b)


@operator("Clip")
def clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    low = node.attr("min") if low is None else low
    high = node.attr("max") if high is None else high
    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    if high is not None:
        x = torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return x


@operator("IsInf")
def isinf(node: Node, x: Any) -> Any:
    up, down = node.attr("detect_positive", 1), node.attr("detect_negative", 1)
    return torch.isinf(x) & ((x > 0) & bool(up) | (x < 0) & bool(down))


@operator("Cast", "CastLike")
def cast(node: Node, x: Any, like: Any = None) -> Any:
    if like is not None:
        return x.to(like.dtype)
    kind = TORCH_TYPES.get(int(node.attr("to")))
    if kind is None:
        raise Unsupported("its type has no gradients")
    if kind is torch.bool:
        return x != 0
    return x if x.dtype is kind else x.to(kind)


@operator("Celu")
def celu(node: Node, x: Any) -> Any:
    return functional.celu(x, node.attr("alpha", 1.0))


@operator("Elu")
def elu(node: Node, x: Any) -> Any:
    return functional.elu(x, node.attr("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Any) -> Any:
    alpha, gamma = node.attr("alpha", 1.67326319217681884765625), node.attr("gamma", 1.05070102214813232421875)
    return gamma * torch.where(x > 0, x, alpha * (torch.exp(x.clamp(max=0)) - 1))


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Any) -> Any:
    return functional.leaky_relu(x, node.attr("alpha", 0.01))


@operator("PRelu")
def prelu(node: Node, x: Any, slope: Any) -> Any:
    return torch.where(x < 0, x * slope, x)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Any) -> Any:
    return torch.where(x > node.attr("alpha", 1.0), x, torch.zeros_like(x))


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Any) -> Any:
    return (node.attr("alpha", 0.2) * x + node.attr("beta", 0.5)).clamp(0, 1)


@operator("Shrink")
def shrink(node: Node, x: Any) -> Any:
    bias, bound = node.attr("bias", 0.0), node.attr("lambd", 0.5)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, torch.zeros_like(x)))


@operator("Gelu", "com.microsoft:Gelu")
def gelu(node: Node, x: Any) -> Any:
    return functional.gelu(x, approximate=node.attr("approximate", "none"))


@operator("com.microsoft:FastGelu")
def fast_gelu(node: Node, x: Any, bias: Any = None) -> Any:
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("com.microsoft:QuickGelu", "Swish")
def quick_gelu(node: Node, x: Any) -> Any:
    return x * torch.sigmoid(node.attr("alpha", 1.702 if node.domain else 1.0) * x)
