"""Training of ONNX models with torch. What needs torch is in modules that are imported where it is used."""

from qcompiler.training.batches import hold_out
from qcompiler.training.settings import Settings, has_torch, need_torch

__all__ = ["Settings", "has_torch", "hold_out", "need_torch"]
