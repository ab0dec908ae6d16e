"""How much of which group goes, so that the model keeps a share of its cost for the least error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qcompiler.ir import Model, Value
from qcompiler.ops import weight_macs
from qcompiler.passes.prune.groups import ChannelGroup
from qcompiler.passes.prune.importance import Ranking

__all__ = ["Bounds", "Costs", "Kept", "allotted", "evenly"]

Kept = dict[ChannelGroup, int]
"""How many units of each group stay."""

_STEPS = 32  # in which a group loses its units


Axis = tuple[int, list[tuple[ChannelGroup, int]]]
"""Size of an axis, and the groups that lie in it, with how many of its indices one of their units takes."""


@dataclass
class Costs:
    """What widths cost: multiply-accumulates, parameters, or channels; each as a function of what groups keep."""

    model: Model
    groups: Sequence[ChannelGroup]
    kind: str
    weights: list[tuple[float, list[Axis]]] = field(default_factory=list)
    of_group: dict[ChannelGroup, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "channels":
            for group in self.groups:
                self._add(float(group.size), [(group.size, [(group, 1)])])
            return
        inside: dict[tuple[Value, int], list[tuple[ChannelGroup, int]]] = {}
        for group in self.groups:
            for which, place in enumerate(group.places):
                if place[0].constant is not None:
                    inside.setdefault(place, []).append((group, group.units[0][which].size))
        counted: set[Value] = set()
        for node in self.model.graph:
            products = weight_macs(node)
            for position, value in enumerate(node.inputs):
                if value is None or value.constant is None or (self.kind == "parameters" and value in counted):
                    continue
                if self.kind == "macs" and not products.get(position):
                    continue
                counted.add(value)
                shape = value.constant.shape
                cut = [(shape[axis], inside[value, axis]) for axis in range(len(shape)) if (value, axis) in inside]
                self._add(float(products[position] if self.kind == "macs" else value.constant.size), cut)

    def _add(self, cost: float, cut: list[Axis]) -> None:
        for group in {group for _, parts in cut for group, _ in parts}:
            self.of_group.setdefault(group, []).append(len(self.weights))
        self.weights.append((cost, cut))

    def beside(self, group: ChannelGroup) -> set[ChannelGroup]:
        """The groups that lie in a weight with ``group``, itself included."""
        found = {group}
        for index in self.of_group.get(group, []):
            found |= {other for _, parts in self.weights[index][1] for other, _ in parts}
        return found

    def part(self, index: int, kept: Kept) -> float:
        """The cost of one weight."""
        cost, cut = self.weights[index]
        for size, parts in cut:
            cost *= 1.0 - sum((group.size - kept[group]) * each for group, each in parts) / size
        return cost

    def total(self, kept: Kept) -> float:
        """The cost of the model."""
        return sum(self.part(index, kept) for index in range(len(self.weights)))


@dataclass(frozen=True)
class Bounds:
    """The least width of a group, and of what its widths are multiples where it has at least twice as many units."""

    least: int
    multiple: int = 1


def allotted(
    costs: Costs, rankings: Mapping[ChannelGroup, Ranking], share: float, bounds: Mapping[ChannelGroup, Bounds]
) -> Kept:
    """Units that each group keeps, so that ``share`` of the cost remains, or as near as ``bounds`` allow.

    Step by step that group loses units which gives the least error for the cost saved (greedy on the curves of
    ``rankings``).
    """
    kept: Kept = {group: group.size for group in costs.groups}
    goal, now = share * costs.total(kept), costs.total(kept)
    # In order: of equal prices the first is taken. A price stays until a group goes that shares a weight with it.
    steps = {
        group: _step(costs, rankings[group], group, kept, bounds[group]) for group in costs.groups if group in rankings
    }
    while now > goal:
        able = [(step.price, place, group) for place, (group, step) in enumerate(steps.items()) if step is not None]
        if not able:
            break
        _, _, best = min(able, key=lambda entry: entry[:2])
        step = steps[best]
        assert step is not None
        kept[best], now = step.width, now - step.saved
        for group in costs.beside(best):
            if group in steps:
                steps[group] = _step(costs, rankings[group], group, kept, bounds[group])
    return kept


class _Step(NamedTuple):
    """The next narrower width of a group: the error that it adds for the cost that it saves."""

    price: float
    width: int
    saved: float


def _step(costs: Costs, ranking: Ranking, group: ChannelGroup, kept: Kept, bounds: Bounds) -> _Step | None:
    old, width = kept[group], _narrower(group, kept[group], bounds.multiple)
    if width < bounds.least:
        return None
    indices = costs.of_group.get(group, [])
    before = sum(costs.part(index, kept) for index in indices)
    kept[group] = width
    saved = before - sum(costs.part(index, kept) for index in indices)
    kept[group] = old
    added = float(ranking.error[group.size - width] - ranking.error[group.size - old])
    return _Step(max(added, 1e-15) / max(saved, 1e-9), width, saved)


def evenly(costs: Costs, share: float, bounds: Mapping[ChannelGroup, Bounds]) -> Kept:
    """The same part of every group, as near as ``bounds`` allow, so that ``share`` of the cost remains."""
    whole: Kept = {group: group.size for group in costs.groups}
    goal = share * costs.total(whole)

    def kept(part: float) -> Kept:
        return {group: _rounded(part * size, size, bounds[group]) for group, size in whole.items()}

    low, high = 0.0, 1.0  # the part that stays, by halving
    for _ in range(30):
        middle = (low + high) / 2
        if costs.total(kept(middle)) > goal:
            high = middle
        else:
            low = middle
    return kept(low)


def _rounded(wanted: float, size: int, bounds: Bounds) -> int:
    width = max(round(wanted), bounds.least)
    if bounds.multiple > 1 and size >= 2 * bounds.multiple:
        width = max(-(-bounds.least // bounds.multiple), round(width / bounds.multiple)) * bounds.multiple
    return min(size, width)


def _narrower(group: ChannelGroup, width: int, multiple: int) -> int:
    """The next width below ``width``; 0 when there is none."""
    step = max(1, group.size // _STEPS)
    if multiple > 1 and group.size >= 2 * multiple:
        step = max(multiple, step // multiple * multiple)
        return (width - 1) // multiple * multiple if width % multiple else width - step
    return width - step
