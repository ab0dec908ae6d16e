"""Operators that move elements, and those that work out sizes and places."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from qcompiler.ir import Node
from qcompiler.training.operators import TORCH_TYPES, Unsupported, axes_of, integers, operator

__all__ = ["reshaped"]


@operator("Shape")
def shape(node: Node, x: Any) -> Any:
    end = node.attr("end")
    return torch.tensor(list(x.shape)[node.attr("start", 0) : end if end is None else int(end)], dtype=torch.int64)


@operator("Size")
def size(node: Node, x: Any) -> Any:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Constant")
def constant(node: Node) -> Any:
    raise Unsupported("it holds its elements as an attribute")


@operator("Reshape")
def reshape(node: Node, x: Any, sizes: Any) -> Any:
    return reshaped(x, integers(sizes), bool(node.attr("allowzero", 0)))


def reshaped(x: Any, sizes: list[int], allow_zero: bool = False) -> Any:
    """``x`` in the shape ``sizes``, in which 0 is the input's own size unless it is allowed as such."""
    if not allow_zero:
        sizes = [x.shape[place] if each == 0 else each for place, each in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(node: Node, x: Any) -> Any:
    axis = node.attr("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(int(torch.Size(x.shape[:axis]).numel()), -1) if x.numel() else x.flatten()


@operator("Squeeze")
def squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(node, axes, x.dim())
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


@operator("Unsqueeze")
def unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    given = integers(axes) if axes is not None else list(node.attr("axes"))
    rank = x.dim() + len(given)
    for axis in sorted(axis % rank for axis in given):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose")
def transpose(node: Node, x: Any) -> Any:
    return x.permute(tuple(node.attr("perm") or range(x.dim())[::-1]))


@operator("Concat")
def concat(node: Node, *xs: Any) -> Any:
    kinds = {x.dtype for x in xs}
    if len(kinds) > 1:
        raise Unsupported("its inputs are held in several types")
    return torch.cat(xs, dim=int(node.attr("axis")))


@operator("Split")
def split(node: Node, x: Any, sizes: Any = None) -> Any:
    axis = int(node.attr("axis", 0))
    if sizes is not None:
        parts = integers(sizes)
    elif node.attr("split") is not None:
        parts = [int(each) for each in node.attr("split")]
    else:
        count = len(node.outputs)
        each = -(-x.shape[axis] // count)
        parts = [min(each, max(0, x.shape[axis] - each * place)) for place in range(count)]
    return torch.split(x, parts, dim=axis)


@operator("Slice")
def slice_(node: Node, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    first = integers(starts) if starts is not None else list(node.attr("starts"))
    last = integers(ends) if ends is not None else list(node.attr("ends"))
    along = integers(axes) if axes is not None else list(node.attr("axes") or range(len(first)))
    strides = integers(steps) if steps is not None else [1] * len(first)
    for axis, start, end, step in zip(along, first, last, strides, strict=True):
        length = x.shape[axis]
        if step > 0:
            chosen = slice(start, end, step).indices(length)
            begin, stop = chosen[0], max(chosen[0], chosen[1])
            x = x[(slice(None),) * (axis % x.dim()) + (slice(begin, stop, step),)]
        else:
            # An end below the first element is written as a large negative number, which Python reads otherwise.
            begin = min(max(start + length if start < 0 else start, -1), length - 1)
            stop = max(end + length if end < 0 else min(end, length), -1)
            places = torch.arange(begin, stop, step, device=x.device) if begin > stop else torch.arange(0)
            x = x.index_select(axis % x.dim(), places.to(x.device))
    return x


def _wrapped(indices: Any, length: int) -> Any:
    indices = indices.long()
    return torch.where(indices < 0, indices + length, indices)


@operator("Gather")
def gather(node: Node, x: Any, indices: Any) -> Any:
    axis = int(node.attr("axis", 0)) % max(x.dim(), 1)
    places = _wrapped(indices, x.shape[axis])
    found = x.index_select(axis, places.reshape(-1))
    return found.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


@operator("GatherElements")
def gather_elements(node: Node, x: Any, indices: Any) -> Any:
    axis = int(node.attr("axis", 0))
    return torch.gather(x, axis, _wrapped(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node, x: Any, indices: Any) -> Any:
    leading = int(node.attr("batch_dims", 0))
    depth = indices.shape[-1]
    flat = x.reshape(-1, *x.shape[leading:]) if leading else x[None]
    rows = indices.reshape(flat.shape[0], -1, depth) if leading else indices.reshape(1, -1, depth)
    places = [_wrapped(rows[..., axis], flat.shape[axis + 1]) for axis in range(depth)]
    first = torch.arange(flat.shape[0], device=x.device)[:, None].expand(rows.shape[:2])
    found = flat[(first, *places)]
    return found.reshape((*indices.shape[:-1], *x.shape[leading + depth :]))


@operator("Expand")
def expand(node: Node, x: Any, sizes: Any) -> Any:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(integers(sizes))))


@operator("Tile")
def tile(node: Node, x: Any, repeats: Any) -> Any:
    return x.repeat(integers(repeats))


@operator("ConstantOfShape")
def constant_of_shape(node: Node, sizes: Any) -> Any:
    held = node.attr("value")
    if held is None:
        return torch.zeros(integers(sizes))
    kind = TORCH_TYPES.get(int(held.dtype))
    if kind is None:
        raise Unsupported("its type has no gradients")
    return torch.full(integers(sizes), held.numpy().reshape(-1)[0].item(), dtype=kind)


@operator("Range")
def range_(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


@operator("Trilu")
def trilu(node: Node, x: Any, k: Any = None) -> Any:
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if node.attr("upper", 1) else torch.tril(x, diagonal)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Any) -> Any:
    block = int(node.attr("blocksize"))
    n, c, h, w = x.shape
    if node.attr("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Any) -> Any:
    block = int(node.attr("blocksize"))
    n, c, h, w = x.shape
    if node.attr("mode", "DCR") == "CRD":
        return functional.pixel_unshuffle(x, block)
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


@operator("Pad")
def pad(node: Node, x: Any, amounts: Any = None, value: Any = None, axes: Any = None) -> Any:
    mode = node.attr("mode", "constant")
    given = integers(amounts) if amounts is not None else list(node.attr("pads"))
    along = [axis % x.dim() for axis in integers(axes)] if axes is not None else list(range(x.dim()))
    before, after = [0] * x.dim(), [0] * x.dim()
    for place, axis in enumerate(along):
        before[axis], after[axis] = given[place], given[place + len(along)]
    filled = float(value) if value is not None and value.numel() else float(node.attr("value", 0.0))
    if mode == "constant":
        flat = [each for axis in range(x.dim())[::-1] for each in (before[axis], after[axis])]
        return functional.pad(x, flat, value=filled)
    for axis in range(x.dim()):  # by places along each axis: torch pads the last axes only
        if before[axis] or after[axis]:
            places = torch.arange(-before[axis], x.shape[axis] + after[axis], device=x.device)
            length = x.shape[axis]
            if mode == "edge":
                places = places.clamp(0, length - 1)
            elif mode == "wrap":
                places = places.remainder(length)
            elif max(before[axis], after[axis]) < length:
                places = length - 1 - (length - 1 - places.abs()).abs()
            else:
                raise Unsupported("it reflects more than there is")
            x = x.index_select(axis, places)
    return x
