"""Samples from a list of dicts that is in memory, one dict for each run of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import islice

from qcompiler.data.dataset import Array, Dataset, InputSpec, Sample
from qcompiler.data.fit import check_sample, stack_labels
from qcompiler.errors import DataError

__all__ = ["RecordDataset", "read_records"]


class RecordDataset(Dataset):
    """The user's dicts, as they are; all are checked at the start, and each sample is a copy."""

    def __init__(
        self, records: Sequence[object], inputs: Sequence[InputSpec], *, where: str = "the list of dicts"
    ) -> None:
        """Raises DataError where there are no records or one of them does not fit the model."""
        if not records:
            raise DataError(f"{where} holds no samples", hint="give at least one dict of arrays")
        self._records = records
        self._inputs = tuple(inputs)
        self._where = where
        labels = [self._check(index)[1] for index in range(len(records))]
        super().__init__(f"{where} ({len(records)} samples)", stack_labels(labels, where))

    def __len__(self) -> int:
        return len(self._records)

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        return self._check(index)[0]

    def _check(self, index: int) -> tuple[Sample, Array | None]:
        return check_sample(self._records[index], self._inputs, f"sample {index} of {self._where}")


def read_records(iterator: Iterator[object], limit: int | None = None) -> list[object]:
    """What is left in ``iterator``, up to ``limit`` dicts; DataError where it raises.

    They are copied, since a generator may fill the same arrays again and again.
    """
    try:
        return [deepcopy(record) for record in islice(iterator, limit)]
    except Exception as error:  # the user's code may raise anything
        raise DataError(
            f"the iterator of samples raised {type(error).__name__}: {error}", hint="it yields dicts of arrays"
        ) from error
