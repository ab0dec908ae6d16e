"""Counts of leading halves: what they tell, and that they do not depend on how the samples came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.calibrate import RangeStatistics
from qcompiler.dtypes import DType
from qcompiler.ir import QuantSpec, affine_parameters, quantize

UINT8 = QuantSpec(DType.UINT8)
INT8 = QuantSpec(DType.INT8, symmetric=True)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def seen(*arrays: np.ndarray) -> RangeStatistics:
    statistics = RangeStatistics()
    for array in arrays:
        statistics.update(array)
    return statistics


def same(a: RangeStatistics, b: RangeStatistics) -> bool:
    return (
        np.array_equal(a.codes, b.codes)
        and np.array_equal(a.counts, b.counts)
        and (a.minimum, a.maximum, a.count, a.odd) == (b.minimum, b.maximum, b.count, b.odd)
    )


@given(ARRAYS, st.integers(0, 200), st.randoms())
def test_neither_cuts_nor_order_matter(array: np.ndarray, cut: int, random: object) -> None:
    shuffled = array.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = seen(array)
    assert same(whole, seen(shuffled[:cut], shuffled[cut:]))
    merged = seen(array[cut:])
    merged.merge(seen(array[:cut]))
    assert same(whole, merged)


@given(ARRAYS)
def test_extremes_are_exact(array: np.ndarray) -> None:
    assert seen(array).minmax() == (float(array.min()), float(array.max()))
    assert seen(array).percentile(100.0) == pytest.approx(seen(array).minmax(), rel=2**-7)


def test_percentile_is_numpys_within_the_resolution() -> None:
    array = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    low, high = seen(array).percentile(99.9)
    assert low == pytest.approx(np.percentile(array, 0.1), rel=0.01)
    assert high == pytest.approx(np.percentile(array, 99.9), rel=0.01)


def test_what_is_not_finite_is_counted_apart() -> None:
    statistics = seen(np.array([1, np.nan, -2, np.inf, -np.inf], np.float32))
    assert (statistics.count, statistics.odd) == (2, 3)
    assert statistics.minmax() == (-2.0, 1.0)
    assert seen(np.array([np.nan], np.float32)).minmax() == (0.0, 0.0)
    assert seen(np.zeros(0, np.float32)).minmax() == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_other_element_types_are_counted_as_float32(dtype: type) -> None:
    assert same(seen(np.array([1, 2, 3], dtype)), seen(np.array([1, 2, 3], np.float32)))


def squared_error(array: np.ndarray, bounds: tuple[float, float], spec: QuantSpec) -> float:
    scale, zero = affine_parameters(*bounds, spec)
    back = (quantize(array, scale, zero, spec).astype(np.float64) - float(zero)) * float(scale)
    return float(np.mean((back - array) ** 2))


@pytest.mark.parametrize("spec", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize("kind", ["normal", "laplace", "outlier", "relu", "shifted"])
def test_least_error_is_never_worse_than_the_extremes(kind: str, spec: QuantSpec) -> None:
    """Measured on the data itself, not on the histogram; two percent for what the histogram cannot resolve."""
    random = np.random.default_rng(1)
    array = {
        "normal": random.standard_normal(50_000),
        "laplace": random.laplace(size=50_000),
        "outlier": np.append(random.standard_normal(50_000), 40.0),
        "relu": np.maximum(random.standard_normal(50_000), 0),
        "shifted": random.standard_normal(50_000) + 3,
    }[kind].astype(np.float32)
    statistics = seen(array)
    ours = squared_error(array, statistics.least_error(spec), spec)
    assert ours <= squared_error(array, statistics.minmax(), spec) * 1.02
    if kind == "outlier":
        assert ours < squared_error(array, statistics.minmax(), spec) * 0.95


@pytest.mark.parametrize("array", [np.zeros(5), np.full(5, 3.0), np.full(5, -3.0)])
def test_constants_have_a_range(array: np.ndarray) -> None:
    low, high = seen(array).least_error(UINT8)
    scale, zero = affine_parameters(low, high, UINT8)
    back = (quantize(array.astype(np.float32), scale, zero, UINT8).astype(np.float64) - float(zero)) * float(scale)
    np.testing.assert_allclose(back, array, atol=1e-6)
