"""Convolutions, pooling, normalization, resizing and attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from qcompiler.ir import Node
from qcompiler.training.operators import Unsupported, axes_of, integers, operator

__all__ = ["convolved", "pads_of"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def pads_of(node: Node, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Padding as ONNX writes it, all beginnings and then all ends, ``auto_pad`` worked out."""
    mode, count = node.attr("auto_pad", "NOTSET"), len(kernel)
    if mode in ("NOTSET", ""):
        return list(node.attr("pads") or [0] * (2 * count))
    if mode == "VALID":
        return [0] * (2 * count)
    begins, ends = [], []
    for size, each, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (each - 1) + 1 - size)
        smaller, larger = total // 2, total - total // 2
        begins.append(smaller if mode == "SAME_UPPER" else larger)
        ends.append(larger if mode == "SAME_UPPER" else smaller)
    return begins + ends


def _padded(x: Any, pads: list[int], value: float = 0.0) -> Any:
    count = len(pads) // 2
    flat = [each for axis in range(count)[::-1] for each in (pads[axis], pads[axis + count])]
    return functional.pad(x, flat, value=value)


def convolved(node: Node, x: Any, w: Any, b: Any = None, fill: float = 0.0) -> Any:
    """The convolution that ``node`` describes; ``fill`` is what stands around the input."""
    count = w.dim() - 2
    if count not in _CONVOLUTIONS:
        raise Unsupported(f"it convolves along {count} axes")
    strides, dilations = list(node.attr("strides") or [1] * count), list(node.attr("dilations") or [1] * count)
    pads = pads_of(node, list(x.shape[2:]), list(w.shape[2:]), strides, dilations)
    around: Any = pads[:count]
    if pads[:count] != pads[count:] or fill:
        x, around = _padded(x, pads, fill), 0
    return _CONVOLUTIONS[count](x, w, b, strides, around, dilations, int(node.attr("group", 1)))


@operator("Conv")
def conv(node: Node, x: Any, w: Any, b: Any = None) -> Any:
    return convolved(node, x, w, b)


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Any, w: Any, b: Any = None) -> Any:
    count = w.dim() - 2
    if count not in _TRANSPOSED:
        raise Unsupported(f"it convolves along {count} axes")
    strides, dilations = list(node.attr("strides") or [1] * count), list(node.attr("dilations") or [1] * count)
    extra = list(node.attr("output_padding") or [0] * count)
    kernel = list(w.shape[2:])
    mode, asked = node.attr("auto_pad", "NOTSET"), node.attr("output_shape")
    whole = [
        (size - 1) * stride + dilation * (each - 1) + 1 + more
        for size, stride, dilation, each, more in zip(x.shape[2:], strides, dilations, kernel, extra, strict=True)
    ]
    if asked is not None or mode.startswith("SAME"):
        wanted = [int(each) for each in asked[-count:]] if asked is not None else [
            size * stride for size, stride in zip(x.shape[2:], strides, strict=True)
        ]  # fmt: skip
        totals = [full - each for full, each in zip(whole, wanted, strict=True)]
        if min(totals) < 0:
            raise Unsupported("its output is larger than what it computes")
        begins = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]
        pads = begins + [total - begin for total, begin in zip(totals, begins, strict=True)]
    else:
        pads = list(node.attr("pads") or [0] * (2 * count)) if mode in ("NOTSET", "") else [0] * (2 * count)
    found = _TRANSPOSED[count](x, w, b, strides, 0, extra, int(node.attr("group", 1)), dilations)
    cut = [slice(None), slice(None)]
    cut += [slice(pads[axis], found.shape[2 + axis] - pads[axis + count]) for axis in range(count)]
    return found[tuple(cut)]


