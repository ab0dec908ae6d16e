"""Passes that decide how values are quantized."""

from qcompiler.passes.quantize.static import QuantizeStatic

__all__ = ["QuantizeStatic"]
