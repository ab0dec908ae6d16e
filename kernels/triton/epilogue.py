"""What follows the accumulation: scales, bias, activation, residual, requantization."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import activate, to_int8

__all__ = ["finish"]

# Places in the tensor of scalars, as qcompiler.kernels.epilogue writes it.
Y_SCALE = tl.constexpr(0)
Y_ZERO = tl.constexpr(1)
R_SCALE = tl.constexpr(2)
R_ZERO = tl.constexpr(3)
LOW = tl.constexpr(4)
HIGH = tl.constexpr(5)


@triton.jit
def finish(real, bias_ptr, channels, inside_n, residual_ptr, scalars_ptr, output_ptr, places, inside,
           BIAS: tl.constexpr, RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr, ACTIVATION: tl.constexpr,
           OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """Store ``real`` float32 [M, N] at ``places`` after the bias of ``channels`` [N], activation and residual.

    The residual comes before the activation (1) or behind it (2)."""
    if BIAS:
        real = real + tl.load(bias_ptr + channels, mask=inside_n, other=0.0)[None, :]
    low = tl.load(scalars_ptr + LOW)
    high = tl.load(scalars_ptr + HIGH)
    if RESIDUAL > 0:
        other = tl.load(residual_ptr + places, mask=inside, other=0)
        if RESIDUAL_INT8:
            other = (other.to(tl.float32) - tl.load(scalars_ptr + R_ZERO)) * tl.load(scalars_ptr + R_SCALE)
        else:
            other = other.to(tl.float32)
        if RESIDUAL == 1:
            real = activate(real + other, low, high, ACTIVATION)
        else:
            real = activate(real, low, high, ACTIVATION) + other
    else:
        real = activate(real, low, high, ACTIVATION)
    if OUTPUT_INT8:
        result = to_int8(real, tl.load(scalars_ptr + Y_SCALE), tl.load(scalars_ptr + Y_ZERO))
    else:
        result = real.to(output_ptr.dtype.element_ty)
    tl.store(output_ptr + places, result, mask=inside)
