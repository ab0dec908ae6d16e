"""How coarse weights may be: one budget of error for every weight, found for a size or for decibels at the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qcompiler.data import Sample
from qcompiler.ir import Model, Value, clone_model, tensor
from qcompiler.onnx_io import open_session
from qcompiler.passes.cluster.coding import Coded, Coding, entropy_of
from qcompiler.passes.cluster.layers import Layer
from qcompiler.passes.matrix import from_rows
from qcompiler.passes.output_error import relative_errors

__all__ = ["PERFECT", "Made", "coded_bytes", "counted", "first_budget", "of_quality", "of_size", "with_budget"]

PERFECT = 120.0
"""Decibels above which float32 has no error to tell."""

_TRIES = 6  # of the whole model on the way to the wanted error
_MARGIN = 0.3  # decibels by which a try may be better than wanted and be taken
_BISECTIONS = 24

Progress = Callable[[int], None]
Expected = Sequence[tuple[Sample, dict[str, Any]]]


@dataclass
class Made:
    """Coded weights, the budget that they keep, and the decibels of the worst output where those were measured."""

    budget: float
    coded: list[Coded]
    decibels: float = math.inf


def counted(layers: Sequence[Layer], progress: Progress) -> Iterator[Layer]:
    """``layers``, with the progress told."""
    for done, layer in enumerate(layers):
        progress(done + 1)
        yield layer


def first_budget(layers: Sequence[Layer], wanted: float) -> float:
    """The budget with which errors of all layers, added up, leave ``wanted`` decibels."""
    return 10 ** (-wanted / 10) / float(sum(layer.size for layer in layers))


def with_budget(layers: Sequence[Layer], coding: Coding, budget: float, progress: Progress) -> Made:
    """Every weight may add ``budget`` to its layer's relative error: then a bit gains the same everywhere."""
    errors = (budget * layer.size / layer.noise for layer in layers)
    pairs = zip(counted(layers, progress), errors, strict=True)
    return Made(budget, [coding.with_error(layer, error) for layer, error in pairs])


def of_size(layers: Sequence[Layer], coding: Coding, size: float, progress: Progress) -> Made:
    """The least budget with which all weights, coded, take ``size`` of their float32 bytes; or the largest there is."""
    goal = size * 4 * sum(layer.size for layer in layers)
    quick = replace(coding, compensate=False)
    low, high = math.log(1e-14), math.log(1e-2)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if sum(map(coded_bytes, with_budget(layers, quick, math.exp(middle), progress).coded)) > goal:
            low = middle
        else:
            high = middle
    return with_budget(layers, coding, math.exp(high), progress)


def of_quality(
    model: Model,
    layers: Sequence[Layer],
    coding: Coding,
    wanted: float,
    expected: Expected,
    *,
    threads: int = 1,
    progress: Progress = lambda _: None,
) -> Made:
    """The coarsest try whose worst output has ``wanted`` decibels, or the last one where none has.

    ``expected`` are samples and what ``model`` gives for them. The first budget is what adds up to the wanted error;
    after that it moves by what was missed, and between a try that is fine and one that is not by interpolation.
    """
    fine: Made | None = None
    coarse: Made | None = None
    point = math.log(first_budget(layers, wanted))
    for _ in range(_TRIES):
        made = with_budget(layers, coding, math.exp(point), progress)
        made.decibels = min(_decibels(model, layers, made.coded, expected, threads), PERFECT)
        if made.decibels >= wanted:
            fine = made
        else:
            coarse = made
        if fine is not None and fine.decibels <= wanted + _MARGIN:
            break
        if fine is None or coarse is None or not math.isfinite(coarse.decibels):
            point += (max(made.decibels, -PERFECT) - wanted - _MARGIN / 2) * math.log(10) / 10
        else:
            share = (fine.decibels - wanted - _MARGIN / 2) / (fine.decibels - coarse.decibels)
            ends = math.log(fine.budget), math.log(coarse.budget)
            point = ends[0] + (ends[1] - ends[0]) * min(0.85, max(0.15, share))
    return fine or made


def _decibels(model: Model, layers: Sequence[Layer], coded: Sequence[Coded], expected: Expected, threads: int) -> float:
    """Of the worst output with the weights that ``coded`` stand for."""
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    for layer, each in zip(layers, coded, strict=True):
        twin = mapping[layer.value]
        held, graph = twin.constant, twin.home
        assert held is not None and graph is not None
        array = from_rows(layer.node, each.rows(), layer.array).astype(layer.array.dtype)
        twin.replace_uses(graph.add_constant(tensor(array, held.dtype), twin.name))
        graph.remove_constant(twin)
    errors = relative_errors(open_session(copy, threads=threads), expected)
    worst = max(errors.values(), default=0.0)
    return math.inf if worst == 0 else -10 * math.log10(worst) if math.isfinite(worst) else -math.inf


def coded_bytes(coded: Coded) -> float:
    """What a weight takes once its indices are coded by entropy: indices, table of frequencies, levels, scales."""
    present = len(np.unique(coded.indices))
    tables = 2 * present + coded.level_bytes + coded.scale_bytes
    return entropy_of(coded.indices) * coded.indices.size / 8 + tables
