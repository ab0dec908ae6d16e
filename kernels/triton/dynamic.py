"""Rows of floats quantized on the way into a product of int8: one launch instead of two for small inner sizes."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8
from qcompiler.kernels.triton.epilogue import finish
from qcompiler.kernels.triton.matmul import tile_of

__all__ = ["dynamic_matmul"]


@triton.jit
def dynamic_matmul(a_ptr, b_ptr, multiplier_ptr, bias_ptr, residual_ptr, scalars_ptr, M, N, K, output_ptr,
                   BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
                   BIAS: tl.constexpr, RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr,
                   ACTIVATION: tl.constexpr, OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """A float [M, K], quantized as by quantize_rows, times B int8 [N, K]; ``multiplier`` float32 [N] is B's scale."""
    tile_m, tile_n = tile_of(M, N, BLOCK_M, BLOCK_N, GROUP_M)
    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    inside_m, inside_n = rows < M, columns < N
    a = a_ptr + rows[:, None].to(tl.int64) * K + inner[None, :]
    b = b_ptr + columns[None, :].to(tl.int64) * K + inner[:, None]
    most = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        left = tl.load(a + start, mask=inside_m[:, None] & (inner < K - start)[None, :], other=0.0).to(tl.float32)
        most = tl.maximum(most, tl.max(tl.abs(left), axis=1))
    scale = tl.div_rn(most, 127.0)
    scale = tl.where(scale > 1.1754944e-38, scale, 1.0)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for start in range(0, K, BLOCK_K):
        inside_k = inner < K - start
        left = tl.load(a + start, mask=inside_m[:, None] & inside_k[None, :], other=0.0).to(tl.float32)
        right = tl.load(b + start, mask=inside_k[:, None] & inside_n[None, :], other=0)
        total = tl.dot(to_int8(left, scale[:, None], 0.0), right, acc=total, out_dtype=tl.int32)
    multiplier = tl.load(multiplier_ptr + columns, mask=inside_n, other=0.0)
    real = total.to(tl.float32) * (scale[:, None] * multiplier[None, :])
    finish(real, bias_ptr, columns, inside_n, residual_ptr, scalars_ptr, output_ptr,
           rows[:, None].to(tl.int64) * N + columns[None, :],
           inside_m[:, None] & inside_n[None, :], BIAS, RESIDUAL, RESIDUAL_INT8, ACTIVATION, OUTPUT_INT8)  # fmt: skip
