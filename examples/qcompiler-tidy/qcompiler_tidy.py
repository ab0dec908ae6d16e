"""Two lossless passes, one of rules and one on a graphsurgeon Graph, and a recipe that uses them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import qcompiler as qc
from qcompiler import op

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
