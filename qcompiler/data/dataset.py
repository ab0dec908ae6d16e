"""What the rest of the compiler sees of data: samples that are read one at a time, and perhaps their labels.

A *sample* is what is fed to the model in one run: a dict from the names of the model's inputs to arrays whose ranks and
element types are the model's, batch axis included. ``len(dataset)`` counts runs, not rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Dataset", "InputSpec", "Sample", "Subset", "split"]

Array: TypeAlias = NDArray[Any]
Sample: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """One input of the model, as far as data must fit it.

    ``shape`` holds an int for a fixed axis, a name or None for a dynamic one; ``shape=None`` is an unknown rank.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        dims = ["..."] if self.shape is None else ["?" if dim is None else str(dim) for dim in self.shape]
        return f"{'string' if self.is_text else self.dtype}[{', '.join(dims)}]"

    @property
    def is_text(self) -> bool:
        """Whether the elements are strings, which numpy has in several forms."""
        return self.dtype.kind in "OSTU"


class Dataset(ABC):
    """Samples by index, read when they are asked for.

    ``labels`` has one row a sample, in the order of the samples: [N], or [N, b] where a sample is a batch of b rows;
    None where the data has none. ``description`` says in a few words what the data is, for reports. Every call hands
    out arrays of its own, so a caller may write into them.
    """

    def __init__(self, description: str, labels: Array | None) -> None:
        self.description = description
        self.labels = labels

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Sample ``index``, 0 <= index < len(self).

        Raises IndexError outside of that range and DataError where the sample does not fit the model.
        """

    def walk(self, indices: Sequence[int]) -> Iterator[Sample]:
        """The samples at ``indices``, one at a time. Ascending indices are cheapest, whatever the kind of data."""
        return (self.sample(index) for index in indices)

    def __iter__(self) -> Iterator[Sample]:
        return self.walk(range(len(self)))

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The samples at ``indices``, in that order, with their labels. IndexError where there is no such sample."""
        return Subset(self, indices)

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")


class Subset(Dataset):
    """A choice of another dataset's samples; it holds indices, not arrays."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self._whole = whole
        self._indices = [int(index) for index in indices]
        for index in self._indices:
            whole._check_index(index)
        labels = None if whole.labels is None else whole.labels[np.array(self._indices, dtype=np.intp)]
        super().__init__(f"{len(self._indices)} of {whole.description}", labels)

    def __len__(self) -> int:
        return len(self._indices)

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        return self._whole.sample(self._indices[index])

    def walk(self, indices: Sequence[int]) -> Iterator[Sample]:
        for index in indices:
            self._check_index(index)
        return self._whole.walk([self._indices[index] for index in indices])


def split(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """(calibration, scoring): the samples of even index and those of odd index.

    Taking turns keeps both halves alike where the data is sorted, by class for instance. A lone sample serves both.
    """
    if len(dataset) == 1:
        return dataset, dataset
    return dataset.subset(range(0, len(dataset), 2)), dataset.subset(range(1, len(dataset), 2))
