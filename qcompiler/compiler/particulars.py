"""What the report shows beside the figures: time by operator, energy, weights as they are stored, graphs of nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from qcompiler.compiler.job import Job
from qcompiler.errors import QCompilerError
from qcompiler.ir import Model, Node
from qcompiler.lower import HALVES, Form, Group
from qcompiler.report import MOST_IN_A_ROW, MOST_PICTURES, STEPS
from qcompiler.runtime import measured_energy
from qcompiler.search import operator_times

__all__ = ["energy_record", "graph_record", "times_record", "weight_records"]

_STRETCHES = 32  # of a histogram
_LARGEST = 1 << 22  # elements of a weight whose error is worked out

Array = np.ndarray[Any, np.dtype[Any]]


def times_record(job: Job, model: Model) -> dict[str, Any]:
    """``time_by_op``: microseconds of a run by operator, as the runtime ran them, in the source and in ``model``."""
    first = next(iter(job.scoring))
    try:
        found = [operator_times(job.target, each, first, threads=job.threads) for each in (job.origin, model)]
    except (OSError, ValueError, QCompilerError):
        # A profile is a file, and whoever writes the result will say that the disk is full. A target that tells no
        # times by itself may not run in the onnxruntime that is here.
        return {}
    return {"time_by_op": dict(zip(("source", "compiled"), found, strict=True))}


def energy_record(job: Job, model: Model) -> dict[str, Any]:
    """``energy``: joules of a run of the source and of ``model``, or why they were not measured."""
    if not job.target.timed_here:
        return {"energy": _joules(None, "", "what the target runs on is not here")}
    sessions = (job.target.open(each, job.threads) for each in (job.origin, model))
    found = measured_energy(sessions, [next(iter(job.scoring))] * 2, on_card=job.target.on_card)
    return {"energy": _joules(found.joules, found.counter, found.reason)}


def _joules(joules: tuple[float, ...] | None, counter: str, reason: str) -> dict[str, Any]:
    source, compiled = joules or (None, None)
    return {"source_j": source, "compiled_j": compiled, "counter": counter or None, "reason": reason or None}


def weight_records(plan: Mapping[Group, Form]) -> list[dict[str, Any]]:
    """``weights``: those of quantized groups, as they were (least, largest, histogram) and as they are stored."""
    found = []
    for group, form in plan.items():
        held = group.weight.constant if group.weight is not None else None
        if group.weight is None or held is None or not held.size:
            continue
        array = held.numpy().astype(np.float32)
        low, high = float(array.min()), float(array.max())
        counts = np.histogram(array, _STRETCHES, (low, high) if high > low else (low - 0.5, low + 0.5))[0]
        found.append({
            "name": group.weight.name,
            "node": group.name,
            "dtype": form.weight.dtype.name.lower(),
            "elements": int(array.size),
            "low": low,
            "high": high,
            "histogram": [int(count) for count in counts],
            **_stored(array, form),
        })  # fmt: skip
    return found


def _stored(array: Array, form: Form) -> dict[str, Any]:
    """How many scales there are, how many different numbers stand for the elements, from where to where, and dB."""
    nothing = dict.fromkeys(("scales", "levels", "stored_low", "stored_high", "sqnr_db"))
    if array.size > _LARGEST:
        return nothing
    levels, scale, zero_point = form.levels(array)
    restored = _restored(np.asarray(levels), np.asarray(scale), np.asarray(zero_point), form)
    if restored is None:
        return nothing
    error = float(np.square(array.astype(np.float64) - restored).sum())
    signal = float(np.square(array.astype(np.float64)).sum())
    return {
        "scales": int(np.size(scale)),
        "levels": len(np.unique(np.asarray(levels).astype(np.float32))),
        "stored_low": float(restored.min()),
        "stored_high": float(restored.max()),
        "sqnr_db": 10 * float(np.log10(signal / error)) if error > 0 and signal > 0 else None,
    }


def _restored(levels: Array, scale: Array, zero_point: Array, form: Form) -> Array | None:
    """What the stored numbers stand for; None where they are not of the weight's shape."""
    spec, real = form.weight, levels.astype(np.float32)
    if spec.dtype in HALVES:
        return real
    scale, zero = scale.astype(np.float32), zero_point.astype(np.float32)
    if spec.axis is not None and spec.block is not None:
        size = real.shape[spec.axis]
        scale, zero = (np.repeat(each, spec.block, spec.axis).take(range(size), spec.axis) for each in (scale, zero))
    elif spec.axis is not None:
        shape = [1] * real.ndim
        shape[spec.axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    try:
        found: Array = (real - zero) * scale
    except ValueError:
        return None
    return found


def graph_record(source: Model, compiled: Model, names: Iterable[str]) -> dict[str, Any]:
    """``graph``: what stands around the first of ``names``, in both models, each node's inputs by places in the list.

    Of a node with many neighbours some are taken; ``feeders`` and ``readers`` say how many there are. Linear in the
    nodes, and the record is bounded.
    """
    wanted = list(itertools.islice(dict.fromkeys(names), MOST_PICTURES))
    return {"graph": {"source": _around(source, wanted), "compiled": _around(compiled, wanted), "named": wanted}}


def _around(model: Model, names: list[str]) -> list[dict[str, Any]]:
    nodes = list(model.graph)
    places = {node: place for place, node in enumerate(nodes)}
    by_name = {_label(node): node for node in nodes}
    kept = dict.fromkeys(by_name[name] for name in names if name in by_name)
    for centre in list(kept):
        for near in (_feeders, _readers):
            row = [centre]
            for _ in range(STEPS):
                found = dict.fromkeys(each for node in row for each in near(node) if each in places)
                row = list(itertools.islice(found, MOST_IN_A_ROW))
                kept |= dict.fromkeys(row)
    order = sorted(kept, key=places.__getitem__)
    index = {node: place for place, node in enumerate(order)}
    return [
        {
            "name": _label(node),
            "op": node.op_type,
            "inputs": [index[each] for each in _feeders(node) if each in index],
            "feeders": sum(1 for each in _feeders(node) if each in places),
            "readers": sum(1 for each in _readers(node) if each in places),
        }
        for node in order
    ]


def _feeders(node: Node) -> list[Node]:
    made = (value.producer for value in node.inputs if value is not None)
    return list(dict.fromkeys(each for each in made if each is not None))


def _readers(node: Node) -> list[Node]:
    return list(dict.fromkeys(user for value in node.outputs for user in value.users()))


def _label(node: Node) -> str:
    return node.name or next((value.name for value in node.outputs if value.name), node.op_type)
