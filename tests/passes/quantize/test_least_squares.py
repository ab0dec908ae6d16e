"""Rounding by least squares, against examples worked out by hand and against trying everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.quantize.least_squares import compensated, damped, descended, output_error


def whole(column: int, values: np.ndarray) -> np.ndarray:
    return np.rint(values)


def test_the_second_weight_makes_good_what_the_first_one_lost() -> None:
    """H = [[1, 1], [1, 1 + e]]: both inputs are nearly the same, so only the sum of the weights counts.

    w = (0.4, 0.4) to the nearest is (0, 0), which loses 0.8. The first is rounded to 0; its error of 0.4 goes to the
    second, 0.4 + 0.4 * H01 / H11 = 0.796, which is rounded to 1: the sum is off by 0.2 only.
    """
    moments = np.array([[[1.0, 1.0], [1.0, 1.01]]])
    weights = np.array([[[0.4, 0.4]]])
    assert compensated(weights, moments, whole).tolist() == [[[0.0, 1.0]]]
    assert output_error(weights, moments, np.array([[[0.0, 0.0]]])).item() == pytest.approx(0.6416)
    assert output_error(weights, moments, np.array([[[0.0, 1.0]]])).item() == pytest.approx(0.0436)


def test_descent_finds_the_same_from_the_nearest() -> None:
    """The best first weight with the second at 0: 0.4 + 0.4 * H01 / H00 = 0.8, so 1; then the second stays."""
    moments = np.array([[[1.0, 1.0], [1.0, 1.01]]])
    found = descended(np.array([[[0.4, 0.4]]]), moments, whole, np.zeros((1, 1, 2)), sweeps=3)
    assert found.tolist() == [[[1.0, 0.0]]]


def test_uncorrelated_inputs_leave_the_nearest() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 3, 5)) * 3
    moments = np.stack([np.diag([1.0, 2.0, 3.0, 4.0, 5.0])] * 2)
    assert (compensated(weights, moments, whole) == np.rint(weights)).all()
    assert (descended(weights, moments, whole, np.rint(weights), 2) == np.rint(weights)).all()


def test_an_input_that_was_always_zero_is_no_division_by_zero() -> None:
    moments = damped(np.array([[[4.0, 0.0], [0.0, 0.0]]]))
    assert moments[0].tolist() == [[4.02, 0.0], [0.0, 0.02]]
    assert damped(np.zeros((1, 2, 2)))[0].tolist() == [[0.01, 0.0], [0.0, 0.01]]
    assert compensated(np.array([[[0.6, 0.6]]]), moments, whole).tolist() == [[[1.0, 1.0]]]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), inner=st.integers(1, 4))
def test_descent_never_worsens_and_the_best_of_all_is_no_better_than_it_may_be(seed: int, inner: int) -> None:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(8, inner)) @ random.normal(size=(inner, inner))
    moments = damped((inputs.T @ inputs)[None])
    weights = random.normal(size=(1, 1, inner))
    nearest = np.rint(weights)
    found = descended(weights, moments, whole, nearest, 5)
    before, after = (output_error(weights, moments, rows).item() for rows in (nearest, found))
    around = [np.array(steps, float)[None, None] + np.floor(weights) for steps in product((0, 1), repeat=inner)]
    least = min(output_error(weights, moments, rows).item() for rows in around)
    assert after <= before + 1e-9
    # A single column cannot be bettered: the definition of where the descent stops.
    for column in range(inner):
        for step in (-1, 1):
            other = found.copy()
            other[0, 0, column] += step
            assert output_error(weights, moments, other).item() >= after - 1e-9
    assert least <= before + 1e-9


def test_lazy_updates_are_those_of_one_column_at_a_time() -> None:
    """More columns than are handed on together; the plain algorithm in five lines beside it."""
    random = np.random.default_rng(4)
    inputs = random.normal(size=(300, 130)) @ random.normal(size=(130, 130))
    moments = damped((inputs.T @ inputs)[None])
    weights = random.normal(size=(1, 3, 130)) * 2
    factor = np.linalg.cholesky(np.linalg.inv(moments[0])).T
    left, expected = weights[0].copy(), np.empty((3, 130))
    for column in range(130):
        expected[:, column] = np.rint(left[:, column])
        error = (left[:, column] - expected[:, column]) / factor[column, column]
        left[:, column:] -= error[:, None] * factor[column, column:]
    assert (compensated(weights, moments, whole)[0] == expected).all()
