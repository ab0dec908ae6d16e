"""What the page shows of training: losses by epoch, what learned, and what did not and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["training_view"]

Report = Mapping[str, Any]

_WIDTH, _HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 12, 12, 24, 40


def training_view(passes: Sequence[Report]) -> list[dict[str, Any]]:
    """For each pass that trained: its name, epochs, both losses as lines in a picture of 560 by 220, and the lists."""
    found = []
    for item in passes:
        details = item.get("details") or {}
        training = details.get("training")
        if training:
            found.append(training | {
                "name": item["name"], "undone": item["status"] == "rolled-back", "before": details.get("before"),
                "lines": _lines(training["epochs"]),
                "learned": ", ".join(f"{count} {kind}" for kind, count in training["learned"].items()) or "nothing",
                "idle": sorted((training["frozen"] | training["elsewhere"]).items()),
            })  # fmt: skip
    return found


def _lines(epochs: Sequence[Report]) -> dict[str, str]:
    """Points of each line, epochs to the right and logarithms of losses upwards; none with fewer than two epochs."""
    known = {
        key: [(epoch["epoch"], epoch[key]) for epoch in epochs if epoch[key] is not None and epoch[key] > 0]
        for key in ("loss", "held_out")
    }
    values = [math.log(value) for points in known.values() for _, value in points]
    if len(epochs) < 3 or not values:
        return {}
    low, height = min(values), (max(values) - min(values)) or 1.0
    last = max(epoch["epoch"] for epoch in epochs) or 1

    def place(epoch: int, value: float) -> str:
        x = _LEFT + epoch / last * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (math.log(value) - low) / height * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{y:.1f}"

    return {key: " ".join(place(*point) for point in points) for key, points in known.items() if points}
