"""The one rule by which named arrays become samples; npz files and dicts of arrays share it.

    rank of the array = rank of the input       axis 0 is rows; a sample is the next b of them (the input's fixed first
                                                axis, else the batch size asked for, else 1); a remainder is dropped
    rank of the array = rank of the input + 1   ``array[i]`` is sample i
    rank 0 for an input of rank 0               given once, fed with every sample

An input of unknown rank takes its array by the first line.

It works on shapes and element types alone, so that a file is judged by its headers before an array is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler.data.dataset import Array, InputSpec
from qcompiler.data.fit import LABEL, HasShape, check_dims, check_names, check_type, takes_labels
from qcompiler.errors import DataError

__all__ = ["Cut", "Layout", "lay_out"]


@dataclass(frozen=True)
class Cut:
    """How one array is cut along axis 0.

    ``batch`` rows make a sample; ``whole`` says that axis 0 is the samples and not the model's own first axis, so a
    sample loses it. ``rows`` is the length of axis 0, None for an array that is fed with every sample.
    """

    rows: int | None
    batch: int = 1
    whole: bool = False

    def take(self, array: Array, index: int) -> Array:
        """Sample ``index`` of ``array``: a view in the rank of the model's input."""
        if self.rows is None:
            return array
        return array[index] if self.whole else array[index * self.batch : (index + 1) * self.batch]

    def rows_for(self, runs: int) -> int | None:
        """How much of axis 0 the first ``runs`` samples need."""
        return None if self.rows is None else runs * self.batch


@dataclass(frozen=True)
class Layout:
    """How a set of arrays becomes ``runs`` samples: a cut for each input, and one for the labels if there are any.

    The labels of samples that are batches of b > 1 rows come as [runs * b, ...] and are handed out as [runs, b, ...].
    """

    runs: int
    cuts: Mapping[str, Cut]
    labels: Cut | None

    def shape_labels(self, labels: Array) -> Array:
        """``labels`` as they were given -> [runs, ...], or [runs, b, ...] where samples are batches of b > 1 rows."""
        assert self.labels is not None
        batch = self.labels.batch
        used = labels[: self.runs * batch]
        return used if batch == 1 else used.reshape(self.runs, batch, *labels.shape[1:])


def lay_out(
    arrays: Mapping[str, HasShape],
    inputs: Sequence[InputSpec],
    where: str,
    *,
    limit: int | None = None,
    batch_size: int | None = None,
) -> Layout:
    """The layout of ``arrays`` (or of their headers), cut to the first ``limit`` samples.

    Raises DataError, naming ``where`` and the array, for: a missing or unknown array, objects, a wrong element type,
    rank or fixed axis, no samples, and arrays or labels that disagree about the number of samples.
    """
    check_names(arrays, inputs, where)
    for name, array in arrays.items():
        if array.dtype.hasobject and all(spec.name != name or spec.dtype.kind != "O" for spec in inputs):
            raise DataError(f"{where}: array '{name}' holds Python objects", hint="save an array of numbers")
    cuts: dict[str, Cut] = {}
    for spec in inputs:
        check_type(spec.name, arrays[spec.name].dtype, spec, where)
        cuts[spec.name] = _cut(spec, arrays[spec.name].shape, where, batch_size)
    runs = _agreed_runs(cuts, where)
    labels = None
    if LABEL in arrays and takes_labels(inputs):
        labels = _cut_labels(arrays[LABEL].shape, runs, cuts, where)
    return Layout(runs if limit is None else min(runs, limit), cuts, labels)


def _cut(spec: InputSpec, shape: tuple[int, ...], where: str, batch_size: int | None) -> Cut:
    rank = len(spec.shape) if spec.shape is not None else len(shape)
    if len(shape) == rank == 0:
        return Cut(rows=None)
    if len(shape) not in (rank, rank + 1):
        either = f"{rank} (samples along axis 0) or {rank + 1} (one whole input per sample)" if rank else "0 or 1"
        raise DataError(
            f"{where}: array '{spec.name}' has rank {len(shape)} (shape {shape}), and the model's input takes {spec}",
            hint=f"save it with rank {either}",
        )
    if shape[0] == 0:
        raise DataError(f"{where}: array '{spec.name}' holds no samples (shape {shape})", hint="save at least one")
    if len(shape) == rank + 1:
        check_dims(spec.name, shape[1:], spec, where, axis_offset=1)
        return Cut(rows=shape[0], whole=True)
    fixed = spec.shape[0] if spec.shape is not None else None
    batch = fixed if isinstance(fixed, int) else batch_size or 1
    if batch == 0 or shape[0] < batch:
        raise DataError(
            f"{where}: array '{spec.name}' has {shape[0]} on axis 0, too few for a batch of {batch}; "
            f"the model's input takes {spec}",
            hint=f"save at least one whole batch, or an array of rank {rank + 1} with one whole input per sample",
        )
    check_dims(spec.name, (batch, *shape[1:]), spec, where)
    return Cut(rows=shape[0], batch=batch)


def _agreed_runs(cuts: Mapping[str, Cut], where: str) -> int:
    """The number of samples that every array gives; 1 where each array is given once."""
    first: tuple[str, Cut, int] | None = None
    for name, cut in cuts.items():
        if cut.rows is None:
            continue
        runs = cut.rows // cut.batch
        if first is None:
            first = name, cut, runs
        elif runs != first[2] or (cut.batch == first[1].batch and cut.rows != first[1].rows):
            raise DataError(
                f"{where}: arrays disagree about the number of samples: '{first[0]}' has {_count(first[1])} and "
                f"'{name}' has {_count(cut)}",
                hint="give every input the same samples",
            )
    return 1 if first is None else first[2]


def _count(cut: Cut) -> str:
    return f"{cut.rows}" if cut.batch == 1 else f"{cut.rows} (in batches of {cut.batch})"


def _cut_labels(shape: tuple[int, ...], runs: int, cuts: Mapping[str, Cut], where: str) -> Cut:
    """The cut of the labels: they go with the rows of the first input, in the model's order, that has rows."""
    cut = next((cut for cut in cuts.values() if cut.rows is not None), Cut(rows=runs))
    if not shape or shape[0] != cut.rows:
        raise DataError(
            f"{where}: '{LABEL}' has shape {shape}, and there are {cut.rows} samples",
            hint="give one label for each sample",
        )
    return Cut(rows=shape[0], batch=cut.batch)
