"""Joining int8 tensors along an axis and repeating pixels."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8

__all__ = ["int8_concat", "int8_upsample", "part"]


@triton.jit
def part(x_ptr, scalars_ptr, NUMBER: tl.constexpr, row, column, start, WIDTH, inside):
    """Real values of part NUMBER of a row of the result, where ``column`` is in it."""
    here = inside & (column >= start) & (column < start + WIDTH)
    x = tl.load(x_ptr + row * WIDTH + column - start, mask=here, other=0).to(tl.float32)
    real = (x - tl.load(scalars_ptr + 2 * NUMBER + 1)) * tl.load(scalars_ptr + 2 * NUMBER)
    return tl.where(here, real, 0.0)


@triton.jit
def int8_concat(a_ptr, b_ptr, c_ptr, d_ptr, scalars_ptr, SIZE, KA, KB, KC, KD, output_ptr, BLOCK: tl.constexpr,
                PARTS: tl.constexpr):  # fmt: skip
    """Rows of KA, KB, KC and KD elements side by side; SIZE is of the result.

    ``scalars`` float32: scale and zero point of each part, then of the output at 8 and 9.
    """
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < SIZE
    width = KA + KB + KC + KD
    row = places // width
    column = places % width
    real = part(a_ptr, scalars_ptr, 0, row, column, 0, KA, inside)
    if PARTS > 1:
        real += part(b_ptr, scalars_ptr, 1, row, column, KA, KB, inside)
    if PARTS > 2:
        real += part(c_ptr, scalars_ptr, 2, row, column, KA + KB, KC, inside)
    if PARTS > 3:
        real += part(d_ptr, scalars_ptr, 3, row, column, KA + KB + KC, KD, inside)
    result = to_int8(real, tl.load(scalars_ptr + 8), tl.load(scalars_ptr + 9))
    tl.store(output_ptr + places, result, mask=inside)


@triton.jit
def int8_upsample(x_ptr, SIZE, H, W, C, UP, WIDE, output_ptr, BLOCK: tl.constexpr):
    """X int8 [batch, H, W, C], each pixel UP times down and WIDE times across; SIZE is of the result."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < SIZE
    channel = places % C
    column = (places // C) % (W * WIDE)
    row = places // C // (W * WIDE)
    image = row // (H * UP)
    source = ((image * H + (row % (H * UP)) // UP) * W + column // WIDE) * C + channel
    tl.store(output_ptr + places, tl.load(x_ptr + source, mask=inside, other=0), mask=inside)
