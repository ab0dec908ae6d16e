"""Quantizing operators with gradients: straight through the rounding, and to the scales.

Integers are held in float tensors, so that what stands between QuantizeLinear and DequantizeLinear (pooling, reshapes)
passes gradients on. With v = x / s, the gradient of s in s * clip(round(v)) is round(v) - v inside of the range and
the bound outside of it (LSQ: Esser et al., 2020, equation 3); it follows from the rounding's own, which is one.
"""

from __future__ import annotations

from typing import Any

import torch

from qcompiler.ir import Node
from qcompiler.training.layers import convolved
from qcompiler.training.operators import Unsupported, operator

__all__ = ["BOUNDS", "levels_of", "quantized", "real_of", "spread"]

BOUNDS = {
    2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 6: (-(2**31), 2**31 - 1), 21: (0, 15), 22: (-8, 7),
    25: (0, 3), 26: (-2, 1),
}  # fmt: skip
"""Least and greatest integer by ONNX element type."""


def _rounded(x: Any) -> Any:
    """``x`` rounded half to even, with the gradient of ``x``."""
    return x + (torch.round(x) - x).detach()


def levels_of(x: Any, scale: Any, zero: Any, bounds: tuple[int, int]) -> Any:
    """clip(round(x / scale) + zero) in floats; ``scale`` and ``zero`` broadcast against ``x``."""
    return (_rounded(x / scale) + zero).clamp(*bounds)


def real_of(levels: Any, scale: Any, zero: Any) -> Any:
    """(levels - zero) * scale."""
    return (levels.to(scale.dtype) - zero) * scale


def quantized(x: Any, scale: Any, zero: Any, bounds: tuple[int, int]) -> Any:
    """``x`` on the integers' grid: real_of(levels_of(x))."""
    return real_of(levels_of(x, scale, zero, bounds), scale, zero)


def spread(parameter: Any, shape: Any, axis: int, block: int = 0) -> Any:
    """Scales or zero points in a shape that broadcasts against ``shape``: one, along an axis, or by blocks."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis %= len(shape)
    if block:
        return parameter.repeat_interleave(block, dim=axis).narrow(axis, 0, shape[axis])
    return parameter.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def _spread(node: Node, parameter: Any, x: Any) -> Any:
    return spread(parameter, x.shape, int(node.attr("axis", 1)), int(node.attr("block_size", 0) or 0))


def _kind_of(node: Node) -> int:
    """ONNX element type of the integers that QuantizeLinear gives."""
    asked = int(node.attr("output_dtype", 0) or 0)
    held = node.input(2)
    given = held.dtype if held is not None else None
    return int(given) if given is not None else asked or 2


@operator("QuantizeLinear")
def quantize_linear(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    kind = _kind_of(node)
    if kind not in BOUNDS or not scale.is_floating_point():
        raise Unsupported("it does not quantize to integers")
    offset = torch.zeros((), device=x.device) if zero is None else _spread(node, zero.to(scale.dtype), x)
    return levels_of(x.to(scale.dtype), _spread(node, scale, x), offset, BOUNDS[kind])


@operator("DequantizeLinear")
def dequantize_linear(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    offset = torch.zeros((), device=x.device) if zero is None else _spread(node, zero.to(scale.dtype), x)
    return real_of(x, _spread(node, scale, x), offset)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Any) -> Any:
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(-low / scale).clamp(0, 255)
    return levels_of(x, scale, zero, (0, 255)), scale, zero


def _offset(x: Any, zero: Any, axis: int | None = None) -> Any:
    """Integers less their zero point, in doubles: sums of products stay exact."""
    if zero is None:
        return x.double()
    if axis is not None and zero.numel() > 1:
        zero = zero.reshape([-1 if place == axis % x.dim() else 1 for place in range(x.dim())])
    return x.double() - zero.double()


@operator("MatMulInteger")
def matmul_integer(node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    if a_zero is not None and a_zero.numel() > 1:
        raise Unsupported("it has a zero point for each row")
    return (_offset(a, a_zero) @ _offset(b, b_zero, -1)).float()


@operator("ConvInteger")
def conv_integer(node: Node, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    return convolved(node, _offset(x, x_zero), _offset(w, w_zero, 0)).float()


@operator("com.microsoft:MatMulIntegerToFloat")
def matmul_integer_to_float(
    node: Node, a: Any, b: Any, a_scale: Any, b_scale: Any, a_zero: Any = None, b_zero: Any = None, bias: Any = None
) -> Any:
    """(a - zero) (b - zero) * scales + bias, gradients of everything included."""
    if a_scale.numel() > 1:
        raise Unsupported("it has a scale for each row")
    left = a if a_zero is None else a - a_zero.to(a.dtype)
    right = b.to(b_scale.dtype) if b_zero is None else b.to(b_scale.dtype) - b_zero.to(b_scale.dtype)
    product = (left.to(b_scale.dtype) * a_scale) @ (right * b_scale)
    return product if bias is None else product + bias


@operator("QLinearMatMul")
def qlinear_matmul(
    node: Node, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    if max(item.numel() for item in (a_scale, b_scale, y_scale)) > 1:
        raise Unsupported("it has a scale for each row or column")
    product = (_offset(a, a_zero) @ _offset(b, b_zero)).to(y_scale.dtype) * (a_scale * b_scale)
    return levels_of(product, y_scale, y_zero.to(y_scale.dtype), _bounds(node, 7))


@operator("QLinearConv")
def qlinear_conv(
    node: Node, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, y_scale: Any, y_zero: Any,
    bias: Any = None,
) -> Any:  # fmt: skip
    sums = convolved(node, _offset(x, x_zero), _offset(w, w_zero, 0), None if bias is None else bias.double())
    scale = (x_scale * w_scale).reshape(1, -1, *[1] * (x.dim() - 2))
    return levels_of(sums.to(y_scale.dtype) * scale, y_scale, y_zero.to(y_scale.dtype), _bounds(node, 7))


def _bounds(node: Node, place: int) -> tuple[int, int]:
    held = node.input(place)
    kind = None if held is None or held.dtype is None else BOUNDS.get(int(held.dtype))
    if kind is None:
        raise Unsupported("its integers are of an unknown type")
    return kind


@operator("com.microsoft:MatMulNBits")
def matmul_n_bits(node: Node, a: Any, packed: Any, scales: Any, zeros: Any = None, *more: Any) -> Any:
    """a times the weights, which stay as they are: [outer, blocks, bytes], the first in the lowest bits."""
    if any(item is not None for item in more) or (zeros is not None and zeros.is_floating_point()):
        raise Unsupported("it permutes or biases")
    bits, inner, outer = (int(node.attr(name)) for name in ("bits", "K", "N"))
    blocks = scales.numel() // outer
    levels = _unpacked(packed.reshape(outer, blocks, -1), bits)
    offsets: Any = float(1 << (bits - 1))
    if zeros is not None:
        offsets = _unpacked(zeros.reshape(outer, -1), bits)[:, :blocks, None]
    weights = ((levels - offsets) * scales.reshape(outer, blocks, 1)).reshape(outer, -1)[:, :inner]
    return a @ weights.t()


def _unpacked(packed: Any, bits: int) -> Any:
    places = torch.arange(0, 8, bits, device=packed.device)
    return ((packed[..., None].int() >> places) & ((1 << bits) - 1)).flatten(-2).float()
