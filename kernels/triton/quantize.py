"""Between floats and int8, and between channels first and last on the way."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import to_int8

__all__ = ["dequantize", "dequantize_line", "quantize", "quantize_line"]


@triton.jit
def quantize_line(x_ptr, scalars_ptr, SIZE, output_ptr, BLOCK: tl.constexpr):
    """X float [SIZE] to int8. ``scalars`` float32: scale and zero point."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < SIZE
    x = tl.load(x_ptr + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(output_ptr + places, to_int8(x, tl.load(scalars_ptr), tl.load(scalars_ptr + 1)), mask=inside)


@triton.jit
def dequantize_line(x_ptr, scalars_ptr, SIZE, output_ptr, BLOCK: tl.constexpr):
    """The way back: X int8 [SIZE] to float."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < SIZE
    x = tl.load(x_ptr + places, mask=inside, other=0).to(tl.float32)
    real = (x - tl.load(scalars_ptr + 1)) * tl.load(scalars_ptr)
    tl.store(output_ptr + places, real.to(output_ptr.dtype.element_ty), mask=inside)


@triton.jit
def quantize(x_ptr, scalars_ptr, ROWS, C, HW, output_ptr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """X float [batch, C, HW] to int8 [batch * HW, C]; ROWS is batch * HW.

    ``scalars`` float32: scale and zero point.
    """
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (rows < ROWS)[:, None] & (columns < C)[None, :]
    first = (rows // HW).to(tl.int64) * C * HW + rows % HW
    x = tl.load(x_ptr + first[:, None] + columns[None, :].to(tl.int64) * HW, mask=inside, other=0.0).to(tl.float32)
    result = to_int8(x, tl.load(scalars_ptr), tl.load(scalars_ptr + 1))
    tl.store(output_ptr + rows[:, None].to(tl.int64) * C + columns[None, :], result, mask=inside)


@triton.jit
def dequantize(x_ptr, scalars_ptr, ROWS, C, HW, output_ptr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """The way back: X int8 [batch * HW, C] to float [batch, C, HW]."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (rows < ROWS)[:, None] & (columns < C)[None, :]
    x = tl.load(x_ptr + rows[:, None].to(tl.int64) * C + columns[None, :], mask=inside, other=0).to(tl.float32)
    real = (x - tl.load(scalars_ptr + 1)) * tl.load(scalars_ptr)
    first = (rows // HW).to(tl.int64) * C * HW + rows % HW
    place = output_ptr + first[:, None] + columns[None, :].to(tl.int64) * HW
    tl.store(place, real.to(output_ptr.dtype.element_ty), mask=inside)
