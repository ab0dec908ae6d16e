"""Batches: the same for the same seed, whatever came before, and samples that nothing learned from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.training import Settings, hold_out
from qcompiler.training.batches import Batch, Samples
from tests.training.models import images, net


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_what_is_held_out_is_spread_and_apart(count: int, share: float) -> None:
    learn, judge = hold_out(count, share)
    if learn == judge:
        assert learn == list(range(count)) and (count < 16 or int(count * share) == 0)
    else:
        assert sorted(learn + judge) == list(range(count))
        assert abs(len(judge) - count * share) <= 1
        gaps = np.diff([-1, *judge, count])
        assert gaps.max() <= 2 * count / len(judge) + 1


def test_an_epoch_is_the_same_again_and_another_one_is_not() -> None:
    samples = Samples(images(net(), 20, labels=True), Settings(batch=8, flip=True, crop=2, mixup=True))

    def epoch(number: int, seed: int = 5) -> list[np.ndarray]:
        return [batch.stacked()["x"] for batch in samples.shuffled(range(20), seed, number)]

    assert all(np.array_equal(a, b) for a, b in zip(epoch(3), epoch(3), strict=True))
    assert not np.array_equal(epoch(3)[0], epoch(4)[0])
    assert not np.array_equal(epoch(3)[0], epoch(3, 6)[0])
    assert [len(item) for item in epoch(1)] == [8, 8]  # every batch is full
    assert samples.steps(20) == 2 and samples.steps(5) == 1


def test_workers_share_each_batch() -> None:
    samples = Samples(images(net(), 20), Settings(batch=8, flip=True))
    whole = next(samples.shuffled(range(20), 0, 1)).samples
    parts = [next(samples.shuffled(range(20), 0, 1, part, 2)).samples for part in (0, 1)]
    for place, sample in enumerate(whole):
        np.testing.assert_array_equal(sample["x"], parts[place % 2][place // 2]["x"])


def test_images_are_mirrored_and_shifted_and_others_left_alone() -> None:
    samples = Samples(images(net(), 16), Settings(batch=16, flip=True, crop=2))
    plain = {tuple(np.sort(samples.at(place)["x"].reshape(-1))[-3:]): samples.at(place)["x"] for place in range(16)}
    (batch,) = samples.shuffled(range(16), 0, 1)
    moved = 0
    for sample in batch.samples:
        assert sample["x"].shape == (1, 3, 8, 8)
        moved += not any(np.array_equal(sample["x"], item) for item in plain.values())
    assert moved > 8
    batch = samples._changed(Batch([{"ids": np.arange(4)[None]}]), np.random.default_rng(0))
    np.testing.assert_array_equal(batch.samples[0]["ids"], np.arange(4)[None])


def test_mixing_takes_labels_along() -> None:
    samples = Samples(images(net(), 16, labels=True), Settings(batch=4, mixup=True))
    batch = next(samples.shuffled(range(16), 0, 1))
    assert batch.labels is not None and batch.mixed is not None
    assert [labels.shape for labels in batch.labels] == [(1, 2)] * 4
    assert all(0 <= part[0] <= 1 for part in batch.mixed)
    assert all(batch.labels[place][0, 1] == batch.labels[place - 1][0, 0] for place in range(4))


def test_samples_of_other_shapes_are_not_stacked() -> None:
    sizes = [Batch([{"x": np.ones((1, size))} for size in sizes]).is_even for sizes in ((3, 3), (3, 4))]
    assert sizes == [True, False]
    assert not Batch([{"x": np.float32(1)}]).is_even


def test_samples_are_read_once_and_only_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(net(), 4)
    samples = Samples(data, Settings())
    samples.room = 2 * data.sample(0)["x"].nbytes
    for place in (0, 1, 2, 3, 0, 1):
        samples.at(place)
    assert sorted(samples.kept) == [0, 1]
