"""Counting over some of the samples, here or in a worker: counts add up, so that nobody can tell where it was."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from qcompiler.calibrate.histogram import RangeStatistics
from qcompiler.data import Sample
from qcompiler.errors import QCompilerError
from qcompiler.ir import Model
from qcompiler.onnx_io import to_bytes
from qcompiler.runtime import Session
from qcompiler.workers import Pool, Shared

__all__ = ["Counted", "Counter", "count_elsewhere", "rows_of"]

_PART = 16 << 20  # bytes of samples that are sent at once
_MOST = 32  # samples


@dataclass
class Counted:
    """What was counted under each name, over how many samples; how many others did not run, and why one did not."""

    statistics: dict[str, RangeStatistics]
    done: int = 0
    failures: int = 0
    reason: str = ""

    def merge(self, other: Counted) -> None:
        """Add what was counted over other samples."""
        for name, seen in other.statistics.items():
            self.statistics[name].merge(seen)
        self.done += other.done
        self.failures += other.failures
        self.reason = other.reason or self.reason


@dataclass
class Counter:
    """Counts what ``session`` gives under ``names``, or is fed."""

    session: Session
    names: list[str]
    fed: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.fed = {spec.name for spec in self.session.inputs}

    def nothing(self) -> Counted:
        """The sum to begin with."""
        return Counted({name: RangeStatistics() for name in self.names})

    def count(self, samples: Sequence[Sample], by_row: bool) -> Counted:
        """Run ``samples``, with ``by_row`` one row at a time. One that fails in any row counts for nothing more."""
        found = self.nothing()
        inner = [name for name in self.names if name not in self.fed]
        for sample in samples:
            try:
                for row in rows_of(sample) if by_row else (sample,):
                    outputs = self.session.run(row, inner)
                    for name in self.names:
                        array = row.get(name) if name in self.fed else outputs[name]
                        if array is not None:
                            found.statistics[name].update(np.asarray(array))
            except QCompilerError as error:
                found.failures, found.reason = found.failures + 1, error.what
                continue
            found.done += 1
        return found


def rows_of(sample: Sample) -> Iterator[Sample]:
    """``sample`` in runs of one row, when its inputs agree on how many there are."""
    counts = {len(array) for array in sample.values()}
    if len(counts) != 1:
        yield sample
        return
    for index in range(counts.pop()):
        yield {name: array[index : index + 1] for name, array in sample.items()}


def count_elsewhere(
    model: Model,
    counter: Counter,
    samples: Iterable[tuple[list[Sample], bool]],
    executor: Executor,
    progress: Callable[[int], None],
) -> Counted:
    """The sum over ``samples`` of what workers of ``executor`` count; a part that is lost with its worker is counted
    here. At most two parts a worker wait at any time. ``model`` has to fit into one protobuf."""
    total = counter.nothing()
    shared = Shared(pickle.dumps((to_bytes(model), counter.session.threads, counter.names)), _opened)
    for found in Pool(executor).run(_work, shared, _parts(samples), lambda part: counter.count(*part)):
        total.merge(found)
        progress(total.done)
    return total


def _parts(samples: Iterable[tuple[list[Sample], bool]]) -> Iterator[tuple[list[Sample], bool]]:
    """Samples in runs that are worth sending and small enough to keep."""
    part: list[Sample] = []
    size, rows = 0, False
    for more, by_row in samples:
        bytes_ = sum(array.nbytes for sample in more for array in sample.values())
        if part and (by_row != rows or size + bytes_ > _PART or len(part) >= _MOST):
            yield part, rows
            part, size = [], 0
        part, size, rows = part + more, size + bytes_, by_row
    if part:
        yield part, rows


def _opened(payload: bytes) -> Counter:
    """In a worker: what counts."""
    model, threads, names = pickle.loads(payload)
    return Counter(Session(model, threads=threads), names)


def _work(counter: Counter, part: tuple[list[Sample], bool]) -> Counted:
    """In a worker: count one part."""
    return counter.count(*part)
