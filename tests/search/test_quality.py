"""What the figures in a report mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.search import Accuracy, Quality, compare, find_metric


def test_sqnr_is_the_ratio_of_powers() -> None:
    signal = np.array([[3.0, 4.0]], np.float32)
    found = compare([{"y": signal}], [{"y": signal + np.float32(0.5)}]).outputs["y"]
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 0.5))
    assert found.max_abs == 0.5
    assert found.cosine == pytest.approx((3 * 3.5 + 4 * 4.5) / (5 * math.hypot(3.5, 4.5)))


def test_powers_add_over_samples_and_cosines_are_averaged() -> None:
    ones, zeros = np.ones((1, 4)), np.zeros((1, 4))
    quality = compare([{"y": ones}, {"y": ones}], [{"y": ones}, {"y": zeros}])
    assert quality.outputs["y"].sqnr_db == pytest.approx(10 * math.log10(2))
    assert quality.outputs["y"].cosine == pytest.approx(0.5)


def test_no_error_is_infinite_and_told_as_null() -> None:
    quality = compare([{"y": np.ones((1, 3))}], [{"y": np.ones((1, 3))}])
    assert quality.sqnr_db == math.inf
    assert quality.record()["y"] == {"sqnr_db": None, "cosine": pytest.approx(1.0), "max_abs": 0.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_the_worst_there_is(bad: float) -> None:
    assert compare([{"y": np.ones((1, 2))}], [{"y": np.array([[1.0, bad]])}]).sqnr_db == -math.inf


def test_the_worst_output_counts() -> None:
    a = {"y": np.ones((1, 4)), "z": np.ones((1, 4))}
    assert compare([a], [a | {"z": np.full((1, 4), 1.1)}]).sqnr_db == pytest.approx(20.0)


@pytest.mark.parametrize(("shape", "told"), [((2, 5), True), ((2, 5, 1, 1), True), ((2, 5, 4), False), ((5,), False)])
def test_agreement_is_told_of_class_scores_only(shape: tuple[int, ...], told: bool) -> None:
    scores = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert compare([{"y": scores}], [{"y": scores}]).agreement == (1.0 if told else None)


def test_agreement_counts_rows() -> None:
    a, b = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    b[0] = [0, 1, 0, 0]
    assert compare([{"y": a}], [{"y": b}]).agreement == 0.75


def test_samples_that_differ_in_number_are_an_error() -> None:
    with pytest.raises(ValueError):
        compare([{"y": np.ones(1)}], [])


def test_accuracy_takes_the_first_output_of_scores() -> None:
    outputs = [{"boxes": np.ones((1, 3, 4), np.float32), "y": np.array([[0, 1.0, 0]], np.float32)}]
    assert Accuracy("top1").score(outputs, np.array([1])) == 1.0
    with pytest.raises(UsageError, match="needs labels"):
        Accuracy("top1").score(outputs, None)


def test_a_metric_of_the_users_own() -> None:
    metric = find_metric(lambda outputs, labels: float(len(outputs)))
    assert metric.score([{"y": np.ones(1)}] * 3, None) == 3.0
    for function, text in (
        (lambda o, _: o[9], "IndexError"),
        (lambda *_: math.nan, "nan"),
        (lambda *_: "good", "ValueError"),
    ):
        with pytest.raises(UsageError, match=text):
            find_metric(function).score([], None)


def test_quality_starts_empty() -> None:
    assert Quality().sqnr_db == math.inf
    assert Quality().agreement is None
