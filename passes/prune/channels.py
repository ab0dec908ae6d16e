"""Channels that their readers can do without are taken out, and the readers are refitted to what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.calibrate import second_moments
from qcompiler.errors import UsageError
from qcompiler.ir import Model, Node, Value, clone_model
from qcompiler.onnx_io import open_session
from qcompiler.passes.prune.amounts import Costs, Kept, allotted
from qcompiler.passes.prune.consumers import Consumer, consumers_of
from qcompiler.passes.prune.groups import ChannelGroup, Channels, channel_groups
from qcompiler.passes.prune.importance import CRITERIA, Ranking, ranked
from qcompiler.passes.prune.refit import refit
from qcompiler.passes.prune.shrink import removed_indices, shrink
from qcompiler.pipeline import Pass, PassContext
from qcompiler.runtime import interleaved

__all__ = ["PruneChannels"]

_HALVINGS = 6  # of the interval of shares in which the wanted time is looked for


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove channels, heads and hidden units whose loss the model bears best.

    One of ``latency`` (measured here on the first sample, in turn with the whole model), ``macs``, ``parameters`` and
    ``ratio`` (of the channels) says what remains; of several the first in this order counts.
    ``criterion`` ranks units: reconstruction, energy, l2, l1 or random (see :mod:`qcompiler.passes.prune.importance`);
    without data l2 takes the place of the first two. ``spread`` says where: ``global`` where the error is least for
    the cost saved, ``uniform`` the same part of every group. ``refit`` fits readers anew by least squares, with the
    error of the layers in front of them. No group loses more than the part ``most``; widths stay multiples of
    ``multiple`` in groups of at least twice as many units. ``exclude`` is a regular expression on the names of groups,
    as ``inspect --groups`` prints them.
    """

    ratio: float = 1.0
    parameters: float = 1.0
    macs: float = 1.0
    latency: float = 1.0
    criterion: str = "reconstruction"
    spread: str = "global"
    refit: bool = True
    most: float = 0.8
    multiple: int = 16
    exclude: str = ""

    lossless: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("ratio", "parameters", "macs", "latency"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is what remains, above 0 and at most 1, not {getattr(self, name):g}")
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion cannot be '{self.criterion}'; it is one of {', '.join(CRITERIA)}")
        if self.spread not in ("global", "uniform"):
            raise ValueError(f"spread is global or uniform, not '{self.spread}'")
        if not 0.0 <= self.most < 1.0:
            raise ValueError(f"most is a part below 1, not {self.most:g}")
        if self.multiple < 1:
            raise ValueError(f"multiple has to be at least 1, not {self.multiple}")

    def run(self, model: Model, context: PassContext) -> int:
        """How many units went. Raises UsageError for an expression that is none, CalibrationError."""
        kind, share = next(
            ((name, part) for name, part in (("macs", min(self.macs, self.latency)), ("parameters", self.parameters))
             if part < 1.0),
            ("channels", self.ratio),
        )  # fmt: skip
        channels = channel_groups(model)
        groups = self._allowed(channels)
        if share >= 1.0 or not groups:
            return 0
        readers = {group: consumers_of(group, channels) for group in groups}
        rankings = self._rankings(model, groups, readers, context)
        costs = Costs(model, groups, kind)
        whole = costs.total({group: group.size for group in groups})
        if not whole:
            context.warn(f"prune-channels: nothing that can go costs any {kind}")
            return 0
        if self.latency < 1.0:
            share = self._share_of_time(model, channels, costs, rankings, context)
        kept = self._kept(costs, rankings, share)
        reached = costs.total(kept) / whole
        if reached > share + 0.02:
            context.warn(f"prune-channels: {reached:.2f} of the {kind} remain, not {share:g}: no more can go")
        chosen = {group: rankings[group].order[: group.size - kept[group]] for group in groups}
        return self._prune(model, chosen, context)

    def _allowed(self, channels: Channels) -> list[ChannelGroup]:
        pattern = self.expression("exclude")
        return [group for group in channels.groups if pattern is None or not pattern.search(group.name)]

    def _rankings(
        self,
        model: Model,
        groups: list[ChannelGroup],
        readers: Mapping[ChannelGroup, list[Consumer]],
        context: PassContext,
    ) -> dict[ChannelGroup, Ranking]:
        seen = {}
        criterion = self.criterion
        if criterion in ("reconstruction", "energy"):
            if context.data is None:
                context.warn(f"{self.name} ranks channels by l2, since {criterion} needs data; give --data")
                criterion = "l2"
            else:
                nodes = list(dict.fromkeys(consumer.node for found in readers.values() for consumer in found))
                seen = second_moments(model, nodes, context.data, threads=context.threads, progress=context.progress)
        random = np.random.default_rng(context.seed)
        return {group: ranked(group, readers[group], seen, criterion, random) for group in groups}

    def _kept(self, costs: Costs, rankings: Mapping[ChannelGroup, Ranking], share: float) -> Kept:
        if self.spread == "global":
            return allotted(costs, rankings, share, most=self.most, multiple=self.multiple)
        whole: Kept = {group: group.size for group in costs.groups}
        goal = share * costs.total(whole)
        low, high = 0.0, 1.0  # the part of every group that stays, by halving
        for _ in range(30):
            middle = (low + high) / 2
            if costs.total(self._uniform(whole, middle)) > goal:
                high = middle
            else:
                low = middle
        return self._uniform(whole, low)

    def _share_of_time(
        self,
        model: Model,
        channels: Channels,
        costs: Costs,
        rankings: Mapping[ChannelGroup, Ranking],
        context: PassContext,
    ) -> float:
        """The largest share of the products with which the model takes no more than ``latency`` of its time."""
        sample = next(iter(context.data), None) if context.data is not None else next(iter(context.samples), None)
        if sample is None:
            raise UsageError(f"{self.name}.latency is measured and needs a sample", hint="give --data")
        source = open_session(model, threads=context.threads)
        numbers = {group: place for place, group in enumerate(channels.groups)}
        low, high = 0.0, 1.0
        for step in range(_HALVINGS):
            context.progress(step + 1)
            share = (low + high) / 2
            kept = self._kept(costs, rankings, max(share, 1e-6))
            copy = clone_model(model)
            own = channel_groups(copy).groups  # in the same order
            shrink(copy, removed_indices({own[numbers[group]]: rankings[group].order[: group.size - width]
                                          for group, width in kept.items()}))  # fmt: skip
            session = open_session(copy, threads=context.threads)
            whole, part = interleaved([source, session], sample, seconds=0.5)
            if part.least <= self.latency * whole.least:
                low = share
            else:
                high = share
        if not low:
            context.warn(f"{self.name}: no width takes {self.latency:g} of the time")
        return max(low, 1e-6)

    def _uniform(self, whole: Kept, part: float) -> Kept:
        found: Kept = {}
        for group, size in whole.items():
            width = max(round(part * size), size - int(self.most * size), 1)
            if self.multiple > 1 and size >= 2 * self.multiple:
                width = max(self.multiple, round(width / self.multiple) * self.multiple)
            found[group] = min(size, width)
        return found

    def _prune(self, model: Model, chosen: Mapping[ChannelGroup, list[int]], context: PassContext) -> int:
        removed = removed_indices(chosen)
        if not removed:
            return 0
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
        if self.refit and context.data is not None:
            refit(before, model, pairs, gone, context.data, threads=context.threads, progress=context.progress)
        return sum(len(units) for units in chosen.values())


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
