"""k-means of numbers on a line: exact by dynamic programming, Lloyd's algorithm where there are too many of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

__all__ = ["EXACT", "STARTS", "Clusters", "cluster", "nearest"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

EXACT = 8192
"""Distinct values up to which the optimum is found; above, Lloyd starts from the optimum of so many merged ones."""

STARTS = ("exact", "k-means++", "linear", "density", "random")
"""Where Lloyd's algorithm starts: the optimum (of merged values, above ``EXACT``), or as Han et al. (2015) compare."""

_ROUNDS = 300  # of Lloyd's algorithm; on a line some dozens suffice
_PLUS_TRIES = 4  # starts by k-means++, of which the best is kept


@dataclass(frozen=True)
class Clusters:
    """``centroids`` are float64 [k], ascending; ``error`` is the weighted sum of squared distances to the nearest."""

    centroids: Array
    error: float


class _Line:
    """Sorted distinct values with their weights, and sums from the left."""

    def __init__(self, values: Array, weights: Array) -> None:
        self.values, self.weights = values, weights
        # Around zero the sums cancel least.
        self.middle = float(np.average(values, weights=weights)) if weights.sum() > 0 else 0.0
        moved = values - self.middle
        self.moved = moved
        self.mass, self.first, self.second = (
            np.concatenate([[0.0], np.cumsum(weights * moved**power)]) for power in (0, 1, 2)
        )

    def cost(self, start: Array, end: Array) -> Array:
        """The error of one cluster of the values from ``start`` up to and without ``end``; 0 where there are none."""
        mass = self.mass[end] - self.mass[start]
        first = self.first[end] - self.first[start]
        spread = self.second[end] - self.second[start] - first * first / np.where(mass > 0, mass, 1.0)
        found: Array = np.maximum(spread, 0.0)
        return found

    def means(self, cuts: Array) -> Array:
        """The mean of each stretch between ``cuts``; NaN where it has no mass."""
        mass = np.diff(self.mass[cuts])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.diff(self.first[cuts]) / np.where(mass > 0, mass, np.nan)


