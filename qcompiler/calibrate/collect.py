"""One run of the model per sample serves every observer.

Samples run one at a time: then the numbers cannot depend on how the caller cut batches, and memory is that of one
run with its inner tensors, whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from qcompiler.calibrate.histogram import RangeStatistics
from qcompiler.data import InputSpec, Sample
from qcompiler.errors import CalibrationError, QCompilerError
from qcompiler.ir import Model, Value, clone_model
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session

__all__ = ["collect", "with_outputs"]


def collect(
    model: Model,
    values: Sequence[Value],
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[Value, RangeStatistics]:
    """Statistics of ``values``, float tensors of the main graph, over ``samples``.

    ``progress`` is told how many samples are done. Raises CalibrationError when no sample runs.
    """
    derived = _derived(values)
    watched = [value for value in values if value not in derived]
    exposed, names = with_outputs(model, watched)
    session = open_session(exposed, threads=threads)
    found = {value: RangeStatistics() for value in watched}
    wanted = list(dict.fromkeys(names.values()))
    fed = {spec.name for spec in session.inputs}
    inner = [name for name in wanted if name not in fed]
    done, failures, reason = 0, 0, ""
    batched, tried = _is_batched(session.inputs), False
    for sample in samples:
        try:
            if batched and not tried and len(next(iter(sample.values()))) > 1:
                batched, tried = _splits(session, sample), True
            for row in _rows(sample) if batched else (sample,):
                outputs = session.run(row, inner)
                for value, name in names.items():
                    array = row.get(name) if name in fed else outputs[name]
                    if array is not None:
                        found[value].update(np.asarray(array))
        except QCompilerError as error:
            failures, reason = failures + 1, error.what
            continue
        done += 1
        progress(done)
    if not done:
        raise CalibrationError(f"none of {failures} samples runs: {reason}" if failures else "there are no samples")
    for value, parts in derived.items():
        found[value] = RangeStatistics()
        for part in parts:
            found[value].merge(found[part])
    return {value: found[value] for value in values}


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
            there = [part for part in parts if part is not None and part in known]
            if len(there) == len(parts):
                found[node.output] = there
    return found


def _is_batched(inputs: Sequence[InputSpec]) -> bool:
    """True when the first axis of every input is the same symbolic size, so that its rows are samples."""
    sizes = {spec.shape[0] if spec.shape else None for spec in inputs}
    return len(sizes) == 1 and isinstance(next(iter(sizes)), str)


def _splits(session: Session, sample: Sample) -> bool:
    """True when the rows of ``sample`` are samples of their own: one by one they give what they give together."""
    rows = list(_rows(sample))
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


def _rows(sample: Sample) -> Iterator[Sample]:
    """``sample`` in runs of one row, when its inputs agree on how many there are."""
    counts = {len(array) for array in sample.values()}
    if len(counts) != 1:
        yield sample
        return
    for index in range(counts.pop()):
        yield {name: array[index : index + 1] for name, array in sample.items()}


def with_outputs(model: Model, values: Iterable[Value]) -> tuple[Model, dict[Value, str]]:
    """A copy of ``model`` that also gives ``values`` as outputs, and the name under which each is found.

    A graph input keeps its name and is not given again: whoever feeds it knows it.
    """
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    taken = {value.name for graph in copy.graphs() for node in graph for value in node.outputs}
    taken |= {value.name for value in (*copy.graph.inputs, *copy.graph.constants)}
    names: dict[Value, str] = {}
    seen: set[str] = {value.name for value in copy.graph.outputs}
    for value in values:
        twin = mapping[value]
        if not twin.is_input and not twin.output_uses:
            if not twin.name or twin.name in seen:
                twin.name = f"observed_{len(names)}"
                while twin.name in taken:
                    twin.name += "_"
            copy.graph.add_output(twin)
        seen.add(twin.name)
        names[value] = twin.name
    return copy, names
