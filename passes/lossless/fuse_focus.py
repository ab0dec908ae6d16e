"""The stem that cuts an image into every second pixel and convolves the parts (YOLOv5 and its kin call it focus)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.passes.lossless.known import not_constant
from qcompiler.passes.lossless.slices import bounds
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, maybe, op, rest, rule

__all__ = ["FuseFocus"]


@rule(lambda w, b, parts: op.Conv(op.Concat(rest(parts), axis=1), w, maybe(b)))
def focus_conv(rw: Rewriter, m: Match) -> Any:
    """A convolution over all s * s phases of x, one beside the other as channels, is one over x itself.

    Element (i, j) of the kernel for phase (p, q) meets x at (s * i + p, s * j + q): so the kernel is s times as high
    and wide, the strides and pads s times as long. As many products as before, and nothing is copied.
    """
    why = not_constant(weight=m.w)
    if why:
        return m.no(why)
    found = _phases(m.parts)
    if isinstance(found, str):
        return m.no(found)
    x, step, phases = found
    conv, weight = m.Conv, m.array("w")
    if conv.attr("group", 1) != 1 or any(each != 1 for each in conv.attr("dilations", ())):
        return m.no("the convolution has groups or dilations")
    if conv.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or weight.ndim != 4:
        return m.no("the convolution computes its own pads, or has not two spatial axes")
    channels = weight.shape[1] // (step * step)
    out, _, high, wide = weight.shape
    grown = np.zeros((out, channels, high * step, wide * step), weight.dtype)
    for place, (row, column) in enumerate(phases):
        part = weight[:, place * channels : (place + 1) * channels]
        grown[:, :, row::step, column::step] = part
    attrs: dict[str, Any] = {key: attr for key, attr in conv.attrs.items() if key not in ("auto_pad", "kernel_shape")}
    pads = conv.attr("pads", (0, 0, 0, 0)) if conv.attr("auto_pad", "NOTSET") == "NOTSET" else (0, 0, 0, 0)
    attrs |= {
        "kernel_shape": (high * step, wide * step),
        "pads": tuple(step * pad for pad in pads),
        "strides": tuple(step * each for each in conv.attr("strides", (1, 1))),
    }
    inputs = (x, rw.constant(grown, m.w.name)) if m.b is None else (x, rw.constant(grown, m.w.name), m.b)
    return rw.node("Conv", *inputs, name=conv.name, **attrs)


def _phases(parts: tuple[Value | None, ...]) -> tuple[Value, int, list[tuple[int, int]]] | str:
    """What was cut, the step, and (row, column) of each part; or why it is not that."""
    step = round(len(parts) ** 0.5)
    if step < 2 or step * step != len(parts):
        return "not a square number of parts"
    source: Value | None = None
    phases: list[tuple[int, int]] = []
    for part in parts:
        maker: Node | None = part.producer if part is not None else None
        if maker is None or not maker.is_op("Slice"):
            return "a part is no Slice"
        cut = maker.inputs[0]
        if cut is None or (source is not None and cut is not source) or cut.rank != 4:
            return "the parts are cut from different tensors, or from one of another rank"
        source = cut
        found = bounds(maker, cut)
        if found is None or found.keys() != {2, 3}:
            return "a Slice does not go along height and width"
        for axis, (start, end, stride) in found.items():
            size = cut.shape[axis] if cut.shape is not None else None
            whole = end >= 2**31 - 1 or (isinstance(size, int) and end >= size)
            if stride != step or not 0 <= start < step or not whole:
                return "a Slice does not take every so many pixels to the end"
        phases.append((found[2][0], found[3][0]))
    if len(set(phases)) < len(phases):
        return "a phase occurs twice"
    assert source is not None
    return source, step, phases


@dataclass(frozen=True)
class FuseFocus(Pass):
    """Slices and Concat of a focus stem go into the convolution behind them.

    Needs slices along several axes to be one: the pass ``simplify`` does that.
    """

    rules = (focus_conv,)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