def cluster(values: Array, k: int, weights: Array | None = None, *, start: str = "exact", seed: int = 0) -> Clusters:
    """At most ``k`` centroids of ``values`` (any shape, finite) with the least weighted sum of squared distances.

    ``weights`` are not negative and of the shape of ``values``; None: all one. With fewer distinct values than ``k``
    there are as many centroids as values. Up to ``EXACT`` distinct values ``start = "exact"`` gives the optimum, by
    dynamic programming over sorted values with the ends of a cluster's beginning by halving (Wu, 1991; Wang and Song,
    2011): O(k n log n). Otherwise Lloyd's algorithm: O(k log n) a round, since sums over stretches are known.
    Those sums are of float64, so that one value 10^5 times as far out as the others costs them their last digits.
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    each = np.ones(flat.size) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    distinct, inverse = np.unique(flat, return_inverse=True)
    mass: Array = np.bincount(inverse, weights=each, minlength=distinct.size)
    if not mass.sum() > 0:
        mass = np.ones(distinct.size)
    else:  # what counts nothing is still to be given a centroid near it
        mass = np.maximum(mass, mass.max() * 1e-9)
    if distinct.size <= k:
        return Clusters(distinct, 0.0)
    line = _Line(distinct, mass)
    if start == "exact" and distinct.size <= EXACT:
        cuts = _optimum(line, k)
        return _done(line, line.means(cuts) + line.middle)
    begins = [_begin(line, k, start, np.random.default_rng(seed + step)) for step in range(_tries(start))]
    return min((_lloyd(line, begin) for begin in begins), key=lambda found: found.error)


def nearest(values: Array, centroids: Array) -> Array:
    """The place of the nearest of ascending ``centroids`` for each of ``values``; of two as near the lower."""
    if centroids.size < 2:
        return np.zeros(np.shape(values), np.int64)
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values, side="left")


def _tries(start: str) -> int:
    return _PLUS_TRIES if start == "k-means++" else 1


def _optimum(line: _Line, k: int) -> Array:
    """The ends [k + 1] of the stretches of the best clustering.

    ``best[j]`` is the least error of the first j values in so many clusters. The beginning of the last cluster moves
    right with j, so that for j by j in the middle of what is open only beginnings between those of its neighbours are
    tried; all of one depth of the halving are done at once.
    """
    count = line.values.size
    best = line.cost(np.zeros(count + 1, np.int64), np.arange(count + 1))
    begins = np.zeros((k, count + 1), np.int32)
    for cluster_number in range(1, k):
        best, begins[cluster_number] = _one_more(line, best, cluster_number)
    cuts = np.empty(k + 1, np.int64)
    cuts[k] = count
    for cluster_number in range(k - 1, -1, -1):
        cuts[cluster_number] = begins[cluster_number, cuts[cluster_number + 1]]
    return cuts


def _one_more(line: _Line, best: Array, fewest: int) -> tuple[Array, Array]:
    """Errors and beginnings with one cluster more than ``best`` has."""
    count = line.values.size
    found = np.zeros(count + 1)
    begins = np.arange(count + 1)  # with no more values than clusters each has its own
    left, right = np.array([fewest + 1]), np.array([count])
    low, high = np.array([fewest]), np.array([count - 1])
    while left.size:
        middle = (left + right) // 2
        top = np.minimum(high, middle - 1)
        sizes = top - low + 1
        ends = np.cumsum(sizes)
        tried = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes) + np.repeat(low, sizes)
        costs = best[tried] + line.cost(tried, np.repeat(middle, sizes))
        least = np.minimum.reduceat(costs, ends - sizes)
        hits = np.flatnonzero(costs == np.repeat(least, sizes))
        chosen = tried[hits[np.searchsorted(hits, ends - sizes)]]
        found[middle], begins[middle] = least, chosen
        before, behind = left < middle, middle < right
        left, right, low, high = (
            np.concatenate([left[before], middle[behind] + 1]),
            np.concatenate([middle[before] - 1, right[behind]]),
            np.concatenate([low[before], chosen[behind]]),
            np.concatenate([chosen[before], high[behind]]),
        )
    return found, begins


def _begin(line: _Line, k: int, start: str, random: np.random.Generator) -> Array:
    values, share = line.values, line.weights / line.weights.sum()
    if start == "linear":
        return np.linspace(values[0], values[-1], k)
    if start == "density":  # evenly in the cumulative distribution
        places = np.searchsorted(np.cumsum(share), (np.arange(k) + 0.5) / k)
        return np.unique(values[np.minimum(places, values.size - 1)])
    if start == "random":
        return np.sort(random.choice(values, k, replace=False))
    if start == "k-means++":  # Arthur and Vassilvitskii, 2007
        chosen = [float(random.choice(values, p=share))]
        distance = np.square(values - chosen[0])
        while len(chosen) < k and (chance := distance * line.weights).sum() > 0:
            chosen.append(float(random.choice(values, p=chance / chance.sum())))
            distance = np.minimum(distance, np.square(values - chosen[-1]))
        return np.unique(chosen)
    merged = _merged(line)
    return merged.means(_optimum(merged, k)) + merged.middle


def _merged(line: _Line) -> _Line:
    """``EXACT`` values at most, for stretches of the line that are even in width and in the centroids that they get."""
    density = np.cbrt(
        line.weights / np.gradient(line.values)
    )  # where centroids lie in the limit (Panter and Dite, 1951)
    steps = density * np.gradient(line.values)
    steps = steps / steps.sum() + np.gradient(line.values) / (line.values[-1] - line.values[0])
    bins = np.minimum((np.cumsum(steps) / steps.sum() * EXACT).astype(np.int64), EXACT - 1)
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(bins)) + 1, [line.values.size]])
    return _Line(line.means(cuts) + line.middle, np.diff(line.mass[cuts]))


def _lloyd(line: _Line, centroids: Array) -> Clusters:
    """Centroids to means and ends to middles in turn, until nothing moves."""
    centroids = np.sort(centroids)
    cuts = np.zeros(0, np.int64)
    for _ in range(_ROUNDS):
        ends = np.searchsorted(line.values, (centroids[1:] + centroids[:-1]) / 2, side="right")
        now = np.concatenate([[0], ends, [line.values.size]])
        if np.array_equal(now, cuts):
            break
        cuts = now
        means = line.means(cuts) + line.middle
        centroids = np.where(np.isnan(means), centroids, means)
    return _done(line, centroids)


def _done(line: _Line, centroids: Array) -> Clusters:
    centroids = np.unique(centroids[np.isfinite(centroids)])
    places = nearest(line.values, centroids)
    return Clusters(centroids, float((line.weights * np.square(line.values - centroids[places])).sum()))
