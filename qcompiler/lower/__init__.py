"""From the IR to what a target runs: legality, Q/DQ rules, emission."""

from qcompiler.lower.onnxruntime import INTEGER_OPS, OptimizedNode, OrtCpu, optimized_nodes
from qcompiler.lower.target import Group, Target

__all__ = ["INTEGER_OPS", "Group", "OptimizedNode", "OrtCpu", "Target", "optimized_nodes"]
