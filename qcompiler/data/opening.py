"""One door to every kind of data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from qcompiler.data.arrays import open_arrays
from qcompiler.data.callables import CallableDataset, import_callable
from qcompiler.data.dataset import Dataset, InputSpec
from qcompiler.data.images import open_images
from qcompiler.data.npz import open_npz, open_npz_folder
from qcompiler.data.records import RecordDataset, read_records
from qcompiler.data.synthetic import DEFAULT_SAMPLES, RandomDataset
from qcompiler.errors import DataError, UsageError

__all__ = ["DataSpec", "open_dataset"]

DataSpec = (
    str
    | Path
    | Dataset
    | Mapping[str, object]
    | Iterable[Mapping[str, object]]
    | Callable[[], Iterable[Mapping[str, object]]]
)
"""What can be given as data: see ``open_dataset``."""

_FORMS = "give FILE.npz, a folder of .npz files, FILE.toml, MODULE:CALLABLE or random"
_NAMED_CALLABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def open_dataset(
    spec: DataSpec,
    inputs: Sequence[InputSpec],
    *,
    limit: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The samples that ``spec`` names, fit for a model with these ``inputs``.

    ``spec``:
      - the path of an .npz file, or of a folder of them;
      - the path of a .toml file with an ``[images]`` table;
      - ``MODULE:CALLABLE``, or a callable: called without arguments, it yields one dict of arrays for each run;
      - ``"random"``: ``limit`` (or 32) samples drawn from ``seed``;
      - a mapping of arrays, which follows the same rule as an npz file;
      - a sequence of dicts of arrays, one for each run; an iterator of them, which is read into memory; or anything
        else that can be iterated over again and again;
      - a Dataset, which is taken as it is.

    ``limit``: the greatest number of samples, that is of runs; all if None. Images are thinned out evenly, of all else
    the first are taken. ``batch_size``: rows for each sample where the input's first axis is dynamic, 1 if None; where
    the data consists of whole runs it means nothing.

    Raises UsageError where ``spec`` is nothing of the above, and DataError where the samples do not fit the model.
    """
    for name, value, least in (("samples", limit, 1), ("batch size", batch_size, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise UsageError(f"{name} {value} makes no sense", hint=f"give {least} or more")
    if isinstance(spec, str | Path):
        return _open_named(spec, inputs, limit, batch_size, seed)
    if isinstance(spec, Dataset):
        return spec if limit is None or limit >= len(spec) else spec.subset(range(limit))
    if isinstance(spec, Mapping):
        return open_arrays(spec, inputs, limit=limit, batch_size=batch_size)
    if isinstance(spec, Sequence):
        return RecordDataset(spec[:limit], inputs)
    if isinstance(spec, Iterator):
        return RecordDataset(read_records(spec, limit), inputs)
    if isinstance(spec, Iterable):
        return CallableDataset(spec.__iter__, inputs, where=f"the {type(spec).__name__}", limit=limit)
    if callable(spec):
        where = str(getattr(spec, "__qualname__", type(spec).__name__))
        return CallableDataset(spec, inputs, where=where, limit=limit)
    raise UsageError(f"a {type(spec).__name__} is no data", hint=_FORMS)


def _open_named(
    spec: str | Path, inputs: Sequence[InputSpec], limit: int | None, batch_size: int | None, seed: int
) -> Dataset:
    if spec == "random":
        return RandomDataset(inputs, count=limit or DEFAULT_SAMPLES, batch_size=batch_size, seed=seed)
    path = Path(spec)
    if os.path.isdir(spec):  # of the text: no text is no folder, and none is too long to ask about
        return open_npz_folder(path, inputs, limit=limit, batch_size=batch_size)
    if path.suffix == ".toml":
        return open_images(path, inputs, limit=limit, batch_size=batch_size)
    if os.path.isfile(path):
        return open_npz(path, inputs, limit=limit, batch_size=batch_size)
    if _NAMED_CALLABLE.fullmatch(str(spec)):
        return CallableDataset(import_callable(str(spec)), inputs, where=str(spec), limit=limit)
    if path.suffix == ".npz":
        raise DataError(f"{path} does not exist", hint="check the path")
    raise UsageError(f"data '{spec}' is no file, no folder and not MODULE:CALLABLE", hint=_FORMS)
