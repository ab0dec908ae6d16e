"""Target ``tensorrt``: legality, placement of Q/DQ, engines and what is in them."""

from qcompiler.lower.tensorrt.cost import EIGHT_BIT_KINDS
from qcompiler.lower.tensorrt.engine import Built, build_engines, engine_record, package
from qcompiler.lower.tensorrt.plan import Layer, layers_of_inspector, layers_of_plan
from qcompiler.lower.tensorrt.target import TensorRt

__all__ = ["EIGHT_BIT_KINDS", "Built", "Layer", "TensorRt", "build_engines", "engine_record", "layers_of_inspector",
           "layers_of_plan", "package"]  # fmt: skip
