"""Samples cut from arrays that are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qcompiler.data.dataset import Array, Dataset, InputSpec, Sample
from qcompiler.data.fit import LABEL, as_fed, check_finite
from qcompiler.data.layout import Layout, lay_out
from qcompiler.data.spill import release
from qcompiler.errors import DataError

__all__ = ["ArrayDataset", "open_arrays"]


class ArrayDataset(Dataset):
    """Named arrays that have been laid out as samples; the arrays are kept as they are and each sample is a copy."""

    def __init__(self, arrays: Mapping[str, Array], inputs: Sequence[InputSpec], layout: Layout, where: str) -> None:
        """``arrays`` reach as far as ``layout`` does, at least. DataError where a value to be fed is not finite."""
        labels = None if layout.labels is None else layout.shape_labels(arrays[LABEL])
        super().__init__(f"{where} ({layout.runs} samples)", labels)
        self._layout = layout
        self._arrays: dict[str, Array] = {}
        for spec in inputs:
            array = as_fed(arrays[spec.name], spec)
            cut = layout.cuts[spec.name]
            # One sample at a time: the mask of what is finite stays small beside the array.
            for index in range(1 if cut.rows is None else layout.runs):
                start, stop = index * cut.batch, (index + 1) * cut.batch
                check_finite(spec.name, array if cut.rows is None else array[start:stop], where, first=start)
                release(array)
            self._arrays[spec.name] = array

    def __len__(self) -> int:
        return self._layout.runs

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        cuts = self._layout.cuts
        sample = {name: np.array(cuts[name].take(array, index), order="C") for name, array in self._arrays.items()}
        for array in self._arrays.values():
            release(array)
        return sample


def open_arrays(
    arrays: Mapping[str, object],
    inputs: Sequence[InputSpec],
    *,
    limit: int | None = None,
    batch_size: int | None = None,
    where: str = "the dict of arrays",
) -> ArrayDataset:
    """Samples from a dict of arrays (or of what numpy makes arrays of), by the rule of ``layout``.

    Raises DataError for whatever does not fit the model.
    """
    converted: dict[str, Array] = {}
    for name in arrays:
        try:
            converted[str(name)] = np.asarray(arrays[name])
        except Exception as error:  # the mapping's and the values' own code runs here and raises what it likes
            raise DataError(f"{where}: '{name}' cannot be made an array: {error}", hint="give numpy arrays") from error
    layout = lay_out(converted, inputs, where, limit=limit, batch_size=batch_size)
    return ArrayDataset(converted, inputs, layout, where)
