"""Where the time goes: microseconds of each group, in the float model and in the integer one, as onnxruntime ran it."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcompiler.ir import Model
from qcompiler.lower import INTEGER_OPS, Group, Target
from qcompiler.lower import optimized_nodes as read_nodes
from qcompiler.onnx_io import open_session

__all__ = ["GroupTimes", "estimated", "group_times", "operator_times", "profile_groups"]

_TICK = 1e-6  # seconds
_LONG = 2.0  # seconds that a profile takes at most
_SUFFIXES = ("", "_nchwc", "/MatMulAddFusion")  # what onnxruntime's layout and fusion passes add to a name

GroupTimes = dict[Group, tuple[str, float]]
"""For each group that could be found again: the operator that it became, and microseconds a run."""


def operator_times(
    target: Target, model: Model, feeds: Mapping[str, Any], *, runs: int = 10, threads: int = 1
) -> dict[str, float]:
    """Microseconds of a run by operator type, the longest first: measured, or as the target estimates them."""
    seconds = target.estimated(model)
    times: dict[str, float] = defaultdict(float)
    if seconds is not None:
        for node in model.graph:
            times[target.runs_as(node)] += 1e6 * seconds.get(node.name, 0.0)
    else:
        with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
            session = open_session(model, threads=threads, profile_to=Path(folder) / "profile")
            end = time.perf_counter() + _LONG
            done = 0
            while done < runs and (not done or time.perf_counter() < end):
                session.run(feeds)
                done += 1
            for kind, taken in _by_node(session.node_times()).values():
                times[kind] += _least(taken, done)
    return dict(sorted(((kind, time) for kind, time in times.items() if time), key=lambda pair: -pair[1]))


def _by_node(measured: list[tuple[str, str, float]]) -> dict[str, tuple[str, list[float]]]:
    """Operator and every time of each node, by name."""
    found: dict[str, tuple[str, list[float]]] = {}
    for name, kind, microseconds in measured:
        found.setdefault(name, (kind, []))[1].append(microseconds)
    return found


def profile_groups(
    model: Model, groups: Sequence[Group], feeds: Mapping[str, Any], *, runs: int = 10, threads: int = 1
) -> tuple[GroupTimes, float]:
    """Times of ``groups`` in ``model``, and of all nodes together, the least of ``runs``.

    onnxruntime renames what it fuses. An integer op is found by its weights, a float one by its node's name, which
    gains a suffix at most. A group that cannot be found is left out.
    """
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
        path = Path(folder) / "optimized.onnx"
        session = open_session(model, threads=threads, optimized_to=path, profile_to=Path(folder) / "profile")
        nodes = read_nodes(path)
        for _ in range(runs):
            session.run(feeds)
        samples = _by_node(session.node_times())
    times = {name: _least(taken, runs) for name, (_, taken) in samples.items()}
    by_weight = {weight: node for node in nodes if node.op_type in INTEGER_OPS for weight in node.inputs}
    by_name = {node.name: node for node in nodes}
    shared = Counter(group.weight for group in groups)  # one weight does not tell its users apart
    found: GroupTimes = {}
    for group in groups:
        alone = group.weight is not None and shared[group.weight] == 1
        node = by_weight.get(f"{group.weight.name}_quantized") if alone and group.weight is not None else None
        if node is None:
            stems = (group.anchor.name, group.output.name, group.anchor.output.name)
            node = next((by_name[stem + end] for stem in stems for end in _SUFFIXES if stem + end in by_name), None)
        if node is not None and node.name in times:
            found[group] = (node.op_type, times[node.name])
    return found, sum(times.values())


def group_times(
    target: Target, model: Model, groups: Sequence[Group], feeds: Mapping[str, Any], *, runs: int = 10, threads: int = 1
) -> GroupTimes:
    """Times of ``groups`` in ``model``: measured, or as the target estimates them."""
    seconds = target.estimated(model)
    if seconds is None:
        return profile_groups(model, groups, feeds, runs=runs, threads=threads)[0]
    kinds = {node.name: target.runs_as(node) for node in model.graph}
    found: GroupTimes = {}
    for group in groups:
        names = [node.name for node in group.nodes if node.name in seconds]
        if group.anchor.name in kinds and kinds[group.anchor.name] != group.anchor.op_type:
            names = [group.anchor.name]  # one kernel stands for all of them
        if names:
            found[group] = kinds[names[0]], 1e6 * sum(seconds[name] for name in names)
    return found


def estimated(target: Target, *models: Model) -> tuple[float, ...] | None:
    """Seconds of an inference by each of ``models`` as ``target`` estimates them; None where they can be measured."""
    if target.timed_here:
        return None
    found = [target.estimated(model) for model in models]
    # A model of views alone takes some time too, so that ratios are ratios.
    return tuple(max(sum(item.values()), _TICK) for item in found if item is not None) if None not in found else None


def _least(taken: Sequence[float], runs: int) -> float:
    """The least of the runs; a node of a loop's body was run several times in each, and takes the sum."""
    if len(taken) % runs:
        return min(taken)
    turns = len(taken) // runs
    return min(sum(taken[start : start + turns]) for start in range(0, len(taken), turns))
