"""Pad in front of an operator that can pad by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.ir import Node
from qcompiler.passes.lossless.known import computed, listed
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, maybe, op, rule

__all__ = ["FusePad"]


def _pad(x: Any, pads: Any, value: Any, axes: Any) -> Any:
    """Attributes before opset 11, inputs since. Others may use it too: for them it stays."""
    return op.Pad(x, maybe(pads), maybe(value), maybe(axes), _shared=True)


@rule(lambda x, pads, value, axes, w, b: op.Conv(_pad(x, pads, value, axes), w, maybe(b)))
def pad_conv(rw: Rewriter, m: Match) -> Any:
    """A convolution of x with zeros around it pads with zeros itself (ONNX, Conv: attribute ``pads``)."""
    pads = _spatial_pads(m, m.w.rank)
    if isinstance(pads, str):
        return m.no(pads)
    if _value(m) != 0:
        return m.no("it does not pad with zeros")
    inputs = (m.x, m.w) if m.b is None else (m.x, m.w, m.b)
    return _padded(rw, m.Conv, inputs, pads, {}) or m.no("the convolution computes its own pads")


@rule(lambda x, pads, value, axes: op.AveragePool(_pad(x, pads, value, axes), _as="pool"))
def pad_average_pool(rw: Rewriter, m: Match) -> Any:
    """An average over zeros around x that counts them (``count_include_pad``), as it counts what Pad put there.

    A pool that pads by itself without counting cannot count only a part of its pads.
    """
    counts = m.pool.attr("count_include_pad", 0)
    if not counts and any(m.pool.attr("pads", ())):
        return m.no("the pool has pads that it does not count")
    why = _pool_objection(m)
    if why:
        return m.no(why)
    pads = _spatial_pads(m, _pool_rank(m.pool))
    if isinstance(pads, str):
        return m.no(pads)
    if _value(m) != 0:
        return m.no("it does not pad with zeros")
    made = _padded(rw, m.pool, (m.x,), pads, {"count_include_pad": 1})
    return made or m.no("the pool computes its own pads, or they would be wider than its window")


@rule(lambda x, pads, value, axes: op.MaxPool(_pad(x, pads, value, axes), _as="pool"))
def pad_max_pool(rw: Rewriter, m: Match) -> Any:
    """The largest of a window with minus infinity around x, which is how MaxPool pads (ONNX, MaxPool)."""
    if any(value.uses for value in m.pool.outputs[1:]):
        return m.no("its indices are used, and they count the pads")
    why = _pool_objection(m)
    if why:
        return m.no(why)
    pads = _spatial_pads(m, _pool_rank(m.pool))
    if isinstance(pads, str):
        return m.no(pads)
    if _value(m) != -np.inf:
        return m.no("it does not pad with minus infinity")
    made = _padded(rw, m.pool, (m.x,), pads, {})
    return made or m.no("the pool computes its own pads, or they would be wider than its window")


def _spatial_pads(m: Match, rank: int | None) -> tuple[int, ...] | str:
    """The pads of the spatial axes, all begins and then all ends, or why they cannot be had."""
    pad = m.Pad
    if pad.attr("mode", "constant") != "constant":
        return f"its mode is {pad.attr('mode')}"
    if computed(pad, 1, 2, 3):
        return "what it pads is computed at run time"
    given, axes = listed(pad, "pads", 1), listed(pad, "axes", 3)
    if given is None or rank is None:
        return "the number of axes is not known"
    if axes is not None:
        half = len(given) // 2
        begins, ends = [0] * rank, [0] * rank
        for i, axis in enumerate(axes):
            begins[axis], ends[axis] = given[i], given[half + i]
        given = (*begins, *ends)
    if any(given[axis] or given[rank + axis] for axis in (0, 1)):
        return "it pads the batch or the channels"
    if min(given) < 0:
        return "it cuts off"
    return (*given[2:rank], *given[rank + 2 :])


def _value(m: Match) -> float:
    """What Pad fills with: an attribute before opset 11, an input since, zero by default."""
    if m.value is not None:
        return float(m.array("value").reshape(-1)[0])
    return float(m.Pad.attr("value", 0.0))


def _pool_rank(pool: Node) -> int:
    return len(pool.attr("kernel_shape")) + 2


def _pool_objection(m: Match) -> str:
    """Why the windows of the pool may see other elements when it pads by itself."""
    if m.pool.attr("ceil_mode", 0):
        return "windows may reach beyond the pads (ceil_mode)"
    if any(step != 1 for step in m.pool.attr("dilations", ())):
        return "a dilated window may see nothing but pads"
    return ""


def _padded(rw: Rewriter, node: Node, inputs: tuple[Any, ...], pads: tuple[int, ...], more: dict[str, Any]) -> Any:
    """``node`` over ``inputs`` with ``pads`` beside its own; None when its own are not given as numbers.

    A pool's pads have to be narrower than its window: onnxruntime and TensorRT refuse others.
    """
    if node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    own = node.attr("pads") if node.attr("auto_pad", "NOTSET") == "NOTSET" else None
    total = [a + b for a, b in zip(own or (0,) * len(pads), pads, strict=True)]
    if not node.is_op("Conv"):
        window = node.attr("kernel_shape")
        if any(pad >= size for pad, size in zip(total, (*window, *window), strict=True)):
            return None
    attrs: dict[str, Any] = {key: attr for key, attr in node.attrs.items() if key != "auto_pad"}
    attrs |= {"pads": tuple(total), **more}
    return rw.node(node.op_type, *inputs, name=node.name, **attrs)


@dataclass(frozen=True)
class FusePad(Pass):
    """Fold Pad into the Conv, AveragePool or MaxPool behind it."""

    rules = (pad_conv, pad_average_pool, pad_max_pool)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
