"""Judging plans in other processes: the float model goes to a worker once, a plan as what is different about it.

A worker gives back the quality of each sample by itself. Added up in the order of samples, that is bit for bit what one
process finds.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from qcompiler.data import Dataset, Sample
from qcompiler.errors import OutputError, QCompilerError
from qcompiler.ir import Model
from qcompiler.lower import Target
from qcompiler.onnx_io import from_lean, from_proto, known_constants, to_lean
from qcompiler.runtime import Runner
from qcompiler.search.quality import Quality
from qcompiler.workers import Pool, Shared

__all__ = ["Judges", "Verdict"]

_CARRIED = 256 << 20  # bytes of samples, and of the float model's outputs, that a worker keeps

Verdict = list[Quality] | str
"""The quality of each sample, or why the model does not run."""


@dataclass(frozen=True)
class _Task:
    """A lowered model, the samples on which it is judged, and those of them that workers do not have."""

    lean: bytes
    indices: tuple[int, ...]
    samples: Mapping[int, Sample]


class Judges:
    """The workers of ``executor``, who know ``model`` and ``samples``. ``model`` has to fit into one protobuf."""

    def __init__(self, executor: Executor, model: Model, target: Target, threads: int, samples: Dataset) -> None:
        self.pool, self.samples = Pool(executor), samples
        elements, self.known = known_constants(model)
        # Numbers are of tensors by identity, which have to live on.
        self.kept = [value.const for graph in model.graphs() for value in graph.constants]
        carried: dict[int, Sample] = {}
        size = 0
        for index, sample in enumerate(samples):
            size += sum(array.nbytes for array in sample.values())
            if size > _CARRIED:
                break
            carried[index] = sample
        self.carried = frozenset(carried)
        told = (elements, to_lean(model, self.known), target, threads, carried)
        self.shared: Shared[_Judge] = Shared(pickle.dumps(told), _opened)

    def each(self, models: Iterable[Model | str], indices: Sequence[int]) -> Iterator[Verdict]:
        """The verdict on each of ``models``, in their order; what is a text instead of a model is its own."""
        return self._run(model if isinstance(model, str) else self._task(model, indices) for model in models)

    def whole(self, model: Model, indices: Sequence[int]) -> Verdict:
        """The verdict on one model, samples shared out among the workers."""
        part = max(1, -(-len(indices) // self.pool.width))
        parts = [indices[start : start + part] for start in range(0, len(indices), part)]
        qualities: list[Quality] = []
        for verdict in self._run(self._task(model, each) for each in parts):
            if isinstance(verdict, str):
                return verdict
            qualities += verdict
        return qualities

    def _task(self, model: Model, indices: Sequence[int]) -> _Task:
        absent = [index for index in indices if index not in self.carried]
        samples = dict(zip(absent, self.samples.walk(absent), strict=True))
        return _Task(to_lean(model, self.known), tuple(indices), samples)

    def _run(self, tasks: Iterable[_Task | str]) -> Iterator[Verdict]:
        return self.pool.run(_work, self.shared, tasks, lambda task: _work(self._own, task))

    @functools.cached_property
    def _own(self) -> _Judge:
        """What does the work of lost workers here."""
        return _opened(self.shared.payload)


@dataclass
class _Judge:
    """In a worker: the float model, and what it gave so far."""

    elements: list[bytes]
    source: Runner
    target: Target
    threads: int
    samples: dict[int, Sample]
    expected: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    room: int = _CARRIED

    def judge(self, task: _Task) -> list[Quality]:
        """The quality of each sample. Raises LoweringError when the model does not run."""
        session = self.target.open(from_proto(from_lean(task.lean, self.elements)), self.threads)
        found = []
        for index in task.indices:
            sample = task.samples[index] if index in task.samples else self.samples[index]
            quality = Quality()
            quality.add(self._expected(index, sample), session.run(sample))
            found.append(quality)
        return found

    def _expected(self, index: int, sample: Sample) -> Mapping[str, Any]:
        if index in self.expected:
            return self.expected[index]
        outputs = self.source.run(sample)
        size = sum(getattr(array, "nbytes", 0) for array in outputs.values())
        if size <= self.room:
            self.room -= size
            self.expected[index] = outputs
        return outputs


def _opened(payload: bytes) -> _Judge:
    elements, lean, target, threads, samples = pickle.loads(payload)
    source = target.open(from_proto(from_lean(lean, elements)), threads)
    return _Judge(elements, source, target, threads, samples)


def _work(judge: _Judge, task: _Task | str) -> Verdict:
    """The verdict on a task; one that is a verdict already keeps its place among the others."""
    if isinstance(task, str):
        return task
    try:
        return judge.judge(task)
    except OutputError:
        raise
    except QCompilerError as error:
        return error.what
