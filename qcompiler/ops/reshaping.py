"""Which axes of a tensor become which when it is reshaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["reshape_links"]

Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


def reshape_links(
    before: Sequence[int | str | None], after: Sequence[int | str | None]
) -> Iterator[tuple[int, int, Indices, Indices]]:
    """(axis before, axis after, indices of the one, indices of the other) for what a row-major reshape links.

    Axes are matched in runs of equal products. In a run of one axis and several the outermost of these that is not 1
    takes the one axis in blocks; the others, and runs of several and several, are linked to nothing.
    """
    for mine, theirs in _runs(before, after):
        big = [axis for axis in mine if before[axis] != 1]
        small = [axis for axis in theirs if after[axis] != 1]
        if not big or not small:
            continue
        left, right = before[big[0]], after[small[0]]
        if not isinstance(left, int) or not isinstance(right, int):
            continue
        if len(big) == 1:
            yield big[0], small[0], np.arange(left), np.arange(left) // (left // right)
        elif len(small) == 1:
            yield big[0], small[0], np.arange(right) // (right // left), np.arange(right)


def _runs(
    before: Sequence[int | str | None], after: Sequence[int | str | None]
) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of axes with the same number of elements: equal ones from either end, then what is fixed between them."""
    i = j = 0
    while i < len(before) and j < len(after) and _same(before[i], after[j]):
        yield [i], [j]
        i, j = i + 1, j + 1
    end_i, end_j = len(before), len(after)
    while end_i > i and end_j > j and _same(before[end_i - 1], after[end_j - 1]):
        end_i, end_j = end_i - 1, end_j - 1
        yield [end_i], [end_j]
    p, q = _unknown(before, i, end_i), _unknown(after, j, end_j)
    if p and q and _product(before, i, end_i) == _product(after, j, end_j):
        # One unknown size on either side of otherwise equal ones is the same, and what is before it is as much.
        if len(p) == len(q) == 1 and _product(before, i, p[0]) == _product(after, j, q[0]):
            yield from _fixed_runs(before, after, i, p[0], j, q[0])
            yield from _fixed_runs(before, after, p[0] + 1, end_i, q[0] + 1, end_j)
    elif not p and not q:
        yield from _fixed_runs(before, after, i, end_i, j, end_j)


def _fixed_runs(
    before: Sequence[Any], after: Sequence[Any], i: int, end_i: int, j: int, end_j: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of axes i to end_i and j to end_j, all of fixed sizes, whose products are equal."""
    if _product(before, i, end_i) != _product(after, j, end_j) or _product(before, i, end_i) == 0:
        return
    while i < end_i or j < end_j:
        mine: list[int] = []
        theirs: list[int] = []
        left = right = 1
        while not (mine or theirs) or left != right or (not mine and i < end_i) or (not theirs and j < end_j):
            if i < end_i and (left < right or not mine):
                left *= before[i]
                mine.append(i)
                i += 1
            else:
                right *= after[j]
                theirs.append(j)
                j += 1
        yield mine, theirs


def _unknown(sizes: Sequence[Any], start: int, end: int) -> list[int]:
    return [axis for axis in range(start, end) if not isinstance(sizes[axis], int)]


def _product(sizes: Sequence[Any], start: int, end: int) -> int:
    """Product of the sizes that are fixed."""
    return math.prod(size for size in sizes[start:end] if isinstance(size, int))


def _same(a: int | str | None, b: int | str | None) -> bool:
    return a is not None and a == b
