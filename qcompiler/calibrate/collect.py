"""One run of the model per sample serves every observer.

Samples run one at a time: then the numbers cannot depend on how the caller cut batches, and memory is that of one
run with its inner tensors, whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from qcompiler.calibrate.counting import Counter, count_elsewhere, rows_of
from qcompiler.calibrate.exposing import with_outputs
from qcompiler.calibrate.histogram import RangeStatistics
from qcompiler.data import InputSpec, Sample
from qcompiler.errors import CalibrationError, QCompilerError
from qcompiler.ir import Model, Value
from qcompiler.onnx_io import needs_external_data, open_session
from qcompiler.runtime import Session

__all__ = ["collect", "cut"]


def collect(
    model: Model,
    values: Sequence[Value],
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    executor: Executor | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[Value, RangeStatistics]:
    """Statistics of ``values``, float tensors, over ``samples``: bit for bit the same for any batches, order, workers.

    ``executor`` counts parts of the samples elsewhere; None counts here. What its workers lose is counted here.
    Where no sample runs with the values of subgraphs observed, these stay empty. ``progress`` is told how many samples
    are done. Raises CalibrationError when no sample runs.
    """
    try:
        return _collect(model, values, samples, threads, executor, progress)
    except CalibrationError:
        outer = [value for value in values if value.home is model.graph]
        if len(outer) == len(values):
            raise
        # What a loop gives has to be of one shape in all turns; the rest of the model is not to suffer from it.
        found = _collect(model, outer, samples, threads, executor, progress)
        return {value: found.get(value) or RangeStatistics() for value in values}


def _collect(
    model: Model,
    values: Sequence[Value],
    samples: Iterable[Sample],
    threads: int,
    executor: Executor | None,
    progress: Callable[[int], None],
) -> dict[Value, RangeStatistics]:
    derived = _derived(values)
    watched = [value for value in values if value not in derived]
    exposed, names = with_outputs(model, watched)
    session = open_session(exposed, threads=threads)
    counter = Counter(session, list(dict.fromkeys(names.values())))
    parts = cut(session, samples)
    if executor is None or needs_external_data(exposed):  # more than fits into one message
        total = counter.nothing()
        for part, by_row in parts:
            total.merge(counter.count(part, by_row))
            progress(total.done)
    else:
        total = count_elsewhere(exposed, counter, parts, executor, progress)
    if not total.done:
        failed = f"none of {total.failures} samples runs: {total.reason}"
        raise CalibrationError(failed if total.failures else "there are no samples")
    found = {value: total.statistics[names[value]] for value in watched}
    for value, joined in derived.items():
        found[value] = RangeStatistics()
        for one in joined:
            found[value].join(found[one])
    return {value: found[value] for value in values}


def cut(session: Session, samples: Iterable[Sample]) -> Iterator[tuple[list[Sample], bool]]:
    """One sample at a time, and whether its rows are samples of their own."""
    batched, tried = _is_batched(session.inputs), False
    for sample in samples:
        if batched and not tried and len(next(iter(sample.values()))) > 1:
            batched, tried = _splits(session, sample), True
        yield [sample], batched


def _derived(values: Sequence[Value]) -> dict[Value, list[Value]]:
    """Those of ``values`` that hold the elements of others among them and no more, with those, in an order that works.

    What only moves or joins elements need not be counted again.
    """
    known = set(values)
    found: dict[Value, list[Value]] = {}
    producers = {value.producer for value in values if value.producer is not None}
    for node in sorted(producers, key=lambda node: node.order):
        parts = list(node.inputs) if node.is_op("Concat") else [node.input(0)]
        moves = node.is_op("Concat", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity")
        if moves and not node.domain and node.output in known:
            there = [part for part in parts if part is not None and part in known and part.home is node.graph]
            if len(there) == len(parts):
                found[node.output] = there
    return found


def _is_batched(inputs: Sequence[InputSpec]) -> bool:
    """True when the first axis of every input is the same symbolic size, so that its rows are samples."""
    sizes = {spec.shape[0] if spec.shape else None for spec in inputs}
    return len(sizes) == 1 and isinstance(next(iter(sizes)), str)


def _splits(session: Session, sample: Sample) -> bool:
    """True when the rows of ``sample`` are samples of their own: one by one they give what they give together."""
    rows = list(rows_of(sample))
    if len(rows) == 1:
        return True
    try:
        whole, first = session.run(sample), session.run(rows[0])
    except QCompilerError:
        return False
    for name, array in whole.items():
        if np.ndim(array) == 0 or len(array) != len(rows) or np.shape(array[:1]) != np.shape(first[name]):
            return False
        if not np.allclose(array[:1], first[name], rtol=1e-3, atol=1e-5, equal_nan=True):
            return False
    return True
