"""Every kernel that comes with qcompiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcompiler.kernels.conv import Int8Conv, Int8ConvTranspose
from qcompiler.kernels.elementwise import Int8Add, Int8Lookup, Int8Mul
from qcompiler.kernels.matmul import DynamicMatMul, Int8MatMul
from qcompiler.kernels.movement import Int8Concat, Int8Upsample
from qcompiler.kernels.packed import BlockMatMul, CodebookMatMul
from qcompiler.kernels.pool import Int8AveragePool, Int8MaxPool
from qcompiler.kernels.quantize import Dequantize, Quantize
from qcompiler.kernels.registry import Kernel
from qcompiler.kernels.rows import Int8LayerNorm, Int8RMSNorm, Int8Softmax, QuantizeRows
from qcompiler.plugged import plugged, spoilt

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


class _Kernels(dict[str, Kernel]):
    """Those that come with qcompiler; one of another package is loaded when it is looked up by its name."""

    def __missing__(self, name: str) -> Kernel:
        kind = plugged("kernels", name).get(name)
        if kind is None:
            raise KeyError(name)
        try:
            kernel = kind() if isinstance(kind, type) else kind
            if not isinstance(kernel, Kernel) or kernel.name != name:
                raise TypeError(f"it is no qcompiler.kernels.Kernel with the name '{name}'")
        except Exception as error:  # other people's code
            spoilt("kernels", name, f"{type(error).__name__}: {error}")
            raise KeyError(name) from None
        self[name] = kernel
        return kernel

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict has it, plug-ins included."""
        try:
            return self[name]
        except KeyError:
            return default


KERNELS: Mapping[str, Kernel] = _Kernels({kernel.name: kernel for kernel in _ALL})
"""By the type of the operator. Entry points ``qcompiler.kernels`` add to it, by the names of operators."""
