"""Which units went, as text: what a resolved recipe holds, so that the same ones go again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import groupby

from qcompiler.errors import UsageError
from qcompiler.passes.prune.groups import ChannelGroup

__all__ = ["parsed", "ranges", "written"]


def written(chosen: Mapping[ChannelGroup, Sequence[int]]) -> tuple[str, ...]:
    """``NAME=0-3 7`` for each group that loses some."""
    return tuple(f"{group.name}={ranges(units)}" for group, units in chosen.items() if units)


def ranges(units: Sequence[int]) -> str:
    """Numbers in ascending order, those that follow each other as a range: ``0-3 7``."""
    found = []
    for _, run in groupby(enumerate(sorted(units)), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        found.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return " ".join(found)


def parsed(entries: Sequence[str], groups: Sequence[ChannelGroup]) -> dict[ChannelGroup, list[int]]:
    """The inverse of :func:`written`. Raises UsageError for a group or unit that is not there, or when all would go."""
    known = {group.name: group for group in groups}
    found: dict[ChannelGroup, list[int]] = {}
    for entry in entries:
        name, _, text = entry.rpartition("=")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "`qcompiler inspect MODEL --groups` lists them"
            raise UsageError(f"'{entry}': the model has no group '{name}'", hint=hint)
        group = known[name]
        units = set(found.get(group, ()))
        for part in text.split():
            first, _, last = part.partition("-")
            try:
                run = range(int(first), int(last or first) + 1)
            except ValueError:
                run = range(0)
            if not run:
                raise UsageError(f"'{entry}': '{part}' is no number or range", hint=f"write {name}=0-3 7")
            units.update(run)
        if units and max(units) >= group.size:
            raise UsageError(f"'{entry}': group '{name}' has {group.size} units, the last is {group.size - 1}")
        if len(units) == group.size:
            raise UsageError(f"'{entry}' would leave nothing of group '{name}'", hint="leave one unit at least")
        found[group] = sorted(units)
    return found
