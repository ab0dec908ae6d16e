"""From the IR to what a target runs: legality, Q/DQ rules, emission."""

from qcompiler.lower.onnxruntime import INTEGER_OPS, SATURATES, OptimizedNode, OrtCpu, optimized_nodes
from qcompiler.lower.ort_products import products_saturate
from qcompiler.lower.target import DYNAMIC, HALVES, STATIC, WEIGHTS, Form, Group, Plan, StoredWeight, Target

__all__ = [
    "DYNAMIC",
    "HALVES",
    "INTEGER_OPS",
    "SATURATES",
    "STATIC",
    "WEIGHTS",
    "Form",
    "Group",
    "OptimizedNode",
    "OrtCpu",
    "Plan",
    "StoredWeight",
    "Target",
    "optimized_nodes",
    "products_saturate",
]
