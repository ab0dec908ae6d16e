"""Passes that decide how values may be quantized; which groups are is decided by measurement afterwards."""

from qcompiler.passes.quantize.balance import EqualizeChannels, SmoothActivations
from qcompiler.passes.quantize.dynamic import QuantizeDynamic
from qcompiler.passes.quantize.rounding import CompensateRounding, CorrectBias, LearnRounding
from qcompiler.passes.quantize.static import QuantizeStatic
from qcompiler.passes.quantize.weights import QuantizeWeights

QUANTIZE = (
    EqualizeChannels,
    SmoothActivations,
    QuantizeStatic,
    QuantizeDynamic,
    QuantizeWeights,
    CompensateRounding,
    LearnRounding,
    CorrectBias,
)
"""In the order in which a recipe uses them."""

__all__ = [
    "QUANTIZE",
    "CompensateRounding",
    "CorrectBias",
    "EqualizeChannels",
    "LearnRounding",
    "QuantizeDynamic",
    "QuantizeStatic",
    "QuantizeWeights",
    "SmoothActivations",
]
