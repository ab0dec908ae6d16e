"""Points in a plane, placed for an SVG of a fixed size: what is better lies to the right and further up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Spot", "spread", "unbeaten"]

_WIDTH, _HEIGHT = 560, 260  # of a picture, in units of its own; inside of it a margin for the labels of both axes
_LEFT, _RIGHT, _TOP, _BOTTOM = 20, 20, 34, 44
_LETTERS = 24  # of a name that is drawn


@dataclass(frozen=True)
class Spot:
    """A point: how far to the right, how far up, what it is called, and whether it is one of the best."""

    across: float
    up: float
    name: str
    best: bool


def unbeaten(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Of each of ``points``, more is better in both, whether no other is as good in both and better in one. A point
    that lacks a figure neither beats nor counts."""
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return [
        x is not None and y is not None and not any(a >= x and b >= y and (a, b) != (x, y) for a, b in known)
        for x, y in points
    ]


def spread(spots: Sequence[Spot]) -> dict[str, Any]:
    """``dots`` (x, y, spot, label), ``line`` (through the best, from left to right), ``ends`` of axes, and sizes."""
    xs, ys = [spot.across for spot in spots], [spot.up for spot in spots]
    dots: list[dict[str, Any]] = [
        {
            "x": _place(spot.across, min(xs), max(xs), _LEFT, _WIDTH - _RIGHT),
            "y": _place(spot.up, min(ys), max(ys), _HEIGHT - _BOTTOM, _TOP),
            "spot": spot,
        }
        for spot in spots
    ]
    named: dict[tuple[float, float], str] = {}
    for dot in dots:  # points in one place share a label
        place = dot["x"], dot["y"]
        named[place] = ", ".join(filter(None, (named.get(place, ""), dot["spot"].name)))
    for dot in dots:
        name = named.pop((dot["x"], dot["y"]), "")
        dot["label"] = name if len(name) <= _LETTERS else f"…{name[1 - _LETTERS :]}"
        dot["side"] = "end" if dot["x"] > _WIDTH / 2 else "start"  # to the middle, where there is room
    line = sorted((dot["x"], dot["y"]) for dot in dots if dot["spot"].best)
    return {
        "dots": dots,
        "line": " ".join(f"{x},{y}" for x, y in line),
        "ends": {"left": min(xs), "right": max(xs), "bottom": min(ys), "top": max(ys)},
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
    }


def _place(value: float, low: float, high: float, first: float, last: float) -> float:
    return round(first + ((value - low) / (high - low) if high > low else 0.5) * (last - first), 1)
