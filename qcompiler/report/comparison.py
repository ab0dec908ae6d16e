"""Several compiled models side by side: a table, and which of them no other beats in everything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qcompiler.report.picture import Spot, spread, unbeaten
from qcompiler.report.summary import distance

__all__ = ["PAIRS", "Compared", "compare_reports", "comparison_view"]

PAIRS = {"speed": "speedup", "size": "ratio"}
"""What is held against quality, and the figure of it."""

_TITLES = {"speed": ("Quality against speed", "speed-up"), "size": ("Quality against size", "times smaller")}


@dataclass(frozen=True)
class Compared:
    """One compiled model. ``speedup`` and ``ratio`` are of its source over it, ``sqnr_db`` is its worst output's (None
    and ``identical``: there is no difference), ``score`` the metric's. ``pareto`` are the pairs in which none beats it:
    ``speed`` (speed-up against quality) and ``size`` (ratio of sizes against quality)."""

    name: str
    target: str
    recipe: str
    speedup: float | None
    compiled_ms: float | None
    ratio: float | None
    compiled_bytes: int
    sqnr_db: float | None
    identical: bool
    metric: str | None
    score: float | None
    gates_passed: bool
    source: str | None
    machine: str
    pareto: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "pareto": list(self.pareto)}


def compare_reports(reports: Mapping[str, Mapping[str, Any]]) -> list[Compared]:
    """What ``reports``, plain and valid, say by their names, in their order.

    One beats another of the same source when it is as good in both figures of a pair and better in one. Metrics decide
    about quality where all have the same one, else decibels, of which identical outputs have most.
    """
    found = [_compared(name, report) for name, report in reports.items()]
    quality = _qualities(found)
    pareto: list[list[str]] = [[] for _ in found]
    for source in dict.fromkeys(item.source for item in found):
        those = [index for index, item in enumerate(found) if item.source == source]
        for pair in PAIRS:
            good = unbeaten([(getattr(found[index], PAIRS[pair]), quality[index]) for index in those])
            for index in itertools.compress(those, good):
                pareto[index].append(pair)
    return [replace(item, pareto=tuple(pairs)) for item, pairs in zip(found, pareto, strict=True)]


def comparison_view(found: Sequence[Compared]) -> dict[str, Any]:
    """The variables of the page's template: rows, and a picture for speed and one for size."""
    shared = _shared_metric(found)
    quality = _qualities(found)
    measured = [value for value in quality if value is not None and math.isfinite(value)]
    # Outputs that are identical have no decibels; they are drawn above all that have.
    above = max(measured, default=0.0) + 0.1 * (max(measured, default=0.0) - min(measured, default=0.0) or 10.0)
    heights = [above if value == math.inf else value for value in quality]
    pictures = []
    for pair, (title, across) in _TITLES.items():
        spots = [
            Spot(gain, height, f"{item.name} (identical)" if value == math.inf else item.name, pair in item.pareto)
            for item, height, value in zip(found, heights, quality, strict=True)
            if (gain := getattr(item, PAIRS[pair])) is not None and height is not None
        ]
        if len(spots) > 1:
            up = shared or "SQNR, dB"
            picture = spread(spots)
            picture["ends"]["top"] = max(measured, default=above)
            pictures.append({"title": title, "across": across, "up": up, "picture": picture})
    return {
        "rows": found,
        "pictures": pictures,
        "measure": shared or "closeness to the source",
        "mixed": len({item.source for item in found}) > 1,
        "machines": sorted({item.machine for item in found}),
    }


def _shared_metric(found: Sequence[Compared]) -> str | None:
    names = {item.metric for item in found}
    return names.pop() if len(names) == 1 else None


def _qualities(found: Sequence[Compared]) -> list[float | None]:
    if _shared_metric(found):
        return [item.score for item in found]
    return [math.inf if item.identical else item.sqnr_db for item in found]


def _compared(name: str, report: Mapping[str, Any]) -> Compared:
    far, metric = distance(report), report["quality"]["metric"]
    return Compared(
        name,
        report["target"],
        report.get("recipe") or "",
        report["latency"]["speedup"],
        report["latency"]["compiled_ms"],
        report["size"]["ratio"],
        report["size"]["compiled_bytes"],
        far.sqnr_db,
        far.kind == "identical",
        metric and metric["name"],
        metric and metric["compiled"],
        all(gate["passed"] for gate in report["gates"]),
        report["source"]["sha256"],
        f"{report['environment']['cpu'] or 'an unnamed machine'}, {report['latency']['threads'] or '?'} threads",
    )
