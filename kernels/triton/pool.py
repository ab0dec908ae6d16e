"""Pooling of int8 in NHWC, by maximum or by mean."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8
from qcompiler.kernels.triton.conv import pixel, source

__all__ = ["int8_pool"]


@triton.jit
def int8_pool(x_ptr, scalars_ptr, M, H, W, C, OH, OW, KH, KW, stride_h, stride_w, top, left, dilation_h, dilation_w,
              output_ptr,
              BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, MEAN: tl.constexpr, COUNT_PAD: tl.constexpr):  # fmt: skip
    """X int8 [batch, H, W, C] to [M = batch * OH * OW, C]. ``scalars``: scale and zero of X, then of the output.

    A mean is taken of the integers, exactly, and requantized. COUNT_PAD counts every place of the window.
    """
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside_m, inside_n = rows < M, columns < C
    image, oh, ow = pixel(rows, OH, OW)
    x = x_ptr + image.to(tl.int64) * H * W * C
    best = tl.full((BLOCK_M, BLOCK_N), -128, dtype=tl.int32)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    count = tl.zeros((BLOCK_M,), dtype=tl.int32)
    for tap in range(KH * KW):
        h, inside_h = source(oh, tap // KW, stride_h, top, dilation_h, H, False)
        v, inside_w = source(ow, tap % KW, stride_w, left, dilation_w, W, False)
        here = inside_m & inside_h & inside_w
        seen = here[:, None] & inside_n[None, :]
        data = tl.load(x[:, None] + ((h * W + v) * C)[:, None] + columns[None, :], mask=seen, other=-128).to(tl.int32)
        if MEAN:
            total += tl.where(seen, data, 0)
            count += here.to(tl.int32)
        else:
            best = tl.maximum(best, data)
    if MEAN:
        scale, zero = tl.load(scalars_ptr), tl.load(scalars_ptr + 1)
        share = count
        if COUNT_PAD:
            share = count * 0 + KH * KW
        share = tl.maximum(share, 1)
        real = (total - count[:, None] * zero.to(tl.int32)).to(tl.float32) * scale
        real = tl.div_rn(real, share.to(tl.float32)[:, None])
        result = to_int8(real, tl.load(scalars_ptr + 2), tl.load(scalars_ptr + 3))
    else:
        result = best.to(tl.int8)
    tl.store(output_ptr + rows[:, None].to(tl.int64) * C + columns[None, :], result,
             mask=inside_m[:, None] & inside_n[None, :])  # fmt: skip