def _windows(node: Node, x: Any) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations and pads of a pooling; with ceil_mode the end is padded as far as it reaches."""
    kernel = [int(each) for each in node.attr("kernel_shape")]
    strides = list(node.attr("strides") or [1] * len(kernel))
    dilations = list(node.attr("dilations") or [1] * len(kernel))
    return kernel, strides, dilations, pads_of(node, list(x.shape[2:]), kernel, strides, dilations)


def _rounded_up(x: Any, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int]) -> list[int]:
    """How much further the end is padded so that the last, incomplete window counts."""
    more = []
    for axis, (each, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        size = x.shape[2 + axis] + pads[axis] + pads[axis + len(kernel)]
        reach = dilation * (each - 1) + 1
        steps = -(-(size - reach) // stride)
        if steps * stride >= x.shape[2 + axis] + pads[axis]:  # a window has to begin before the end padding
            steps -= 1
        more.append(max(0, steps * stride + reach - size))
    return more


@operator("MaxPool")
def max_pool(node: Node, x: Any) -> Any:
    if len(node.outputs) > 1 and node.outputs[1].uses:
        raise Unsupported("it gives indices")
    kernel, strides, dilations, pads = _windows(node, x)
    if len(kernel) not in _MAX_POOLS:
        raise Unsupported(f"it pools along {len(kernel)} axes")
    if node.attr("ceil_mode", 0):
        more = _rounded_up(x, kernel, strides, dilations, pads)
        pads = pads[: len(kernel)] + [a + b for a, b in zip(pads[len(kernel) :], more, strict=True)]
    if any(pads):
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x = _padded(x, pads, lowest)
    return _MAX_POOLS[len(kernel)](x, kernel, strides, 0, dilations)


@operator("AveragePool")
def average_pool(node: Node, x: Any) -> Any:
    kernel, strides, dilations, pads = _windows(node, x)
    if len(kernel) not in _AVERAGE_POOLS or set(dilations) != {1}:
        raise Unsupported("it is dilated or pools along more than three axes")
    pool = _AVERAGE_POOLS[len(kernel)]
    counted = torch.ones_like(x[:1, :1])
    around = bool(node.attr("count_include_pad", 0))
    more = _rounded_up(x, kernel, strides, dilations, pads) if node.attr("ceil_mode", 0) else [0] * len(kernel)
    if any(pads):
        counted, x = _padded(counted, pads, 1.0 if around else 0.0), _padded(x, pads)
    if any(more):  # what lies beyond the padding counts never
        counted, x = (_padded(item, [0] * len(kernel) + more) for item in (counted, x))
    return pool(x, kernel, strides) / pool(counted, kernel, strides)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Any) -> Any:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Any) -> Any:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


@operator("InstanceNormalization")
def instance_norm(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=node.attr("epsilon", 1e-5))


@operator("GroupNormalization")
def group_norm(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    groups = int(node.attr("num_groups"))
    if scale.numel() != x.shape[1]:
        raise Unsupported("its scales are those of groups")
    return functional.group_norm(x, groups, scale, bias, node.attr("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    if len(node.outputs) > 1:
        raise Unsupported("it gives mean and deviation")
    axis = int(node.attr("axis", -1)) % x.dim()
    normal = functional.layer_norm(x, x.shape[axis:], eps=node.attr("epsilon", 1e-5)) * scale
    return normal if bias is None else normal + bias


@operator("RMSNormalization")
def rms_norm(node: Node, x: Any, scale: Any) -> Any:
    axes = tuple(range(int(node.attr("axis", -1)) % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + node.attr("epsilon", 1e-5)) * scale


@operator("LRN")
def lrn(node: Node, x: Any) -> Any:
    size = int(node.attr("size"))
    before = (size - 1) // 2
    squares = functional.pad(x.square().movedim(1, -1), (before, size - 1 - before)).unfold(-1, size, 1).sum(-1)
    alpha, beta, bias = node.attr("alpha", 1e-4), node.attr("beta", 0.75), node.attr("bias", 1.0)
    return x / (bias + alpha / size * squares.movedim(-1, 1)) ** beta


@operator("LpNormalization")
def lp_norm(node: Node, x: Any) -> Any:
    norm = x.norm(float(node.attr("p", 2)), int(node.attr("axis", -1)), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


@operator("Resize")
def resize(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """Nearest and linear along the last axes, as torch has them; every other kind is left to onnxruntime."""
    mode = node.attr("mode", "nearest")
    how = node.attr("coordinate_transformation_mode", "half_pixel")
    rounding = node.attr("nearest_mode", "round_prefer_floor")
    axes = axes_of(node, None, x.dim()) or list(range(x.dim()))
    if node.attr("antialias", 0) or node.attr("keep_aspect_ratio_policy", "stretch") != "stretch" or x.dim() != 4:
        raise Unsupported("it resizes in a way of its own")
    if sizes is not None and sizes.numel():
        wanted, factors = dict(zip(axes, integers(sizes), strict=True)), None
    elif scales is not None and scales.numel():
        factors = dict(zip(axes, scales.tolist(), strict=True))
        wanted = {axis: math.floor(x.shape[axis] * factor) for axis, factor in factors.items()}
    else:
        raise Unsupported("it has neither scales nor sizes")
    if any(wanted.get(axis, x.shape[axis]) != x.shape[axis] for axis in (0, 1)):
        raise Unsupported("it resizes channels")
    size = [wanted.get(axis, x.shape[axis]) for axis in (2, 3)]
    whole = all(each % x.shape[2 + place] == 0 for place, each in enumerate(size))
    exact = factors is None or all(
        abs(factors.get(axis, 1.0) * x.shape[axis] - each) < 1e-6 for axis, each in zip((2, 3), size, strict=True)
    )
    if (
        mode == "nearest"
        and whole
        and exact
        and ((how == "asymmetric" and rounding == "floor") or (how == "half_pixel" and rounding.startswith("round")))
    ):
        return functional.interpolate(x, size, mode="nearest")
    if mode == "linear" and exact and how in ("half_pixel", "pytorch_half_pixel") and min(size) > 1:
        return functional.interpolate(x, size, mode="bilinear", align_corners=False)
    if mode == "linear" and exact and how == "align_corners":
        return functional.interpolate(x, size, mode="bilinear", align_corners=True)
    raise Unsupported("it resizes in a way of its own")


_ATTENTION = {"scale", "is_causal", "q_num_heads", "kv_num_heads", "softmax_precision"}


@operator("Attention")
def attention(node: Node, q: Any, k: Any, v: Any, mask: Any = None, *more: Any) -> Any:
    """Scaled dot products (ONNX Attention, operator set 23), [batch, heads, length, size] or heads in one axis."""
    if any(item is not None for item in more) or len([out for out in node.outputs if out.uses or out.is_output]) > 1:
        raise Unsupported("it keeps keys and values")
    other = [name for name in node.attrs if name not in _ATTENTION and node.attr(name) not in (0, 0.0)]
    if other:
        raise Unsupported(f"it has {', '.join(other)}")
    flat = q.dim() == 3
    if flat:
        heads, others = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
        q = q.reshape(*q.shape[:2], heads, -1).transpose(1, 2)
        k, v = (each.reshape(*each.shape[:2], others, -1).transpose(1, 2) for each in (k, v))
    repeated = q.shape[1] // k.shape[1]
    if repeated > 1:
        k, v = (each.repeat_interleave(repeated, dim=1) for each in (k, v))
    scale = node.attr("scale") or 1 / math.sqrt(q.shape[-1])
    scores = (q * math.sqrt(scale)) @ (k * math.sqrt(scale)).transpose(-1, -2)
    if node.attr("is_causal", 0):
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask
    dead = torch.isneginf(scores).all(-1, keepdim=True)  # what sees nothing gives nothing
    found = functional.softmax(scores.masked_fill(dead, 0.0), -1).masked_fill(dead, 0.0) @ v
    return found.transpose(1, 2).reshape(found.shape[0], found.shape[2], -1) if flat else found
