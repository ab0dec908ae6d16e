"""Every kernel that comes with qcompiler."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.kernels.conv import Int8Conv, Int8ConvTranspose
from qcompiler.kernels.elementwise import Int8Add, Int8Lookup, Int8Mul
from qcompiler.kernels.matmul import DynamicMatMul, Int8MatMul
from qcompiler.kernels.movement import Int8Concat, Int8Upsample
from qcompiler.kernels.packed import BlockMatMul, CodebookMatMul
from qcompiler.kernels.pool import Int8AveragePool, Int8MaxPool
from qcompiler.kernels.quantize import Dequantize, Quantize
from qcompiler.kernels.registry import Kernel
from qcompiler.kernels.rows import Int8LayerNorm, Int8RMSNorm, Int8Softmax, QuantizeRows

__all__ = ["KERNELS"]

_ALL: tuple[Kernel, ...] = (
    Int8MatMul(),
    DynamicMatMul(),
    CodebookMatMul(),
    BlockMatMul(),
    Int8Conv(),
    Int8ConvTranspose(),
    Int8MaxPool(),
    Int8AveragePool(),
    Int8Add(),
    Int8Mul(),
    Int8Lookup(),
    Int8Concat(),
    Int8Upsample(),
    Int8Softmax(),
    Int8LayerNorm(),
    Int8RMSNorm(),
    QuantizeRows(),
    Quantize(),
    Dequantize(),
)

KERNELS: Mapping[str, Kernel] = {kernel.name: kernel for kernel in _ALL}
"""By the type of the operator."""
