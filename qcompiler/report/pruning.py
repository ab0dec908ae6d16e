"""What the page shows of pruning: which channels went, and what other amounts would have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcompiler.report.picture import Spot, spread
from qcompiler.report.units import share

__all__ = ["pruning_view"]

Report = Mapping[str, Any]


def pruning_view(passes: Sequence[Report]) -> list[dict[str, Any]]:
    """For each pass that took something out: its name, groups with a bar, pieces, and its curve as a picture."""
    found = []
    for item in passes:
        details = item.get("details") or {}
        groups, pieces = details.get("groups") or [], details.get("removed") or []
        curve = details.get("curve")
        if groups or pieces or curve:
            bars = [group | {"bar": round(100 * group["kept"] / group["units"], 2) if group["units"] else 0.0}
                    for group in groups]  # fmt: skip
            found.append({
                "name": item["name"], "undone": item["status"] == "rolled-back", "groups": bars, "pieces": pieces,
                "of": curve and curve["of"], "points": curve["points"] if curve else [],
                "picture": _picture(curve["points"]) if curve else None,
            })  # fmt: skip
    return found


def _picture(points: Sequence[Report]) -> dict[str, Any] | None:
    """The points that have both figures; all lie on the line, for each is another amount."""
    known = [
        Spot(float(point["speedup"]), float(point["sqnr_db"]), share(point["remaining"]), True)
        for point in points
        if None not in (point["sqnr_db"], point["speedup"])
    ]
    return spread(known) if len(known) > 1 else None
