"""Samples that the user's own code yields, one dict of arrays for each run of the model.

The code is called again for every walk through the data, since samples are needed several times and may be too many to
keep: it must yield the same samples each time. A first walk counts and checks them; an endless generator needs a limit.
Only a place in the stream and the sample there are kept. Going on is cheap, going back starts the code anew.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from qcompiler.data.dataset import Array, Dataset, InputSpec, Sample
from qcompiler.data.fit import check_sample, listing, stack_labels
from qcompiler.errors import DataError, UsageError

__all__ = ["CallableDataset", "import_callable"]


class CallableDataset(Dataset):
    """The samples that ``source()`` yields, counted once and then generated again whenever they are needed."""

    def __init__(
        self,
        source: Callable[[], Iterable[object]],
        inputs: Sequence[InputSpec],
        *,
        where: str,
        limit: int | None = None,
    ) -> None:
        """Walks through the first ``limit`` samples. DataError where ``source`` raises or a sample does not fit."""
        self._source = source
        self._inputs = tuple(inputs)
        self._where = where
        labels: list[Array | None] = [label for _, label in itertools.islice(self._generate(), limit)]
        if not labels:
            raise DataError(f"{where} yielded no samples", hint="yield at least one dict of arrays")
        self._count = len(labels)
        super().__init__(f"{where} ({self._count} samples)", stack_labels(labels, where))
        self._lock = Lock()
        self._cursor = _Cursor(self)

    def __len__(self) -> int:
        return self._count

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        with self._lock:
            return {name: array.copy() for name, array in self._cursor.move_to(index).items()}

    def walk(self, indices: Sequence[int]) -> Iterator[Sample]:
        # A walk has a cursor of its own, so that two of them do not send each other back to the start.
        cursor = _Cursor(self)
        for index in indices:
            self._check_index(index)
            yield {name: array.copy() for name, array in cursor.move_to(index).items()}

    def _generate(self) -> Iterator[tuple[Sample, Array | None]]:
        """Call the source and check what it yields, one sample at a time."""
        try:
            stream = iter(self._source())
        except Exception as error:  # the user's code may raise anything
            raise self._raised(error) from error
        for index in itertools.count():
            try:
                item = next(stream)
            except StopIteration:
                return
            except Exception as error:  # as above
                raise self._raised(error) from error
            yield check_sample(item, self._inputs, f"sample {index} of {self._where}")

    def _raised(self, error: Exception) -> DataError:
        return DataError(
            f"{self._where} raised {type(error).__name__}: {error}",
            hint="it is called without arguments and yields dicts of arrays",
        )

    def __getstate__(self) -> dict[str, Any]:
        # A lock and a running generator cannot be sent to another process; it starts from the beginning there.
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_cursor")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = Lock()
        self._cursor = _Cursor(self)


class _Cursor:
    """A place in the stream of samples, and the sample there."""

    def __init__(self, dataset: CallableDataset) -> None:
        self._dataset = dataset
        self._restart()

    def _restart(self) -> None:
        self._stream = self._dataset._generate()
        self._index = -1
        self._here: Sample = {}

    def move_to(self, index: int) -> Sample:
        """Sample ``index``. DataError where the source gives fewer samples than it once did."""
        if index < self._index:
            self._restart()
        while self._index < index:
            try:
                following = next(self._stream, None)
            except DataError:
                self._restart()  # a generator that has raised is over; who asks again is told again
                raise
            if following is None:
                given = self._index + 1
                self._restart()
                raise DataError(
                    f"{self._dataset._where} yielded {len(self._dataset)} samples at first, {given} when called again",
                    hint="let each call start over and yield the same samples",
                )
            self._index += 1
            self._here = following[0]
        return self._here


def import_callable(spec: str) -> Callable[[], Iterable[object]]:
    """``MODULE:CALLABLE`` -> the callable; MODULE is sought in the current directory too.

    Raises UsageError where there is no such module or callable, and DataError where the module fails to import.
    """
    module_name, _, attribute = spec.partition(":")
    importlib.invalidate_caches()
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # the module's own code runs here and may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"data {spec!r}: there is no module '{error.name}' here or among what is installed",
                hint="run where the module lies, or install it",
            ) from error
        raise DataError(
            f"data {spec!r}: importing {module_name} raised {type(error).__name__}: {error}", hint="mend the module"
        ) from error
    finally:
        with suppress(ValueError):  # the module may have taken it out itself
            sys.path.remove(here)
    for name in attribute.split("."):
        if not hasattr(found, name):
            offered = [one for one in dir(found) if not one.startswith("_") and callable(getattr(found, one, None))]
            raise UsageError(f"data {spec!r}: {module_name} has no '{attribute}'", hint=f"it has {listing(offered)}")
        found = getattr(found, name)
    if not callable(found):
        raise UsageError(
            f"data {spec!r} is a {type(found).__name__}, which cannot be called",
            hint="name a function that yields dicts of arrays",
        )
    source: Callable[[], Iterable[object]] = found
    return source
