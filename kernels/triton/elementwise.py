"""Sums and products of two int8 tensors, and any function of one by a table of its 256 values."""

import triton
import triton.language as tl

from qcompiler.kernels.triton.arithmetic import activate, to_int8

__all__ = ["int8_binary", "int8_lookup"]


@triton.jit
def int8_binary(a_ptr, b_ptr, scalars_ptr, SIZE, OUTER, INNER, output_ptr, BLOCK: tl.constexpr, PRODUCT: tl.constexpr,
                SPREAD: tl.constexpr, ACTIVATION: tl.constexpr):  # fmt: skip
    """A int8 [SIZE] and B int8 of as many, or (SPREAD 1) INNER for each run of OUTER, or (SPREAD 2) one for each INNER.

    ``scalars`` float32: scale and zero point of A, of B, of the output, then two parameters of the activation.
    """
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < SIZE
    others = places
    if SPREAD == 1:
        others = (places // OUTER) * INNER + places % INNER
    elif SPREAD == 2:
        others = places // INNER
    a = tl.load(a_ptr + places, mask=inside, other=0).to(tl.float32)
    b = tl.load(b_ptr + others, mask=inside, other=0).to(tl.float32)
    a = (a - tl.load(scalars_ptr + 1)) * tl.load(scalars_ptr)
    b = (b - tl.load(scalars_ptr + 3)) * tl.load(scalars_ptr + 2)
    if PRODUCT:
        real = a * b
    else:
        real = a + b
    real = activate(real, tl.load(scalars_ptr + 6), tl.load(scalars_ptr + 7), ACTIVATION)
    tl.store(output_ptr + places, to_int8(real, tl.load(scalars_ptr + 4), tl.load(scalars_ptr + 5)), mask=inside)


@triton.jit
def int8_lookup(x_ptr, table_ptr, SIZE, output_ptr, BLOCK: tl.constexpr):
    """X int8 [SIZE] through ``table`` int8 [256], whose first entry is for -128."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < SIZE
    x = tl.load(x_ptr + places, mask=inside, other=0).to(tl.int32)
    tl.store(output_ptr + places, tl.load(table_ptr + x + 128, mask=inside, other=0), mask=inside)
