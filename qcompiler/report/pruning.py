"""What the page shows of pruning: which channels went, and what other amounts would have given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["CURVE_HEIGHT", "CURVE_WIDTH", "pruning_view"]

Report = Mapping[str, Any]

CURVE_WIDTH, CURVE_HEIGHT = 560, 220
"""Of the picture, in units of its own; inside of it a margin for the labels of both axes."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 64, 16, 40


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
                "picture": _picture(curve["points"]) if curve else [],
            })  # fmt: skip
    return found


def _picture(points: Sequence[Report]) -> list[dict[str, Any]]:
    """Places of the points that have both figures, from the slowest: speed-up to the right, decibels upwards."""
    known = sorted(
        (point for point in points if None not in (point["sqnr_db"], point["speedup"])),
        key=lambda point: float(point["speedup"]),
    )
    if len(known) < 2:
        return []
    across = _scale([float(point["speedup"]) for point in known], _LEFT, CURVE_WIDTH - _RIGHT)
    up = _scale([float(point["sqnr_db"]) for point in known], CURVE_HEIGHT - _BOTTOM, _TOP)
    return [{"x": x, "y": y, "point": point} for x, y, point in zip(across, up, known, strict=True)]


def _scale(values: Sequence[float], first: float, last: float) -> list[float]:
    low, width = min(values), (max(values) - min(values)) or 1.0
    return [round(first + (value - low) / width * (last - first), 1) for value in values]
