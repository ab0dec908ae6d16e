"""Samples from npz files: one file, or a folder of them of which one at a time is in memory.

A file is judged by the headers of its arrays first. Then only what the asked-for samples need is read, straight from
the archive: a hundred samples of a file of many gigabytes cost a hundred samples.
"""

from __future__ import annotations

import bisect
import math
import mmap
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.data.arrays import ArrayDataset
from qcompiler.data.dataset import Array, Dataset, InputSpec, Sample
from qcompiler.data.fit import LABEL
from qcompiler.data.layout import Layout, lay_out
from qcompiler.data.spill import IN_MEMORY, allocate, release
from qcompiler.errors import DataError

__all__ = ["ArrayHeader", "NpzDataset", "open_npz", "open_npz_folder", "read_array", "read_headers"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ArrayHeader:
    """What a file says of an array before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """Name -> header of every array in the file; no values are read. DataError where it is not an npz file."""
    with _archive(path) as archive:
        return {member.removesuffix(".npy"): _read_header(archive, member) for member in archive.namelist()}


def read_array(path: Path, name: str, rows: int | None = None) -> Array:
    """Array ``name`` of the file, or its first ``rows`` along axis 0. DataError where the file is damaged."""
    with _archive(path) as archive, archive.open(f"{name}.npy") as stream:
        header = _parse_header(stream)
        # Rows are contiguous in C order only; in Fortran order the whole array is read to cut them.
        shape = header.shape if rows is None or header.fortran_order else (rows, *header.shape[1:])
        size = math.prod(shape) * header.dtype.itemsize
        if size > archive.getinfo(f"{name}.npy").file_size:
            raise EOFError(f"'{name}' is shorter than its shape {header.shape} says")
        data = allocate(size)  # filled piece by piece, so that the file's bytes are never in memory twice
        for start in range(0, size, _CHUNK):
            stop = min(start + _CHUNK, size)
            piece = stream.read(stop - start)
            if len(piece) < stop - start:
                raise EOFError(f"'{name}' ends after {start + len(piece)} of {size} bytes")
            data[start:stop] = piece
            if stop % IN_MEMORY == 0 and isinstance(data, mmap.mmap):
                data.madvise(mmap.MADV_DONTNEED)  # what is written stays in the file
        array: Array = np.ndarray(shape, header.dtype, buffer=data, order="F" if header.fortran_order else "C")
        release(array)
        return array if rows is None else array[:rows]


class NpzDataset(Dataset):
    """The samples of npz files, one after the other; the arrays of the file last used are kept, and no others."""

    def __init__(self, parts: Sequence[tuple[Path, Layout]], inputs: Sequence[InputSpec], where: str) -> None:
        """``parts``: files, and what their headers gave. DataError where labels are damaged or differ."""
        self._parts = list(parts)
        self._inputs = tuple(inputs)
        self._ends = np.cumsum([layout.runs for _, layout in self._parts]).tolist()
        self._current: tuple[int, ArrayDataset] | None = None
        super().__init__(f"{where} ({self._ends[-1]} samples)", self._read_labels(where))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        part = bisect.bisect_right(self._ends, index)
        return self.load(part).sample(index - (self._ends[part - 1] if part else 0))

    def load(self, part: int) -> ArrayDataset:
        """File number ``part``, in memory. DataError where it is damaged or holds a value that is not finite."""
        current = self._current
        if current is None or current[0] != part:
            self._current = current = None  # let go of one file before the next is read
            path, layout = self._parts[part]
            names = [spec.name for spec in self._inputs]
            arrays = {name: read_array(path, name, layout.cuts[name].rows_for(layout.runs)) for name in names}
            unlabelled = replace(layout, labels=None)  # the labels of all files are in memory already
            self._current = current = (part, ArrayDataset(arrays, self._inputs, unlabelled, str(path)))
        return current[1]

    def _read_labels(self, where: str) -> Array | None:
        labelled = [layout.labels is not None for _, layout in self._parts]
        if not any(labelled):
            return None
        if not all(labelled):
            path = self._parts[labelled.index(False)][0]
            raise DataError(f"{path} has no '{LABEL}', other files in {where} have", hint="label all files or none")
        labels = [layout.shape_labels(read_array(path, LABEL)) for path, layout in self._parts]
        for (path, _), some in zip(self._parts, labels, strict=True):
            if some.shape[1:] != labels[0].shape[1:]:
                raise DataError(
                    f"{path}: '{LABEL}' has shape {some.shape[1:]} per sample, in {self._parts[0][0]} it is "
                    f"{labels[0].shape[1:]}",
                    hint="give every sample a label of one shape",
                )
        return np.concatenate(labels)


def open_npz(
    path: Path, inputs: Sequence[InputSpec], *, limit: int | None = None, batch_size: int | None = None
) -> NpzDataset:
    """The samples of one npz file. Its arrays are read and checked now: DataError where they do not fit."""
    layout = lay_out(read_headers(path), inputs, str(path), limit=limit, batch_size=batch_size)
    dataset = NpzDataset([(path, layout)], inputs, str(path))
    dataset.load(0)
    return dataset


def open_npz_folder(
    folder: Path, inputs: Sequence[InputSpec], *, limit: int | None = None, batch_size: int | None = None
) -> NpzDataset:
    """The samples of every npz file in ``folder``, in the order of the file names.

    The headers of all files (up to ``limit`` samples) are checked now, values when their file's turn comes. DataError
    for whatever does not fit the model.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".npz")
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}", hint="check its permissions") from error
    if not paths:
        raise DataError(
            f"{folder} holds no .npz file",
            hint="save samples with numpy.savez, or describe a folder of images in a .toml file",
        )
    parts: list[tuple[Path, Layout]] = []
    left = limit
    for path in paths:
        layout = lay_out(read_headers(path), inputs, str(path), limit=left, batch_size=batch_size)
        parts.append((path, layout))
        if left is not None:
            left -= layout.runs
            if left == 0:
                break
    return NpzDataset(parts, inputs, str(folder))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file as a zip archive; whatever goes wrong while it is read becomes a DataError that names it."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                lone_array = stream.read(6) == np.lib.format.MAGIC_PREFIX
            raise DataError(
                f"{path} is {'a single .npy array' if lone_array else 'not an npz file, or one that was cut short'}",
                hint="save samples with numpy.savez(path, INPUT=array), a name for each of the model's inputs",
            )
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", hint="check the path") from error
    except DataError:
        raise
    except Exception as error:  # on damaged bytes zipfile, its decoders and numpy raise a dozen unrelated types
        raise DataError(
            f"{path} is damaged or cannot be read ({type(error).__name__}: {error})",
            hint="save it again with numpy.savez",
        ) from error


def _read_header(archive: zipfile.ZipFile, member: str) -> ArrayHeader:
    if not member.endswith(".npy"):
        raise ValueError(f"'{member}' is not an array")
    with archive.open(member) as stream:
        return _parse_header(stream)


def _parse_header(stream: Any) -> ArrayHeader:
    """Read the header of the npy format (numpy.lib.format) and leave ``stream`` at the first value."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"version {version} of the npy format is not for plain arrays")
    shape, fortran_order, dtype = readers[version](stream)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} is negative")
    return ArrayHeader(shape, dtype, fortran_order)
