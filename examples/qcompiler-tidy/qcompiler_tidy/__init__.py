"""Two lossless passes, one of rules and one on a graphsurgeon Graph, a recipe, a target, an importer and a kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import qcompiler as qc
from qcompiler import op
from qcompiler.kernels import Given, Kernel, Launch, Made, Port, Size
from qcompiler.lower import OrtCpu

RECIPE = """
name = "tidy"
description = "The lossless clean-up, and what qcompiler-tidy adds."
[[pass]]
name = "remove-dead-code"
[[pass]]
name = "simplify"
[[pass]]
name = "merge-clips"
[[pass]]
name = "multiply"
"""


@qc.rule(lambda x, a, b, c, d: op.Clip(op.Clip(x, qc.const(a), qc.const(b)), qc.const(c), qc.const(d)))
def clip_of_clip(rw, m):
    """clip(clip(x, a, b), c, d) is clip(x, clip(a, c, d), clip(b, c, d)): bounds that are clipped are bounds."""
    low, high = m.array("c"), m.array("d")
    if low > high:
        return m.no("the outer bounds are the wrong way round, and what that gives depends on the order")
    return rw.op.Clip(m.x, np.clip(m.array("a"), low, high), np.clip(m.array("b"), low, high))


@dataclass(frozen=True)
class MergeClips(qc.Pass):
    """Clip of Clip becomes one Clip."""

    rules = (clip_of_clip,)
    lossless = True
    keeps_types = True


@qc.surgeon_pass(lossless=True)
def multiply(graph):
    """Division by a power of two becomes multiplication, which is several times as fast and the same number."""
    import onnx_graphsurgeon as gs

    for node in graph.nodes:
        divisor = node.inputs[1] if node.op == "Div" else None
        if not isinstance(divisor, gs.Constant) or divisor.dtype != np.float32 or divisor.values.size != 1:
            continue
        if divisor.values.item() > 0 and math.frexp(divisor.values.item())[0] == 0.5:
            node.op = "Mul"
            node.inputs[1] = gs.Constant(f"{divisor.name}_inverse", np.asarray(1 / divisor.values, np.float32))


@dataclass(frozen=True)
class OldProcessors(OrtCpu):
    """A target: processors without VNNI, whose 8-bit products saturate, whatever this machine is."""

    saturates: bool | None = True
    name = "old-cpu"
    description = "onnxruntime on processors without VNNI"


def from_text(path):
    """An importer: a model in ONNX's own text, in a file that ends in .onnxtxt."""
    import onnx.parser

    with open(path, encoding="utf-8") as file:
        return onnx.parser.parse_model(file.read())


class TidyAbs(Kernel):
    """y = |x|; -128 has no counterpart in int8 and becomes 127."""

    name = "TidyAbs"
    about = "absolute value of int8"
    inputs = (Port("x", ("int8",), "of any shape"),)
    outputs = (Port("y", ("int8",), "of the same shape"),)
    attributes: ClassVar[dict] = {}

    def results(self, operands, attributes):
        return [("int8", operands[0].shape)]

    def reference(self, arrays, attributes):
        return [np.minimum(np.abs(arrays[0].astype(np.int16)), 127).astype(np.int8)]

    def body(self, writer):
        wide = writer("Cast", "x", to=" = 6")
        bounded = writer("Min", writer("Abs", wide), writer.constant("int32 {127}"))
        writer("Cast", bounded, give="y", to=" = 3")

    def launch(self, operands, attributes, card):
        count = math.prod(operands[0].shape)
        grid = (-(-count // 1024), 1, 1)
        arguments = (Given(0), Made(0), Size(count))
        return Launch("qcompiler_tidy.triton:tidy_abs", arguments, {"BLOCK": 1024}, grid, warps=4, stages=1)
