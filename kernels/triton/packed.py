"""Products of int8 activations with weights of 2 to 4 bits: indices into a codebook, or integers in blocks."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.epilogue import finish

__all__ = ["block_matmul", "codebook_matmul", "fields"]


@triton.jit
def fields(held, FIELD: tl.constexpr):
    """Fields of FIELD bits of bytes [N, K], low bits first, side by side: [N, K * 8 / FIELD]."""
    if FIELD == 4:
        found = tl.interleave(held & 15, held >> 4)
    else:
        found = tl.interleave(tl.interleave(held & 3, (held >> 4) & 3), tl.interleave((held >> 2) & 3, (held >> 6) & 3))
    return found


@triton.jit
def codebook_matmul(a_ptr, b_ptr, codebook_ptr, row_scale_ptr, multiplier_ptr, offset_ptr, bias_ptr, residual_ptr,
                    scalars_ptr, M, N, K, output_ptr,
                    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BITS: tl.constexpr,
                    ROW_SCALE: tl.constexpr, OFFSET: tl.constexpr, BIAS: tl.constexpr,
                    RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr, ACTIVATION: tl.constexpr,
                    OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """A int8 [M, K] with B uint8 [N, ceil(K / per byte)], indices low bits first into ``codebook`` int8 [2**BITS].

    Indices of 3 bits take 4 each. Scales as in int8_matmul.
    """
    FIELD: tl.constexpr = 4 if BITS > 2 else BITS
    PER: tl.constexpr = 8 // FIELD
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    inside_m, inside_n = rows < M, columns < N
    width = tl.cdiv(K, PER)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for start in range(0, K, BLOCK_K):
        k = start + inner
        inside_k = k < K
        left = tl.load(a_ptr + rows[:, None].to(tl.int64) * K + k[None, :],
                       mask=inside_m[:, None] & inside_k[None, :], other=0)  # fmt: skip
        packed = start // PER + tl.arange(0, BLOCK_K // PER)
        held = tl.load(b_ptr + columns[:, None].to(tl.int64) * width + packed[None, :],
                       mask=inside_n[:, None] & (packed < width)[None, :], other=0)  # fmt: skip
        right = tl.trans(tl.load(codebook_ptr + fields(held, FIELD).to(tl.int32)))
        total = tl.dot(left, right, acc=total, out_dtype=tl.int32)
    if OFFSET:
        total += tl.load(offset_ptr + columns, mask=inside_n, other=0)[None, :]
    multiplier = tl.load(multiplier_ptr + columns, mask=inside_n, other=0.0)
    if ROW_SCALE:
        each = tl.load(row_scale_ptr + rows, mask=inside_m, other=0.0)
        real = total.to(tl.float32) * (each[:, None] * multiplier[None, :])
    else:
        real = total.to(tl.float32) * multiplier[None, :]
    finish(real, bias_ptr, columns, inside_n, residual_ptr, scalars_ptr, output_ptr,
           rows[:, None].to(tl.int64) * N + columns[None, :],
           inside_m[:, None] & inside_n[None, :], BIAS, RESIDUAL, RESIDUAL_INT8, ACTIVATION, OUTPUT_INT8)  # fmt: skip


@triton.jit
def block_matmul(a_ptr, b_ptr, scale_ptr, row_scale_ptr, bias_ptr, residual_ptr, scalars_ptr, M, N, K, output_ptr,
                 BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BIAS: tl.constexpr,
                 RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr, ACTIVATION: tl.constexpr,
                 OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """A int8 [M, K] with B uint8 [N, ceil(K / 2)], 4-bit integers around 8, low half first, in blocks of BLOCK_K.

    ``scale`` float32 [N, ceil(K / BLOCK_K)] is each block's, ``row_scale`` float32 [M] is A's. Blocks are added in
    their order, in float32.
    """
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    inside_m, inside_n = rows < M, columns < N
    width, blocks = tl.cdiv(K, 2), tl.cdiv(K, BLOCK_K)
    real = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for block in range(blocks):
        k = block * BLOCK_K + inner
        inside_k = k < K
        left = tl.load(a_ptr + rows[:, None].to(tl.int64) * K + k[None, :],
                       mask=inside_m[:, None] & inside_k[None, :], other=0)  # fmt: skip
        packed = block * (BLOCK_K // 2) + tl.arange(0, BLOCK_K // 2)
        held = tl.load(b_ptr + columns[:, None].to(tl.int64) * width + packed[None, :],
                       mask=inside_n[:, None] & (packed < width)[None, :], other=0)  # fmt: skip
        right = tl.trans(fields(held, 4).to(tl.int8) - 8)
        scale = tl.load(scale_ptr + columns * blocks + block, mask=inside_n, other=0.0)
        part = tl.dot(left, right, out_dtype=tl.int32)
        real = real + part.to(tl.float32) * scale[None, :]
    real = real * tl.load(row_scale_ptr + rows, mask=inside_m, other=0.0)[:, None]
    finish(real, bias_ptr, columns, inside_n, residual_ptr, scalars_ptr, output_ptr,
           rows[:, None].to(tl.int64) * N + columns[None, :],
           inside_m[:, None] & inside_n[None, :], BIAS, RESIDUAL, RESIDUAL_INT8, ACTIVATION, OUTPUT_INT8)  # fmt: skip
