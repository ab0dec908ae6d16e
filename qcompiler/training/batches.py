"""Samples in batches, in an order that the seed and the epoch decide, changed as the settings say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.data import Dataset, Sample
from qcompiler.training.settings import Settings

__all__ = ["Batch", "Samples", "hold_out"]

_CACHE = 1 << 28  # bytes of samples that are kept once they were read
_LEAST = 16  # samples of which some are held out


@dataclass
class Batch:
    """Some samples by themselves, and the labels of each: [rows], or where two samples were mixed [rows, 2].

    ``mixed`` is how much the first of two counts.
    """

    samples: list[Sample]
    labels: list[Any] | None = None
    mixed: list[Any] | None = None

    @property
    def is_even(self) -> bool:
        """Whether all samples have the same shapes but for the first axis, so that they can be stacked."""
        shapes = [tuple(np.shape(array)[1:] for array in sample.values()) for sample in self.samples]
        return all(np.ndim(array) for array in self.samples[0].values()) and len(set(shapes)) == 1

    def stacked(self) -> Sample:
        """All samples along the first axis."""
        return {name: np.concatenate([sample[name] for sample in self.samples]) for name in self.samples[0]}


def hold_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """Samples to learn from and samples to judge by, evenly spread; few samples serve as both."""
    held = int(count * share)
    if not held or count < _LEAST:
        return list(range(count)), list(range(count))
    places = {int((place + 0.5) * count / held) for place in range(held)}
    return [place for place in range(count) if place not in places], sorted(places)


class Samples:
    """Samples of a dataset by index; what fits into memory is read once."""

    def __init__(self, data: Dataset, settings: Settings) -> None:
        self.data, self.settings = data, settings
        self.kept: dict[int, Sample] = {}
        self.room = _CACHE

    def at(self, index: int) -> Sample:
        """Sample ``index``, not to be written into."""
        if index not in self.kept:
            sample = self.data.sample(index)
            size = sum(getattr(array, "nbytes", _CACHE) for array in sample.values())
            if size > self.room:
                return sample
            self.room -= size
            self.kept[index] = sample
        return self.kept[index]

    def label(self, index: int) -> Any:
        """The labels of sample ``index``, as one row; None without labels."""
        return None if self.data.labels is None else np.reshape(self.data.labels[index], -1)

    def plain(self, indices: Sequence[int]) -> Iterator[Batch]:
        """Batches in order, unchanged."""
        for start in range(0, len(indices), self.settings.batch):
            some = indices[start : start + self.settings.batch]
            yield Batch([self.at(index) for index in some], self._labels(some))

    def shuffled(self, indices: Sequence[int], seed: int, epoch: int, part: int = 0, parts: int = 1) -> Iterator[Batch]:
        """The batches of one epoch, of which ``part`` of ``parts`` workers gets its share of each.

        Every batch is full, or all of the samples where these are fewer.
        """
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(indices)
        size = min(self.settings.batch, len(order))
        for start in range(0, len(order) - size + 1, size):
            some = [int(index) for index in order[start : start + size]]
            batch = self._changed(Batch([self.at(index) for index in some], self._labels(some)), random)
            yield Batch(
                batch.samples[part::parts],
                None if batch.labels is None else batch.labels[part::parts],
                None if batch.mixed is None else batch.mixed[part::parts],
            )

    def steps(self, count: int) -> int:
        """Batches in an epoch of ``count`` samples."""
        return count // min(self.settings.batch, count)

    def _labels(self, indices: Sequence[int]) -> Any:
        return None if self.data.labels is None else [self.label(index) for index in indices]

    def _changed(self, batch: Batch, random: np.random.Generator) -> Batch:
        settings = self.settings
        if settings.flip or settings.crop:
            batch.samples = [_moved(sample, settings, random) for sample in batch.samples]
        if settings.mixup and len(batch.samples) > 1 and _mixes(batch):
            partner = np.roll(np.arange(len(batch.samples)), 1)
            parts = random.uniform(0, 1, len(batch.samples)).astype(np.float32)
            batch.samples = [
                {name: (parts[place] * array + (1 - parts[place]) * batch.samples[partner[place]][name])
                 .astype(array.dtype) for name, array in sample.items()}
                for place, sample in enumerate(batch.samples)
            ]  # fmt: skip
            if batch.labels is not None:
                batch.labels = [
                    np.stack([own, batch.labels[partner[place]]], axis=-1) for place, own in enumerate(batch.labels)
                ]
                batch.mixed = [np.full(len(own), part) for own, part in zip(batch.labels, parts, strict=True)]
        return batch


def _is_image(array: Any) -> bool:
    return bool(array.ndim == 4 and array.dtype.kind == "f" and array.shape[-2] > 4)


def _moved(sample: Sample, settings: Settings, random: np.random.Generator) -> Sample:
    """The images of one sample mirrored and shifted by chance, all of them alike.

    They are [rows, channels, height, width], or with the channels last.
    """
    mirrored = settings.flip and bool(random.integers(2))
    amounts = random.integers(-settings.crop, settings.crop + 1, 2) if settings.crop else (0, 0)
    return {name: _image(array, mirrored, amounts) if _is_image(array) else array for name, array in sample.items()}


def _image(array: Any, mirrored: bool, amounts: Any) -> Any:
    last = array.shape[-1] in (1, 3, 4) and array.shape[1] not in (1, 3, 4)
    axes = (1, 2) if last else (2, 3)
    if mirrored:
        array = np.flip(array, axes[1])
    pads = [(0, 0)] * 4
    cuts = [slice(None)] * 4
    for axis, amount in zip(axes, amounts, strict=True):
        pads[axis] = (max(0, amount), max(0, -amount))
        cuts[axis] = slice(max(0, -amount), array.shape[axis] + max(0, -amount))
    return np.ascontiguousarray(np.pad(array, pads)[tuple(cuts)])


def _mixes(batch: Batch) -> bool:
    """Whether samples can be mixed: real numbers alone, of one shape."""
    real = all(array.dtype.kind == "f" for array in batch.samples[0].values())
    return real and batch.is_even and len({len(next(iter(sample.values()))) for sample in batch.samples}) == 1
