"""Target ``tensorrt``: legality, placement of Q/DQ, engines and what is in them."""

from qcompiler.lower.tensorrt.cost import INT8_KINDS
from qcompiler.lower.tensorrt.engine import build_engines, engine_record, package
from qcompiler.lower.tensorrt.plan import Layer, layers_of_inspector, layers_of_plan
from qcompiler.lower.tensorrt.target import TensorRt

__all__ = ["INT8_KINDS", "Layer", "TensorRt", "build_engines", "engine_record", "layers_of_inspector",
           "layers_of_plan", "package"]  # fmt: skip
