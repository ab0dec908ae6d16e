"""Histograms as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["bars_of"]


def bars_of(counts: Sequence[int], left: float = 0.0, width: float = 100.0) -> list[tuple[float, float, float]]:
    """Left end and width in percent, and height from 0 to 1, of each bar that is not empty.

    Heights are logarithms, since most numbers are small. ``left`` and ``width`` are of the whole, in percent.
    """
    if not any(counts):
        return []
    most, each = math.log1p(max(counts)), width / len(counts)
    return [
        (round(left + place * each, 2), round(each, 2), round(math.log1p(count) / most, 3))
        for place, count in enumerate(counts)
        if count
    ]
