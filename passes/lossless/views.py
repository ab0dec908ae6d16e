"""Reshape, Flatten, Squeeze and Unsqueeze: all of them only count the same elements in the same order anew.

So of two in a row the first does not matter, if the second says its result without it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.passes.lossless.known import computed, listed, normalized, static_shape
from qcompiler.rewrite import Match, Rewriter, Rule, any_of, maybe, op, rule

__all__ = ["VIEWS"]

Sizes = tuple[int, ...]


@rule(lambda x, shape: op.Reshape(x, shape))
def same_reshape(rw: Rewriter, m: Match) -> Any:
    """Reshape to the sizes that x has; one size may be left to count, since the number of elements stays."""
    wanted, sizes = listed(m.Reshape, "shape", 1), m.x.shape
    if wanted is None:
        return m.no("the shape is computed at run time")
    if sizes is None or len(wanted) != len(sizes):
        return m.no("the number of axes changes, or is not known")
    copies = not m.Reshape.attr("allowzero", 0)
    left = [w for w, size in zip(wanted, sizes, strict=True) if w != size and not (w == 0 and copies)]
    if left and (left != [-1] or 0 in sizes):
        return m.no("the shape may change")
    return m.x


@rule(lambda x: op.Flatten(x))
def flat_already(rw: Rewriter, m: Match) -> Any:
    """Flatten of a matrix between its two axes."""
    if m.x.rank != 2 or m.Flatten.attr("axis", 1) not in (1, -1):
        return m.no("x is no matrix, or is not known to be one")
    return m.x


@rule(lambda x, axes: op.Squeeze(x, maybe(axes)))
def nothing_to_squeeze(rw: Rewriter, m: Match) -> Any:
    """Squeeze of all axes of size one where there is none."""
    sizes = static_shape(m.x)
    if m.axes is not None or "axes" in m.Squeeze.attrs or sizes is None or 1 in sizes:
        return m.no("there is an axis to drop, or may be")
    return m.x


@rule(lambda x, axes: op.Unsqueeze(x, maybe(axes)))
def nothing_to_unsqueeze(rw: Rewriter, m: Match) -> Any:
    """Unsqueeze at no axis."""
    return m.x if listed(m.Unsqueeze, "axes", 1) == () else m.no("it adds an axis")


@rule(lambda x, inner, outer: op.Squeeze(op.Unsqueeze(x, maybe(inner), _shared=True), maybe(outer)))
def squeeze_of_unsqueeze(rw: Rewriter, m: Match) -> Any:
    """Squeeze takes away the axes that Unsqueeze added. Both count axes of the tensor in between."""
    return m.x if _same_axes(m.Squeeze, m.Unsqueeze, m.Unsqueeze.output.rank) else m.no("the axes differ, or may")


@rule(lambda x, inner, outer: op.Unsqueeze(op.Squeeze(x, maybe(inner), _shared=True), maybe(outer)))
def unsqueeze_of_squeeze(rw: Rewriter, m: Match) -> Any:
    """Unsqueeze brings back the axes that Squeeze took away. Both count axes of x."""
    return m.x if _same_axes(m.Squeeze, m.Unsqueeze, m.x.rank) else m.no("the axes differ, or may")


@rule(lambda x, a, b: op.Unsqueeze(op.Unsqueeze(x, maybe(a), _as="inner"), maybe(b), _as="outer"))
def unsqueeze_twice(rw: Rewriter, m: Match) -> Any:
    """Two Unsqueeze are one: the outer one's axes stand, the inner one's are the first of those left over."""
    inner, outer = listed(m.inner, "axes", 1), listed(m.outer, "axes", 1)
    if inner is None or outer is None:
        return m.no("the axes are computed at run time")
    inner = normalized(inner, None if m.x.rank is None else m.x.rank + len(inner))
    outer = normalized(outer, None if m.x.rank is None or inner is None else m.x.rank + len(inner) + len(outer))
    if inner is None or outer is None:
        return m.no("negative axes, and the rank of x is not known")
    return _with_axes(rw, m.outer, m.x, tuple(sorted((*outer, *_among_the_others(inner, outer)))))


@rule(lambda x, a, b: op.Squeeze(op.Squeeze(x, maybe(a), _as="inner"), maybe(b), _as="outer"))
def squeeze_twice(rw: Rewriter, m: Match) -> Any:
    """Two Squeeze are one: the inner one's axes stand, the outer one's are counted among those left over."""
    inner, outer = listed(m.inner, "axes", 1), listed(m.outer, "axes", 1)
    if inner is None or outer is None:
        return m.no("the axes are not listed")
    inner = normalized(inner, m.x.rank)
    outer = normalized(outer, None if m.x.rank is None or inner is None else m.x.rank - len(inner))
    if inner is None or outer is None:
        return m.no("negative axes, and the rank of x is not known")
    return _with_axes(rw, m.outer, m.x, tuple(sorted((*inner, *_among_the_others(outer, inner)))))


@rule(lambda x, sizes, shape: op.Reshape(any_of(
    op.Reshape(x, sizes, _as="inner"),
    op.Flatten(x, _as="inner"),
    op.Squeeze(x, maybe(sizes), _as="inner"),
    op.Unsqueeze(x, maybe(sizes), _as="inner"),
), shape, _as="outer"))  # fmt: skip
def reshape_of_view(rw: Rewriter, m: Match) -> Any:
    """Reshape(view(x), shape) is Reshape(x, shape), where the shape copies no size of what stands in between."""
    wanted = listed(m.outer, "shape", 1)
    if wanted is None:
        return m.no("the shape is computed at run time, and may copy sizes")
    if m.outer.attr("allowzero", 0):
        return rw.node("Reshape", m.x, m.shape, **m.outer.attrs)
    resolved = _without_copies(wanted, m.inner.output)
    if resolved is None:
        return m.no("the shape copies a size that is not known")
    return rw.op.Reshape(m.x, m.shape if resolved == wanted else np.array(resolved, np.int64))


@rule(lambda x, shape, axes: any_of(
    op.Unsqueeze(op.Reshape(x, shape, _as="inner"), maybe(axes), _as="outer"),
    op.Squeeze(op.Reshape(x, shape, _as="inner"), maybe(axes), _as="outer"),
    op.Flatten(op.Reshape(x, shape, _as="inner"), _as="outer"),
))  # fmt: skip
def view_of_reshape(rw: Rewriter, m: Match) -> Any:
    """Unsqueeze, Squeeze or Flatten of Reshape(x, shape) is Reshape(x) to the shape that comes of it."""
    inner = listed(m.inner, "shape", 1)
    if inner is None or computed(m.outer, 1):
        return m.no("the shape or the axes are computed at run time")
    keeps_zeros = bool(m.inner.attr("allowzero", 0))
    sizes = inner if keeps_zeros else _without_copies(inner, m.x)
    if sizes is None:
        return m.no("the shape copies a size that is not known")
    if m.outer.is_op("Unsqueeze"):
        made = _unsqueezed(sizes, listed(m.outer, "axes", 1) or ())
    elif m.outer.is_op("Squeeze"):
        made = _squeezed(sizes, listed(m.outer, "axes", 1))
    else:
        made = _flattened(sizes, m.outer.attr("axis", 1))
    if made is None or (0 in made and -1 in made):
        return m.no("a size that is not known decides")
    return rw.op.Reshape(m.x, np.array(made, np.int64), **({"allowzero": 1} if 0 in made else {}))


def _same_axes(a: Node, b: Node, rank: int | None) -> bool:
    first, second = listed(a, "axes", 1), listed(b, "axes", 1)
    if first is None or second is None:
        return False
    if sorted(first) == sorted(second):
        return True
    one, other = normalized(first, rank), normalized(second, rank)
    return one is not None and one == other


def _among_the_others(positions: Sizes, taken: Sizes) -> Sizes:
    """``positions``, counted among the axes that are not ``taken``, as axes counted among all."""
    found: list[int] = []
    axis = free = 0
    for position in sorted(positions):
        while free < position or axis in taken:
            free += axis not in taken
            axis += 1
        found.append(axis)
    return tuple(found)


def _with_axes(rw: Rewriter, like: Node, x: Value, axes: Sizes) -> Any:
    """A node of the operator and the form of ``like``: axes were an attribute before opset 13."""
    if "axes" in like.attrs:
        return rw.node(like.op_type, x, axes=axes)
    return rw.node(like.op_type, x, np.array(axes, np.int64))


def _without_copies(shape: Sizes, source: Value) -> Sizes | None:
    """``shape`` with each 0 replaced by the size of ``source`` that it copies; None when that is no number."""
    made = []
    for axis, size in enumerate(shape):
        if size == 0:
            known = source.shape[axis] if source.shape is not None and axis < len(source.shape) else None
            if not isinstance(known, int) or known == 0:
                return None
            size = known
        made.append(size)
    return tuple(made)


def _unsqueezed(sizes: Sizes, axes: Sizes) -> Sizes | None:
    rank = len(sizes) + len(axes)
    rest = iter(sizes)
    added = {axis % rank for axis in axes}
    return tuple(1 if axis in added else next(rest) for axis in range(rank))


def _squeezed(sizes: Sizes, axes: Sizes | None) -> Sizes | None:
    if axes is None:
        return None if -1 in sizes else tuple(size for size in sizes if size != 1)
    dropped = {axis % len(sizes) for axis in axes}
    if any(sizes[axis] != 1 for axis in dropped):
        return None
    return tuple(size for axis, size in enumerate(sizes) if axis not in dropped)


def _flattened(sizes: Sizes, axis: int) -> Sizes | None:
    axis = axis + len(sizes) if axis < 0 else axis
    return tuple(-1 if -1 in part else math.prod(part) for part in (sizes[:axis], sizes[axis:]))


VIEWS: tuple[Rule, ...] = (
    same_reshape,
    flat_already,
    nothing_to_squeeze,
    nothing_to_unsqueeze,
    squeeze_of_unsqueeze,
    unsqueeze_of_squeeze,
    unsqueeze_twice,
    squeeze_twice,
    reshape_of_view,
    view_of_reshape,
)
