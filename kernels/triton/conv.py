"""Convolution of int8 in NHWC as a product of matrices that are never written out, and its transpose."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.epilogue import finish
from qcompiler.kernels.triton.matmul import tile_of

__all__ = ["int8_conv", "pixel", "source"]


@triton.jit
def source(at, tap, stride, before, dilation, size, TRANSPOSED: tl.constexpr):
    """Where output position ``at`` reads along one axis for ``tap``, and whether that is inside."""
    if TRANSPOSED:
        far = at + before - tap * dilation
        place = far // stride
        inside = (far >= 0) & (far % stride == 0) & (place < size)
    else:
        place = at * stride - before + tap * dilation
        inside = (place >= 0) & (place < size)
    return place, inside


@triton.jit
def pixel(rows, OH, OW):
    """Picture, row and column of places that run over all pictures."""
    return (rows // OW) // OH, (rows // OW) % OH, rows % OW


@triton.jit
def int8_conv(x_ptr, w_ptr, multiplier_ptr, offset_ptr, zeros_ptr, bias_ptr, residual_ptr, scalars_ptr,
              M, H, W, C, CHANNELS, OH, OW, OC, stride_h, stride_w, top, left, dilation_h, dilation_w, output_ptr,
              BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
              KH: tl.constexpr, KW: tl.constexpr, FLAT: tl.constexpr, PADDED: tl.constexpr, TRANSPOSED: tl.constexpr,
              OFFSET: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr,
              ACTIVATION: tl.constexpr, OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """X int8 [batch, H, W, CHANNELS] with W int8 [groups * OC, KH, KW, C]; program axis 1 is the group.

    M is batch * OH * OW. FLAT runs over taps and channels as one axis, for few channels. Where padding shows
    (PADDED), a place outside reads X's zero point, which ``offset`` takes away again as for any other.
    """
    group = tl.program_id(1)
    tile_m, tile_n = tile_of(M, OC, BLOCK_M, BLOCK_N, GROUP_M)
    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    inside_m, inside_n = rows < M, columns < OC
    image, oh, ow = pixel(rows, OH, OW)
    x = x_ptr + image.to(tl.int64) * H * W * CHANNELS + group * C
    w = w_ptr + (group * OC + columns).to(tl.int64) * (KH * KW * C)
    zero = tl.load(zeros_ptr).to(tl.int8)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    if FLAT:
        for start in range(0, KH * KW * C, BLOCK_K):
            k = start + inner
            tap = k // C
            h, inside_h = source(oh[:, None], (tap // KW)[None, :], stride_h, top, dilation_h, H, TRANSPOSED)
            v, inside_w = source(ow[:, None], (tap % KW)[None, :], stride_w, left, dilation_w, W, TRANSPOSED)
            inside_k = k < KH * KW * C
            seen = inside_m[:, None] & inside_h & inside_w & inside_k[None, :]
            data = tl.load(x[:, None] + (h * W + v) * CHANNELS + (k % C)[None, :], mask=seen, other=0)
            if PADDED:
                data = tl.where(seen, data, zero)
            weight = tl.load(w[None, :] + k[:, None], mask=inside_k[:, None] & inside_n[None, :], other=0)
            total = tl.dot(data, weight, acc=total, out_dtype=tl.int32)
    else:
        blocks = tl.cdiv(C, BLOCK_K)
        for step in range(KH * KW * blocks):
            tap = step // blocks
            k = (step % blocks) * BLOCK_K + inner
            h, inside_h = source(oh, tap // KW, stride_h, top, dilation_h, H, TRANSPOSED)
            v, inside_w = source(ow, tap % KW, stride_w, left, dilation_w, W, TRANSPOSED)
            inside_k = k < C
            seen = (inside_m & inside_h & inside_w)[:, None] & inside_k[None, :]
            data = tl.load(x[:, None] + ((h * W + v) * CHANNELS)[:, None] + k[None, :], mask=seen, other=0)
            if PADDED:
                data = tl.where(seen, data, zero)
            weight = tl.load(w[None, :] + (tap * C + k)[:, None], mask=inside_k[:, None] & inside_n[None, :], other=0)
            total = tl.dot(data, weight, acc=total, out_dtype=tl.int32)
    channels = group * OC + columns
    if OFFSET:
        total += tl.load(offset_ptr + channels, mask=inside_n, other=0)[None, :]
    multiplier = tl.load(multiplier_ptr + channels, mask=inside_n, other=0.0)
    places = rows[:, None].to(tl.int64) * (OC * tl.num_programs(1)) + channels[None, :]
    finish(total.to(tl.float32) * multiplier[None, :], bias_ptr, channels, inside_n, residual_ptr, scalars_ptr,
           output_ptr, places, inside_m[:, None] & inside_n[None, :], BIAS, RESIDUAL, RESIDUAL_INT8,
           ACTIVATION, OUTPUT_INT8)  # fmt: skip
