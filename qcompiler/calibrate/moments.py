"""Second moments of what layers read: all that least squares on their outputs needs, whatever the number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.calibrate.exposing import with_outputs
from qcompiler.calibrate.patches import key_of, vectors
from qcompiler.data import Sample
from qcompiler.errors import CalibrationError, QCompilerError
from qcompiler.ir import Model, Node
from qcompiler.onnx_io import open_session

__all__ = ["Moments", "second_moments"]

Array = np.ndarray[Any, np.dtype[Any]]

_BYTES = 512 << 20  # of moments that are summed up in one walk over the samples


@dataclass
class Moments:
    """Sums over the vectors x that a layer multiplies: ``second`` x x^T, ``first`` x, and how many, ``count``.

    float64 [groups, inner, inner] and [groups, inner]; ``largest`` are magnitudes, [groups, inner]. For a convolution
    x is a patch, channel by channel, and there is one matrix for each of its groups; for a matrix product x is a row,
    and there is one.
    """

    second: Array
    first: Array
    largest: Array
    count: int = 0


def second_moments(
    model: Model,
    nodes: Sequence[Node],
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[Node, Moments]:
    """Moments of the first input of ``nodes``: Conv in one or two dimensions, Gemm and MatMul with constant weights.

    Layers that read the same in the same way share one. Of a convolution at most 64 patches a sample are looked at,
    spread evenly. What is not finite is left out. Layers of another kind, or of more than 8192 inner elements, are not
    in the result, nor those of loops that give another shape in each turn. Where the sums of all layers would take more
    than 512 MiB, ``samples`` are walked several times. Raises CalibrationError when no sample runs.
    """
    keys: dict[tuple[Any, ...], list[Node]] = {}
    for node in nodes:
        key = key_of(node)
        if key is not None:
            keys.setdefault(key, []).append(node)
    found: dict[Node, Moments] = {}
    done = 0
    for part in _parts(list(keys)):
        sums = {key: _nothing(key[1], key[2]) for key in part}
        exposed, names = with_outputs(model, list(dict.fromkeys(key[0] for key in part)))
        session = open_session(exposed, threads=threads)
        fed = {spec.name for spec in session.inputs}
        wanted = [name for name in dict.fromkeys(names.values()) if name not in fed]
        ran, reason = 0, ""
        for sample in samples:
            try:
                outputs = session.run(sample, wanted)
            except QCompilerError as error:
                reason = error.what
                continue
            ran += 1
            done += 1
            progress(done)
            for key in part:
                name = names[key[0]]
                _add(sums[key], vectors(np.asarray(sample[name] if name in fed else outputs[name]), key))
        if not ran and any(key[0].home is not model.graph for key in part):
            outer = [node for key in part if key[0].home is model.graph for node in keys[key]]
            found |= second_moments(model, outer, samples, threads=threads, progress=progress) if outer else {}
            continue
        if not ran:
            raise CalibrationError(f"no sample runs: {reason}" if reason else "there are no samples")
        found |= {node: sums[key] for key in part for node in keys[key]}
    return found


def _nothing(groups: int, inner: int) -> Moments:
    return Moments(np.zeros((groups, inner, inner)), np.zeros((groups, inner)), np.zeros((groups, inner)))


def _parts(keys: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """``keys`` in runs whose sums fit into the budget, or that are one alone."""
    part: list[tuple[Any, ...]] = []
    size = 0
    for key in keys:
        bytes_ = key[1] * key[2] ** 2 * 8
        if part and size + bytes_ > _BYTES:
            yield part
            part, size = [], 0
        part.append(key)
        size += bytes_
    if part:
        yield part


def _add(moments: Moments, rows: Array) -> None:
    usable = np.isfinite(rows).all(axis=(0, 2))
    rows = rows if usable.all() else rows[:, usable]
    moments.second += np.matmul(rows.transpose(0, 2, 1), rows)
    moments.first += rows.sum(axis=1, dtype=np.float64)
    moments.largest = np.maximum(moments.largest, np.abs(rows).max(axis=1, initial=0.0))
    moments.count += rows.shape[1]
