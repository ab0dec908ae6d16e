"""Slips of exporters that runtimes forgive only as long as they do not see them."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.rewrite import Match, Rewriter, Rule, op, rule

__all__ = ["REPAIRS"]


@rule(lambda start, limit, delta: op.Range(start, limit, delta))
def range_of_vectors(rw: Rewriter, m: Match) -> Any:
    """Range takes scalars. A vector of one element works while nobody knows its shape, and is refused once it is known.

    So folding or inlining around a Range must not reveal one.
    """
    if all(value.shape != (1,) for value in (m.start, m.limit, m.delta)):
        return m.no("no input is known to be a vector of one element")
    scalar = np.zeros(0, np.int64)
    taken = (rw.op.Reshape(each, scalar) if each.shape == (1,) else each for each in (m.start, m.limit, m.delta))
    return rw.op.Range(*taken)


REPAIRS: tuple[Rule, ...] = (range_of_vectors,)
