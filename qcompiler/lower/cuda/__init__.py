"""Target ``ort-cuda``: int8 kernels of our own between sessions of onnxruntime."""

from qcompiler.lower.cuda.cost import kernel_products
from qcompiler.lower.cuda.nodes import kernel_node
from qcompiler.lower.cuda.partition import open_program, placement, program_of
from qcompiler.lower.cuda.target import OrtCuda

__all__ = ["OrtCuda", "kernel_node", "kernel_products", "open_program", "placement", "program_of"]
