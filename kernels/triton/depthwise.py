"""Depthwise convolution of int8 in NHWC: a product of its own for every channel, so no matrix instruction helps."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.conv import pixel, source
from qcompiler.kernels.triton.epilogue import finish

__all__ = ["int8_depthwise"]


@triton.jit
def int8_depthwise(x_ptr, w_ptr, multiplier_ptr, offset_ptr, zeros_ptr, bias_ptr, residual_ptr, scalars_ptr,
                   M, H, W, CHANNELS, OH, OW, OC, stride_h, stride_w, top, left, dilation_h, dilation_w, output_ptr,
                   BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
                   TIMES: tl.constexpr, PADDED: tl.constexpr, TRANSPOSED: tl.constexpr, OFFSET: tl.constexpr,
                   BIAS: tl.constexpr, RESIDUAL: tl.constexpr, RESIDUAL_INT8: tl.constexpr,
                   ACTIVATION: tl.constexpr, OUTPUT_INT8: tl.constexpr):  # fmt: skip
    """X int8 [batch, H, W, CHANNELS] with W int8 [KH, KW, OC], OC being CHANNELS * TIMES. M is batch * OH * OW."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside_m, inside_n = rows < M, columns < OC
    image, oh, ow = pixel(rows, OH, OW)
    x = x_ptr + image.to(tl.int64) * H * W * CHANNELS
    zero = tl.load(zeros_ptr)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for tap in tl.static_range(KH * KW):
        h, inside_h = source(oh, tap // KW, stride_h, top, dilation_h, H, TRANSPOSED)
        v, inside_w = source(ow, tap % KW, stride_w, left, dilation_w, W, TRANSPOSED)
        seen = (inside_m & inside_h & inside_w)[:, None] & inside_n[None, :]
        place = x[:, None] + ((h * W + v) * CHANNELS)[:, None] + (columns // TIMES)[None, :]
        data = tl.load(place, mask=seen, other=0).to(tl.int32)
        if PADDED:
            data = tl.where(seen, data, zero)
        weight = tl.load(w_ptr + tap * OC + columns, mask=inside_n, other=0).to(tl.int32)
        total += data * weight[None, :]
    if OFFSET:
        total += tl.load(offset_ptr + columns, mask=inside_n, other=0)[None, :]
    multiplier = tl.load(multiplier_ptr + columns, mask=inside_n, other=0.0)
    places = rows[:, None].to(tl.int64) * OC + columns[None, :]
    finish(total.to(tl.float32) * multiplier[None, :], bias_ptr, columns, inside_n, residual_ptr, scalars_ptr,
           output_ptr, places, inside_m[:, None] & inside_n[None, :], BIAS, RESIDUAL, RESIDUAL_INT8,
           ACTIVATION, OUTPUT_INT8)  # fmt: skip
