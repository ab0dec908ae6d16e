"""Product of int8 matrices, batched or not, with everything that may follow it."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.epilogue import finish

__all__ = ["int8_matmul", "tile_of"]


@triton.jit
def tile_of(M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """Row and column of this program's tile; neighbours in time share rows of A and columns of B in the cache."""
    program = tl.program_id(0)
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    wide = GROUP_M * tiles_n
    first = (program // wide) * GROUP_M
    height = tl.minimum(tiles_m - first, GROUP_M)
    return first + (program % wide) % height, (program % wide) // height


@triton.jit
def int8_matmul(a_ptr, b_ptr, row_scale_ptr, multiplier_ptr, offset_ptr, zeros_ptr, bias_ptr, residual_ptr, scalars_ptr,
                M, N, K, batch_a, batch_b, output_ptr,
                BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
                EVEN_K: tl.constexpr, TRANSPOSED: tl.constexpr, ROW_SCALE: tl.constexpr, SUM_A: tl.constexpr,
                SUM_B: tl.constexpr, OFFSET: tl.constexpr,
                BIAS: tl.constexpr, RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr, ACTIVATION: tl.constexpr,
                OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """A int8 [batch, M, K] times B int8 [N, K] (TRANSPOSED) or [K, N], of which ``batch_b`` is 0 for weights.

    ``multiplier`` float32 [N] is the product of both scales (B's alone with ROW_SCALE, float32 [batch * M]), ``offset``
    int32 [N] what A's zero point adds with constant weights, ``zeros`` int32 [2] both zero points where sums over K
    are taken here.
    """
    batch = tl.program_id(1)
    tile_m, tile_n = tile_of(M, N, BLOCK_M, BLOCK_N, GROUP_M)
    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    inside_m, inside_n = rows < M, columns < N
    a = a_ptr + batch.to(tl.int64) * batch_a + rows[:, None].to(tl.int64) * K + inner[None, :]
    b = b_ptr + batch.to(tl.int64) * batch_b
    if TRANSPOSED:
        b = b + columns[None, :].to(tl.int64) * K + inner[:, None]
    else:
        b = b + inner[:, None].to(tl.int64) * N + columns[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    sum_a = tl.zeros((BLOCK_M,), dtype=tl.int32)
    sum_b = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for start in range(0, K, BLOCK_K):
        if EVEN_K:
            left = tl.load(a, mask=inside_m[:, None], other=0)
            right = tl.load(b, mask=inside_n[None, :], other=0)
        else:
            inside_k = inner < K - start
            left = tl.load(a, mask=inside_m[:, None] & inside_k[None, :], other=0)
            right = tl.load(b, mask=inside_k[:, None] & inside_n[None, :], other=0)
        total = tl.dot(left, right, acc=total, out_dtype=tl.int32)
        if SUM_A:
            sum_a += tl.sum(left.to(tl.int32), axis=1)
        if SUM_B:
            sum_b += tl.sum(right.to(tl.int32), axis=0)
        a += BLOCK_K
        if TRANSPOSED:
            b += BLOCK_K
        else:
            b += BLOCK_K * N
    if SUM_A:
        zero_b = tl.load(zeros_ptr + 1)
        total -= zero_b * sum_a[:, None]
        if SUM_B:
            zero_a = tl.load(zeros_ptr)
            total -= (zero_a * (sum_b - K * zero_b))[None, :]
    elif SUM_B:
        total -= (tl.load(zeros_ptr) * sum_b)[None, :]
    if OFFSET:
        total += tl.load(offset_ptr + columns, mask=inside_n, other=0)[None, :]
    multiplier = tl.load(multiplier_ptr + columns, mask=inside_n, other=0.0)
    if ROW_SCALE:
        each = tl.load(row_scale_ptr + batch * M + rows, mask=inside_m, other=0.0)
        real = total.to(tl.float32) * (each[:, None] * multiplier[None, :])
    else:
        real = total.to(tl.float32) * multiplier[None, :]
    places = (batch.to(tl.int64) * M + rows[:, None]) * N + columns[None, :]
    finish(real, bias_ptr, columns, inside_n, residual_ptr, scalars_ptr, output_ptr,
           places, inside_m[:, None] & inside_n[None, :],
           BIAS, RESIDUAL, RESIDUAL_INT8, ACTIVATION, OUTPUT_INT8)  # fmt: skip
