"""One-dimensional k-means: the optimum by enumeration, and what is above its size."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.cluster.kmeans import EXACT, STARTS, cluster, nearest


def by_enumeration(values: Any, weights: Any, k: int) -> float:
    """The least error over all ways to cut the sorted values into k stretches."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    best = np.inf
    for cuts in combinations(range(1, len(values)), k - 1):
        error = 0.0
        for start, end in zip((0, *cuts), (*cuts, len(values)), strict=True):
            mean = np.average(values[start:end], weights=weights[start:end])
            error += float((weights[start:end] * np.square(values[start:end] - mean)).sum())
        best = min(best, error)
    return best


NUMBERS = st.lists(
    st.tuples(st.integers(-1000, 1000), st.integers(1, 100)), min_size=2, max_size=9, unique_by=lambda pair: pair[0]
)


@given(NUMBERS, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_the_optimum_is_found(pairs: list[tuple[int, int]], k: int) -> None:
    values, weights = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
    k = min(k, len(values))
    found = cluster(values, k, weights)
    assert found.error == pytest.approx(by_enumeration(values, weights, k), abs=1e-6)
    assert found.centroids.size <= k
    assert (np.diff(found.centroids) > 0).all()


@pytest.mark.parametrize("count", [300, EXACT + 5000])
@pytest.mark.parametrize("k", [4, 32])
def test_no_other_start_is_better(count: int, k: int) -> None:
    values = np.random.default_rng(0).standard_normal(count) ** 3
    errors = {start: cluster(values, k, start=start).error for start in STARTS}
    assert errors["exact"] <= min(errors.values()) * (1 + 1e-9)


def test_above_its_size_it_is_near_the_optimum() -> None:
    """Values that repeat: as many as above, but few distinct ones, so that the optimum is known."""
    random = np.random.default_rng(1)
    coarse = np.round(random.standard_normal(40000), 2)
    known = cluster(coarse, 16).error
    spread = coarse + random.uniform(-1e-7, 1e-7, coarse.size)
    assert np.unique(spread).size > EXACT
    assert cluster(spread, 16).error <= known * 1.001


def test_scikit_learn_is_never_better() -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    values = np.random.default_rng(2).laplace(size=1500)
    for k in (4, 16):
        peer = sklearn.KMeans(k, n_init=10, random_state=0).fit(values[:, None]).inertia_
        assert cluster(values, k).error <= peer * (1 + 1e-9)


def test_fewer_values_than_clusters() -> None:
    found = cluster(np.array([3.0, 1.0, 3.0, 1.0]), 16)
    assert found.centroids.tolist() == [1.0, 3.0]
    assert found.error == 0.0


def test_what_weighs_more_is_met_better() -> None:
    values = np.linspace(0, 1, 101)
    weights = np.where(values < 0.2, 1000.0, 1.0)
    centroids = cluster(values, 4, weights).centroids
    assert (centroids < 0.2).sum() >= 2
    assert cluster(values, 4, np.zeros(101)).error == pytest.approx(0.0, abs=1.0)  # as if all weighed the same


def test_of_two_as_near_the_lower_is_taken() -> None:
    assert nearest(np.array([-1.0, 0.5, 0.51, 9.0]), np.array([0.0, 1.0])).tolist() == [0, 0, 1, 1]
    assert nearest(np.array([5.0, -5.0]), np.array([1.0])).tolist() == [0, 0]
