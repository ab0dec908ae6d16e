"""How this processor adds 8-bit products, found by asking it.

Processors without 8-bit dot product instructions (x86 before VNNI) multiply uint8 by int8 in pairs whose sum saturates
at 16 bits: 2 * 255 * 127 does not fit. onnxruntime takes that path for int8 weights and an exact one for uint8 weights.
"""

from __future__ import annotations

import functools

import numpy as np
from onnx import parser

from qcompiler.runtime import Session

__all__ = ["products_saturate"]

_WIDTH = 64  # more than any kernel's inner step

_MODEL = f"""<ir_version: 8, opset_import: ["" : 17]>
g (uint8[4,{_WIDTH}] a, int8[{_WIDTH},{_WIDTH}] b) => (int32[4,{_WIDTH}] y) {{ y = MatMulInteger(a, b) }}"""


@functools.cache
def products_saturate() -> bool:
    """True when onnxruntime's products of uint8 activations and int8 weights are wrong on this machine's extremes."""
    session = Session(parser.parse_model(_MODEL).SerializeToString())
    largest = {"a": np.full((4, _WIDTH), 255, np.uint8), "b": np.full((_WIDTH, _WIDTH), 127, np.int8)}
    return bool((session.run(largest)["y"] != 255 * 127 * _WIDTH).any())
