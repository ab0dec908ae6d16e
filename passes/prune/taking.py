"""Units taken out for good: the model shrunk, and the readers of what is left refitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from qcompiler.data import Sample
from qcompiler.ir import Model, Node, Value, clone_model
from qcompiler.passes.prune.groups import ChannelGroup
from qcompiler.passes.prune.refit import refit
from qcompiler.passes.prune.shrink import removed_indices, shrink

__all__ = ["Chosen", "take_out", "without"]

Chosen = Mapping[ChannelGroup, Iterable[int]]
"""Units by group."""


def without(model: Model, chosen: Chosen, samples: Iterable[Sample] | None = None, *, threads: int = 1) -> Model:
    """A copy of ``model`` from which ``chosen`` are gone; with ``samples`` the readers are refitted."""
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    own = {group.moved(mapping): units for group, units in chosen.items()}
    take_out(copy, own, samples, threads=threads)
    return copy


def take_out(
    model: Model,
    chosen: Chosen,
    samples: Iterable[Sample] | None = None,
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Take ``chosen`` out of ``model``; with ``samples`` (to be walked several times) the readers are refitted."""
    removed = removed_indices(chosen)
    if not removed:
        return
    if samples is None:
        shrink(model, removed)
        return
    mapping: dict[Value, Value] = {}
    before = clone_model(model, mapping)
    pairs, gone = [], {}
    for node in model.graph:
        data, weight, twin = node.input(0), node.input(1), mapping[node.output].producer if node.outputs else None
        if data is None or weight is None or twin is None or not _can_be_fitted(node):
            continue
        inner = 1 if node.is_op("Conv") else (data.rank or 1) - 1
        # Another axis that gets shorter would leave less to compare with what the whole model gave.
        if [axis for axis in range(data.rank or 0) if (data, axis) in removed] == [inner]:
            pairs.append((twin, node))
            axis = 1 if node.is_op("Conv") else (node.output.rank or 1) - 1
            gone[node] = removed.get((node.output, axis), np.zeros(0, np.int64))
    shrink(model, removed)
    refit(before, model, pairs, gone, samples, threads=threads, progress=progress)


def _can_be_fitted(node: Node) -> bool:
    """A layer of one group that gives W x + b with b one number for each output, or without."""
    if node.is_op("Conv"):
        return bool(node.attr("group", 1) == 1)
    if not node.is_op("MatMul", "Gemm"):
        return False
    if node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0:
        return False
    bias, width = node.input(2), (node.output.shape or (None,))[-1]
    return bias is None or (bias.constant is not None and bias.constant.shape in ((width,), (1, width)))
