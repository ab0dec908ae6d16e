"""Everything that calibration remembers of a tensor: how often each leading half of a float32 occurred.

The upper 16 bits of a float32 are its sign, exponent and 7 bits of mantissa, so that counting them is a histogram of
0.4 to 0.8 % resolution over the whole range, without choosing a range first. Counts add up: the result does not
depend on batches, on order, or on how the samples were split over workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcompiler.calibrate.divergence import least_divergent
from qcompiler.ir import QuantSpec, affine_parameters, integer_range

__all__ = ["RangeStatistics"]

Array = np.ndarray[Any, np.dtype[Any]]

_STEPS = 48  # candidates for a bound in the search for the least squared error
_UNIT = 149  # binary places of the smallest float32
_SMALLEST = 0.2  # of the observed bound, below which no clipping has ever paid


@dataclass
class RangeStatistics:
    """Counts by leading half (``codes`` ascending uint16, ``counts`` int64), and the exact extremes.

    ``count`` is the number of finite elements seen, ``odd`` that of NaN and infinities, which are left out.
    ``low_sum`` and ``high_sum`` are sums over the ``samples`` of their extremes, in units of 2^-149, of which every
    float32 is a whole number: they are exact, so that their order does not matter.
    """

    codes: Array = field(default_factory=lambda: np.zeros(0, np.uint16))
    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    minimum: float = float("inf")
    maximum: float = float("-inf")
    count: int = 0
    odd: int = 0
    low_sum: int = 0
    high_sum: int = 0
    samples: int = 0

    def update(self, array: Array) -> None:
        """Count the elements of ``array``, one sample of any shape and real element type."""
        flat = np.ascontiguousarray(array, dtype="<f4").reshape(-1)
        if not flat.size:
            return
        seen = np.bincount(flat.view(np.uint16)[1::2], minlength=1 << 16)
        special = int(seen[0x7F80:0x8000].sum() + seen[0xFF80:].sum())
        if special:
            seen[0x7F80:0x8000] = 0
            seen[0xFF80:] = 0
            flat = flat[np.isfinite(flat)]
        self.odd += special
        self.count += flat.size
        if flat.size:
            low, high = float(flat.min()), float(flat.max())
            self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
            self.low_sum += int(math.ldexp(low, _UNIT))
            self.high_sum += int(math.ldexp(high, _UNIT))
            self.samples += 1
        codes = np.flatnonzero(seen)
        self._add(codes.astype(np.uint16), seen[codes].astype(np.int64))

    def merge(self, other: RangeStatistics) -> None:
        """Add what another worker counted of the same tensor."""
        self._merge(other)
        self.low_sum += other.low_sum
        self.high_sum += other.high_sum
        self.samples += other.samples

    def join(self, part: RangeStatistics) -> None:
        """Add what was counted of ``part`` of this tensor over the same samples."""
        self._merge(part)
        self.low_sum = min(self.low_sum, part.low_sum) if self.samples else part.low_sum
        self.high_sum = max(self.high_sum, part.high_sum) if self.samples else part.high_sum
        self.samples = max(self.samples, part.samples)

    def _merge(self, other: RangeStatistics) -> None:
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.count += other.count
        self.odd += other.odd
        self._add(other.codes, other.counts.copy())

    def minmax(self) -> tuple[float, float]:
        """The extremes; (0, 0) when nothing finite was seen."""
        return (self.minimum, self.maximum) if self.count else (0.0, 0.0)

    def average(self) -> tuple[float, float]:
        """Mean over the samples of their extremes: a moving average in which no sample comes first."""
        if not self.samples:
            return 0.0, 0.0
        low, high = self.low_sum // self.samples, self.high_sum // self.samples
        return math.ldexp(low, -_UNIT), math.ldexp(high, -_UNIT)

    def entropy(self, spec: QuantSpec) -> tuple[float, float]:
        """The range, clipped at one magnitude, whose integers are distributed most like the tensor.

        See :func:`qcompiler.calibrate.divergence.least_divergent`. With more than 8 bits there is nothing to gain.
        """
        low, high = self.minmax()
        if spec.dtype.bits > 8 or low == high:
            return low, high
        values, counts = self._sorted()
        order = np.argsort(np.abs(values), kind="stable")
        both_sides = low < 0 < high or spec.symmetric
        bottom, top = integer_range(spec)
        levels = (top - bottom + 1) // 2 if both_sides else top - bottom + 1
        bound = least_divergent(np.abs(values)[order], counts[order], levels)
        return max(low, -bound), min(high, bound)

    def bars(self, count: int = 32) -> list[int]:
        """Elements in each of ``count`` stretches of equal width from the minimum to the maximum, for a picture."""
        if not self.count:
            return [0] * count
        values, counts = self._sorted()
        width = self.maximum - self.minimum
        places = ((values - self.minimum) / width * count).astype(int) if width > 0 else np.zeros(values.size, int)
        return [int(number) for number in np.bincount(places.clip(0, count - 1), weights=counts, minlength=count)]

    def percentile(self, percent: float) -> tuple[float, float]:
        """The range that leaves out (100 - ``percent``) % of the elements at either end."""
        if not self.count:
            return 0.0, 0.0
        values, counts = self._sorted()
        below = np.cumsum(counts)
        drop = self.count * (1.0 - percent / 100.0)
        low = values[np.searchsorted(below, drop, side="right").clip(max=values.size - 1)]
        above = np.cumsum(counts[::-1])
        high = values[::-1][np.searchsorted(above, drop, side="right").clip(max=values.size - 1)]
        return max(float(low), self.minimum), min(float(high), self.maximum)

    def least_error(self, spec: QuantSpec) -> tuple[float, float]:
        """The range with the least mean squared error of quantizing by ``spec`` (Choukroun et al., 2019, section 3).

        Either bound is lowered in turn over a grid, since error is the sum of rounding, which wants a narrow range,
        and clipping, which wants a wide one.
        """
        low, high = self.minmax()
        if not self.count or low == high:
            return low, high
        values, counts = self._sorted()
        weights = counts.astype(np.float64) / self.count
        fractions = np.linspace(1.0, _SMALLEST, _STEPS)
        best = _squared_error(values, weights, low, high, spec)
        if spec.symmetric:
            for part in fractions:
                error = _squared_error(values, weights, self.minimum * part, self.maximum * part, spec)
                if error < best:
                    best, low, high = error, self.minimum * part, self.maximum * part
            return low, high
        for _ in range(2):
            for part in fractions if high > 0 else ():
                error = _squared_error(values, weights, low, self.maximum * part, spec)
                if error < best:
                    best, high = error, self.maximum * part
            for part in fractions if low < 0 else ():
                error = _squared_error(values, weights, self.minimum * part, high, spec)
                if error < best:
                    best, low = error, self.minimum * part
        return low, high

    def _add(self, codes: Array, counts: Array) -> None:
        if not self.codes.size:
            self.codes, self.counts = codes, counts
            return
        places = np.searchsorted(self.codes, codes).clip(max=self.codes.size - 1)
        if (self.codes[places] == codes).all():  # nearly always, once some samples have been seen
            self.counts[places] += counts
            return
        merged = np.union1d(self.codes, codes)
        total = np.zeros(merged.size, np.int64)
        total[np.searchsorted(merged, self.codes)] += self.counts
        total[np.searchsorted(merged, codes)] += counts
        self.codes, self.counts = merged, total

    def _sorted(self) -> tuple[Array, Array]:
        """Middle of each occupied bin in ascending order (float64), and its count. Zero stands for itself."""
        middles = ((self.codes.astype(np.uint32) << 16) | 0x8000).view(np.float32).astype(np.float64)
        middles[(self.codes & 0x7FFF) == 0] = 0.0
        order = np.argsort(middles, kind="stable")
        return np.clip(middles[order], self.minimum, self.maximum), self.counts[order]


def _squared_error(values: Array, weights: Array, low: float, high: float, spec: QuantSpec) -> float:
    """Mean squared error of quantizing ``values`` with the range [low, high].

    Beyond one step from zero the position within a step is finer than the histogram, and is taken as uniform:
    step squared / 12. Nearer to zero, where most of a sparse tensor sits, it is computed.
    """
    scale, zero = affine_parameters(low, high, spec)
    step, offset = float(scale), float(zero)
    bottom, top = integer_range(spec)
    least, most = (bottom - offset) * step, (top - offset) * step
    clipped = np.clip(values, least, most)
    near = np.rint(clipped / step) * step
    rounding = np.where(np.abs(values) < step, (near - clipped) ** 2, step * step / 12)
    rounding = np.where(clipped != values, (clipped - values) ** 2, rounding)
    return float(np.dot(weights, rounding))
