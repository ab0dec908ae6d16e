"""Softmax of rows of int8. Powers come from a table of integers, so that their sum is exact in any order."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8

__all__ = ["int8_softmax"]


@triton.jit
def int8_softmax(x_ptr, table_ptr, scalars_ptr, M, K, output_ptr, BLOCK: tl.constexpr):
    """X int8 [M, K]; ``table`` int32 [256] holds exp(-d * scale) * 2**23 for a distance d from the row's largest.

    ``scalars`` float32: scale and zero point of the output.
    """
    row = tl.program_id(0).to(tl.int64)
    inner = tl.arange(0, BLOCK)
    largest = tl.full((BLOCK,), -128, dtype=tl.int32)
    for start in range(0, K, BLOCK):
        x = tl.load(x_ptr + row * K + start + inner, mask=inner < K - start, other=-128).to(tl.int32)
        largest = tl.maximum(largest, x)
    most = tl.max(largest, axis=0)
    total = tl.zeros((BLOCK,), dtype=tl.int64)
    for start in range(0, K, BLOCK):
        inside = inner < K - start
        x = tl.load(x_ptr + row * K + start + inner, mask=inside, other=-128).to(tl.int32)
        total += tl.load(table_ptr + (most - x), mask=inside, other=0).to(tl.int64)
    whole = tl.sum(total, axis=0).to(tl.float32)
    scale, zero = tl.load(scalars_ptr), tl.load(scalars_ptr + 1)
    for start in range(0, K, BLOCK):
        inside = inner < K - start
        x = tl.load(x_ptr + row * K + start + inner, mask=inside, other=-128).to(tl.int32)
        power = tl.load(table_ptr + (most - x), mask=inside, other=0).to(tl.float32)
        real = tl.div_rn(power, whole)
        tl.store(output_ptr + row * K + start + inner, to_int8(real, scale, zero), mask=inside)
