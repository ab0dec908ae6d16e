"""Channels that their readers can do without are taken out, and the readers are refitted to what is left."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.calibrate import second_moments
from qcompiler.data import Dataset
from qcompiler.errors import UsageError
from qcompiler.ir import Model
from qcompiler.onnx_io import open_session
from qcompiler.passes.prune.amounts import Bounds, Costs, Kept, allotted, evenly
from qcompiler.passes.prune.consumers import consumers_of
from qcompiler.passes.prune.curve import apart, judged
from qcompiler.passes.prune.groups import ChannelGroup, Channels, channel_groups
from qcompiler.passes.prune.importance import CRITERIA, Ranking, by_scores, has_scales, ranked
from qcompiler.passes.prune.selection import parsed, ranges, written
from qcompiler.passes.prune.taking import take_out, without
from qcompiler.passes.prune.taylor import taylor_scores
from qcompiler.pipeline import Pass, PassContext
from qcompiler.runtime import interleaved

__all__ = ["PruneChannels"]

_MOST, _LEAST = 0.8, 0.25  # parts of a group that may go
_NEAR = 0.02  # of the cost, by which what remains may be off
_HALVINGS = 6  # of the interval of shares in which the wanted time is looked for

Rankings = Mapping[ChannelGroup, Ranking]


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove channels, heads and hidden units whose loss the model bears best.

    One of ``latency`` (measured here on the first sample, in turn with the whole model), ``macs``, ``parameters`` and
    ``ratio`` (of the channels) says what remains; of several the first in this order counts.
    ``criterion`` ranks units: reconstruction, energy, taylor (gradients by torch), batch-norm, l2, l1 or random.
    ``spread`` says where units go: ``global`` where the error is least for the cost saved, ``uniform`` the same part of
    every group. ``refit`` fits readers anew by least squares, with the error of the layers in front of them. No group
    loses more than the part ``most``, or than the part that the first of ``caps`` (``REGEX=PART``) with its name says;
    None is a quarter more than goes altogether, a quarter of it at least, and where that is not enough four fifths.
    Widths stay multiples of ``multiple``, or of its half, quarter and so on in groups of less than twice as many units;
    0: of what the target is fast with, measured once.
    ``exclude`` is a regular expression on the names of groups, as ``inspect --groups`` prints them.

    ``removed`` names the units themselves (``GROUP=0-3 7``; an empty list: none), whatever the other options would
    choose: a resolved recipe does. ``curve`` are other amounts for which the report tells error and time.
    """

    ratio: float = 1.0
    parameters: float = 1.0
    macs: float = 1.0
    latency: float = 1.0
    criterion: str = "reconstruction"
    spread: str = "global"
    refit: bool = True
    most: float | None = None
    caps: tuple[str, ...] = ()
    multiple: int = 0
    exclude: str = ""
    removed: tuple[str, ...] | None = None
    curve: tuple[float, ...] = ()

    cost: ClassVar[str] = (
        "One walk over the samples for ranking and one for refitting; a refit and a timed run for each "
        "amount of `curve`."
    )
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
        if self.most is not None and not 0.0 <= self.most < 1.0:
            raise ValueError(f"most is a part below 1, not {self.most:g}")
        if self.multiple < 0:
            raise ValueError(f"multiple has to be at least 1, or 0 for what is fast, not {self.multiple}")
        if not all(0.0 < share <= 1.0 for share in self.curve):
            raise ValueError(f"curve is what remains, each above 0 and at most 1, not {self.curve}")
        self._caps()

    def run(self, model: Model, context: PassContext) -> int:
        """How many units went. Raises UsageError for an expression that is none, CalibrationError."""
        channels = channel_groups(model)
        if self.removed is not None:
            return self._take(model, channels, parsed(self.removed, channels.groups), context)
        kind, share = next(
            ((name, part) for name, part in (("macs", min(self.macs, self.latency)), ("parameters", self.parameters))
             if part < 1.0),
            ("channels", self.ratio),
        )  # fmt: skip
        groups = self._allowed(channels)
        if share >= 1.0 or not groups:
            context.resolved["removed"] = ()
            return 0
        costs = Costs(model, groups, kind)
        whole = costs.total({group: group.size for group in groups})
        if not whole:
            context.warn(f"prune-channels: nothing that can go costs any {kind}")
            return 0
        rankings = self.rankings(model, channels, groups, context)
        multiples = self._multiples(groups, context)
        if self.latency < 1.0:
            share = self._share_of_time(model, costs, rankings, multiples, context)
        kept = self._kept(costs, rankings, share, multiples)
        reached = costs.total(kept) / whole
        if reached > share + _NEAR and share < 1.0:
            context.warn(f"prune-channels: {reached:.2f} of the {kind} remain, not {share:g}: no more can go")
        if self.curve and context.data is not None:
            points = self._curve(model, costs, rankings, multiples, context.data, context)
            context.details["curve"] = {"of": kind, "points": points}
        return self._take(model, channels, _gone(rankings, kept), context)

    def rankings(
        self, model: Model, channels: Channels, groups: list[ChannelGroup], context: PassContext
    ) -> dict[ChannelGroup, Ranking]:
        """The units of each of ``groups`` in the order in which they go."""
        readers = {group: consumers_of(group, channels) for group in groups}
        seen = {}
        criterion = self.criterion
        if criterion in ("reconstruction", "energy", "taylor"):
            if context.data is None:
                context.warn(f"{self.name} ranks channels by l2, since {criterion} needs data; give --data")
                criterion = "l2"
            elif criterion == "taylor":
                scores = taylor_scores(model, groups, context)
                return {group: by_scores(scores[group]) for group in groups}
            else:
                nodes = list(dict.fromkeys(consumer.node for found in readers.values() for consumer in found))
                seen = second_moments(model, nodes, context.data, threads=context.threads, progress=context.per_sample)
        if criterion == "batch-norm" and not all(has_scales(group) for group in groups):
            context.warn(
                f"{self.name}: batch normalization stands in {sum(map(has_scales, groups))} of {len(groups)} groups, "
                "the others are ranked by l2; its scales are there only in front of fuse-conv-batch-norm"
            )
        random = np.random.default_rng(context.seed)
        return {group: ranked(group, readers[group], seen, criterion, random) for group in groups}

    def _caps(self) -> list[tuple[re.Pattern[str], float]]:
        found = []
        for entry in self.caps:
            name, equals, part = entry.rpartition("=")
            try:
                pattern, most = re.compile(name), float(part)
            except (ValueError, re.error):
                equals, pattern, most = "", re.compile(""), math.nan
            if not equals or not 0.0 <= most < 1.0:
                raise ValueError(f"caps are REGEX=PART with a part below 1, not '{entry}'")
            found.append((pattern, most))
        return found

    def _allowed(self, channels: Channels) -> list[ChannelGroup]:
        pattern = self.expression("exclude")
        return [group for group in channels.groups if pattern is None or not pattern.search(group.name)]

    def _multiples(self, groups: list[ChannelGroup], context: PassContext) -> dict[ChannelGroup, int]:
        fast: Mapping[str, int] = {}
        if not self.multiple and context.target is not None:
            fast = context.target.fast_multiples(context.threads)
        found = {}
        for group in groups:
            # A head takes as many indices of its weights as it is wide; a Flatten does not make a channel wider.
            sizes = [indices.size for (value, _), indices in zip(group.places, group.units[0], strict=True)
                     if value.constant is not None]  # fmt: skip
            each = min(sizes, default=1)
            multiple = self.multiple or fast.get(_kind(group), 1)
            multiple //= math.gcd(multiple, each)
            while group.size < 2 * multiple and multiple > 1:
                multiple //= 2
            found[group] = multiple
        return found

    def _kept(self, costs: Costs, rankings: Rankings, share: float, multiples: Mapping[ChannelGroup, int]) -> Kept:
        """Widths for ``share`` of the cost."""
        caps = self._caps()
        # A group's error grows faster than it says, since what is left of others is fed to it: all have to give.
        parts = [min(_MOST, max(_LEAST, 1.25 * (1 - share))), _MOST] if self.most is None else [self.most]
        kept: Kept = {}
        for most in parts:
            bounds = {}
            for group in costs.groups:
                part = next((part for pattern, part in caps if pattern.search(group.name)), most)
                bounds[group] = Bounds(max(1, group.size - int(part * group.size)), multiples[group])
            kept = (allotted(costs, rankings, share, bounds) if self.spread == "global"
                    else evenly(costs, share, bounds))  # fmt: skip
            if costs.total(kept) <= (share + _NEAR) * costs.total({group: group.size for group in costs.groups}):
                break
        return kept

    def parts(self, model: Model, part: float, context: PassContext) -> dict[ChannelGroup, list[int]]:
        """The units of each group that are worth least, ``part`` of it, one being left at least."""
        channels = channel_groups(model)
        found = self.rankings(model, channels, self._allowed(channels), context)
        counts = {group: min(group.size - 1, max(1, round(part * group.size))) for group in found}
        return {group: ranking.order[: counts[group]] for group, ranking in found.items()}

    def _curve(
        self,
        model: Model,
        costs: Costs,
        rankings: Rankings,
        multiples: Mapping[ChannelGroup, int],
        data: Dataset,
        context: PassContext,
    ) -> list[dict[str, float | None]]:
        """Error and time by what remains, for the amounts of ``curve``."""
        whole = costs.total({group: group.size for group in costs.groups})
        found: dict[tuple[int, ...], float] = {}
        chosen = {}
        for part in sorted(self.curve, reverse=True):
            kept = self._kept(costs, rankings, part, multiples)
            widths = tuple(kept.values())
            if widths not in found:  # two amounts may come to the same widths
                found[widths] = costs.total(kept) / whole
                chosen[widths] = _gone(rankings, kept)
        refitting, judging = apart(data)
        points = judged(
            model,
            chosen,
            refitting,
            judging,
            threads=context.threads,
            progress=context.counting("amount", len(chosen)),
        )
        return [{"remaining": found[widths], "sqnr_db": point.sqnr_db, "speedup": point.speedup}
                for widths, point in zip(chosen, points, strict=True)]  # fmt: skip

    def _share_of_time(
        self,
        model: Model,
        costs: Costs,
        rankings: Rankings,
        multiples: Mapping[ChannelGroup, int],
        context: PassContext,
    ) -> float:
        """The largest share of the products with which the model takes no more than ``latency`` of its time."""
        sample = next(iter(context.data), None) if context.data is not None else next(iter(context.samples), None)
        if sample is None:
            raise UsageError(f"{self.name}.latency is measured and needs a sample", hint="give --data")
        source = open_session(model, threads=context.threads)
        low, high = 0.0, 1.0
        tell = context.counting("width", _HALVINGS)
        for step in range(_HALVINGS):
            tell(step)
            share = (low + high) / 2
            kept = self._kept(costs, rankings, max(share, 1e-6), multiples)
            session = open_session(without(model, _gone(rankings, kept)), threads=context.threads)
            whole, part = interleaved([source, session], sample, seconds=0.5)
            if part.least <= self.latency * whole.least:
                low = share
            else:
                high = share
        if not low:
            context.warn(
                f"{self.name}: no width that is allowed takes {self.latency:g} of the time, so none was changed"
            )
        return low or 1.0

    def _take(
        self, model: Model, channels: Channels, chosen: Mapping[ChannelGroup, list[int]], context: PassContext
    ) -> int:
        context.details["groups"] = [_told(group, chosen.get(group, [])) for group in channels.groups]
        context.resolved |= {"removed": written(chosen), "curve": ()}
        samples = context.data if self.refit else None
        tell = context.counting("sample", len(samples) if samples is not None else 0)
        take_out(model, chosen, samples, threads=context.threads, progress=tell)
        return sum(len(units) for units in chosen.values())


def _gone(rankings: Rankings, kept: Kept) -> dict[ChannelGroup, list[int]]:
    return {group: rankings[group].order[: group.size - width] for group, width in kept.items()}


def _kind(group: ChannelGroup) -> str:
    """Conv where a convolution gives or reads the units, else MatMul."""
    nodes = {user for value, _ in group.places for user in value.users()}
    return "Conv" if any(node.is_op("Conv", "ConvTranspose") for node in nodes) else "MatMul"


def _told(group: ChannelGroup, gone: list[int]) -> dict[str, Any]:
    """One entry of the report: a group and which of its units go."""
    return {
        "name": group.name,
        "units": group.size,
        "kept": group.size - len(gone),
        "removed": ranges(gone),
        "nodes": group.weight_nodes(),
    }
