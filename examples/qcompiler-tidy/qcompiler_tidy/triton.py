"""The kernel's form on a card. Loaded where it is compiled or interpreted, for it loads Triton."""

import triton
import triton.language as tl


@triton.jit
def tidy_abs(x, y, count, BLOCK: tl.constexpr):
    """|x|, BLOCK elements a program."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    held = tl.load(x + places, mask=inside, other=0).to(tl.int32)
    tl.store(y + places, tl.minimum(tl.abs(held), 127).to(tl.int8), mask=inside)
