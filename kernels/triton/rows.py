"""Rows of floats to int8 with a scale for each, found in the same run."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8

__all__ = ["quantize_rows"]


@triton.jit
def quantize_rows(x_ptr, M, K, output_ptr, scale_ptr, BLOCK: tl.constexpr):
    """X float [M, K] to int8 [M, K] and scales float32 [M]: the largest of a row becomes 127; a row of zeros has 1."""
    row = tl.program_id(0).to(tl.int64)
    inner = tl.arange(0, BLOCK)
    largest = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, K, BLOCK):
        x = tl.load(x_ptr + row * K + start + inner, mask=inner < K - start, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(x))
    most = tl.max(largest, axis=0)
    scale = tl.div_rn(most, 127.0)
    scale = tl.where(scale > 1.1754944e-38, scale, 1.0)
    tl.store(scale_ptr + row, scale)
    for start in range(0, K, BLOCK):
        x = tl.load(x_ptr + row * K + start + inner, mask=inner < K - start, other=0.0).to(tl.float32)
        tl.store(output_ptr + row * K + start + inner, to_int8(x, scale, 0.0), mask=inner < K - start)
