"""What the page shows of clustering: bits and entropy by layer, how weights lie among the centroids, sizes by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcompiler.report.histogram import bars_of

__all__ = ["clustering_view"]

Report = Mapping[str, Any]

_TICKS = 64  # centroids that are drawn at most


def clustering_view(report: Report) -> list[dict[str, Any]]:
    """For each pass that clustered weights: its name, layers with a picture each, those left, and bytes by stage."""
    found = []
    for item in report["passes"]:
        details = item.get("details") or {}
        layers, sizes = details.get("layers") or [], details.get("bytes")
        if not layers:
            continue
        stages = []
        if sizes:
            stages = [("Weights as they were", sizes["float"]), ("Indices, codebooks and scales in the model",
                      sizes["clustered"]), ("The same, coded by entropy (estimate)", sizes["coded"])]  # fmt: skip
        found.append({
            "name": item["name"], "undone": item["status"] == "rolled-back",
            "layers": [layer | {"bars": bars_of(layer["histogram"]), "ticks": _ticks(layer)} for layer in layers],
            "kept": sorted((details.get("kept") or {}).items()),
            "stages": stages,
            "bits": _mean(layers, "bits"), "entropy": _mean(layers, "entropy"),
        })  # fmt: skip
    return found


def _mean(layers: Sequence[Report], key: str) -> float:
    total = sum(layer["weights"] for layer in layers) or 1
    return float(sum(layer["weights"] * layer[key] for layer in layers) / total)


def _ticks(layer: Report) -> list[float]:
    """Where centroids lie, in percent of the width."""
    levels, low = layer["centroids"], layer["low"]
    width = (layer["high"] - low) or 1.0
    step = -(-len(levels) // _TICKS) or 1
    places = (100 * (level - low) / width for level in levels[::step])
    return [round(place, 2) for place in places if 0 <= place <= 100]
