"""Passes that decide how values may be quantized; which groups are is decided by measurement afterwards."""

from qcompiler.passes.quantize.dynamic import QuantizeDynamic
from qcompiler.passes.quantize.static import QuantizeStatic
from qcompiler.passes.quantize.weights import QuantizeWeights

__all__ = ["QuantizeDynamic", "QuantizeStatic", "QuantizeWeights"]
