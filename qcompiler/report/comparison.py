"""Several compiled models side by side: a table, and which of them no other beats in everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.report.picture import Spot, spread
from qcompiler.report.summary import distance

__all__ = ["Compared", "compare_reports", "comparison_view"]

_BEST = 120.0  # decibels at which outputs that are identical are drawn


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

    @property
    def quality(self) -> float | None:
        """The metric's score where there is one, else decibels."""
        return self.score if self.metric is not None else (_BEST if self.identical else self.sqnr_db)


def compare_reports(reports: Mapping[str, Mapping[str, Any]]) -> list[Compared]:
    """What ``reports``, plain and valid, say by their names, in their order.

    One beats another when it is as good in both figures of a pair and better in one. Metrics decide about quality where
    all have the same one, else decibels.
    """
    found = [_compared(name, report) for name, report in reports.items()]
    shared = len({item.metric for item in found}) == 1
    qualities = [item.quality if shared else (_BEST if item.identical else item.sqnr_db) for item in found]
    pareto: list[list[str]] = [[] for _ in found]
    for pair, gains in (("speed", [item.speedup for item in found]), ("size", [item.ratio for item in found])):
        points = list(zip(gains, qualities, strict=True))
        for index, point in enumerate(points):
            if None not in point and not any(_beats(other, point) for other in points if other is not point):
                pareto[index].append(pair)
    return [Compared(**{**vars(item), "pareto": tuple(pairs)}) for item, pairs in zip(found, pareto, strict=True)]


def comparison_view(found: Sequence[Compared]) -> dict[str, Any]:
    """The variables of the page's template: rows, and a picture for speed and one for size."""
    shared = len({item.metric for item in found}) == 1
    axis = found[0].metric if shared and found[0].metric else "SQNR, dB"
    pictures = []
    for pair, title in (("speed", "Quality against speed"), ("size", "Quality against size")):
        spots = []
        for item in found:
            gain = item.speedup if pair == "speed" else item.ratio
            quality = item.quality if shared else (_BEST if item.identical else item.sqnr_db)
            if gain is not None and quality is not None:
                spots.append(Spot(gain, quality, item.name, pair in item.pareto))
        if len(spots) > 1:
            label = "speed-up" if pair == "speed" else "times smaller"
            pictures.append({"title": title, "across": label, "up": axis, "picture": spread(spots)})
    sources = {item.source for item in found}
    return {
        "rows": found,
        "pictures": pictures,
        "mixed": len(sources) > 1,
        "machines": sorted({item.machine for item in found}),
    }


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
        report["environment"]["cpu"] or "an unnamed machine",
    )


def _beats(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    pairs = list(zip(one, other, strict=True))
    if any(a is None or b is None for a, b in pairs):
        return False
    return all(a >= b for a, b in pairs if a is not None and b is not None) and any(
        a > b for a, b in pairs if a is not None and b is not None
    )
