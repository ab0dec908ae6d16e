"""Normalization of rows of int8 by mean and deviation, or by their root mean square.

Sums are of integers, so that they are exact in any order.
"""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8

__all__ = ["int8_norm"]


@triton.jit
def int8_norm(x_ptr, gain_ptr, bias_ptr, scalars_ptr, M, K, output_ptr, BLOCK: tl.constexpr, CENTERED: tl.constexpr,
              BIAS: tl.constexpr):  # fmt: skip
    """X int8 [M, K], ``gain`` and ``bias`` float32 [K]. CENTERED takes the mean away (LayerNorm), else RMSNorm.

    ``scalars`` float32: zero point of X, epsilon over the square of its scale, scale and zero point of the output.
    """
    row = tl.program_id(0).to(tl.int64)
    inner = tl.arange(0, BLOCK)
    zero = tl.load(scalars_ptr).to(tl.int32)
    total = tl.zeros((BLOCK,), dtype=tl.int64)
    squares = tl.zeros((BLOCK,), dtype=tl.int64)
    for start in range(0, K, BLOCK):
        inside = inner < K - start
        x = tl.load(x_ptr + row * K + start + inner, mask=inside, other=0).to(tl.int32)
        x = tl.where(inside, x - zero, 0).to(tl.int64)
        total += x
        squares += x * x
    whole = tl.sum(total, axis=0)
    power = tl.sum(squares, axis=0)
    size = whole * 0 + K
    if CENTERED:  # n * sum of squares - square of the sum, over n squared, is the variance
        variance = tl.div_rn((size * power - whole * whole).to(tl.float32), (size * size).to(tl.float32))
        mean = tl.div_rn(whole.to(tl.float32), size.to(tl.float32))
    else:
        variance = tl.div_rn(power.to(tl.float32), size.to(tl.float32))
        mean = 0.0
    deviation = tl.sqrt_rn(variance + tl.load(scalars_ptr + 1))
    y_scale, y_zero = tl.load(scalars_ptr + 2), tl.load(scalars_ptr + 3)
    for start in range(0, K, BLOCK):
        inside = inner < K - start
        x = tl.load(x_ptr + row * K + start + inner, mask=inside, other=0).to(tl.int32) - zero
        real = x.to(tl.float32) - mean
        real = tl.div_rn(real, deviation)
        real = real * tl.load(gain_ptr + start + inner, mask=inside, other=0.0)
        if BIAS:
            real = real + tl.load(bias_ptr + start + inner, mask=inside, other=0.0)
        tl.store(output_ptr + row * K + start + inner, to_int8(real, y_scale, y_zero), mask=inside)
