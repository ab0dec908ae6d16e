"""From the IR to what a target runs: legality, Q/DQ rules, emission."""

from qcompiler.kernels import KERNELS
from qcompiler.lower.cuda import OrtCuda, kernel_node, kernel_products, open_program
from qcompiler.lower.onnxruntime import INTEGER_OPS as ORT_INTEGER_OPS
from qcompiler.lower.onnxruntime import SATURATES, OptimizedNode, OrtCpu, optimized_nodes
from qcompiler.lower.ort_products import products_saturate
from qcompiler.lower.target import DYNAMIC, HALVES, STATIC, WEIGHTS, Artifacts, Form, Group, Plan, StoredWeight, Target
from qcompiler.lower.tensorrt import EIGHT_BIT_KINDS, TensorRt

INTEGER_OPS = ORT_INTEGER_OPS | frozenset(KERNELS) | EIGHT_BIT_KINDS
"""What a quantized group looks like in what a target runs."""

__all__ = [
    "DYNAMIC",
    "HALVES",
    "INTEGER_OPS",
    "SATURATES",
    "STATIC",
    "WEIGHTS",
    "Artifacts",
    "Form",
    "Group",
    "OptimizedNode",
    "OrtCpu",
    "OrtCuda",
    "Plan",
    "StoredWeight",
    "Target",
    "TensorRt",
    "kernel_node",
    "kernel_products",
    "open_program",
    "optimized_nodes",
    "products_saturate",
]
