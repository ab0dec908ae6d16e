"""The graph around a node: who feeds it and who reads it, two steps each way, as boxes and lines of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MOST_IN_A_ROW", "MOST_PICTURES", "STEPS", "neighbourhoods"]

Report = Mapping[str, Any]

MOST_PICTURES = 300
"""Nodes around which the graph is drawn."""

STEPS = 2
"""From a node, each way."""

MOST_IN_A_ROW = 4
"""Neighbours of a step that are drawn; how many more there are is told."""

_WIDE, _HIGH = 150, 34  # of a box
_GAP, _STEP = 12, 58  # between boxes of a row, and from row to row
_SHOWN = 20  # letters of a name that fit


def neighbourhoods(report: Report) -> list[dict[str, Any]]:
    """A picture for each layer of the report, and each other node in its graph that explanations name.

    Keys of each: ``name``, ``of`` (compiled or source: in which model it stands), ``width``, ``height``, ``boxes``
    (x, y, name, op, centre) and ``lines`` (x1, y1, x2, y2), ``more`` (neighbours that are not drawn).
    """
    graph = report.get("graph")
    if not graph:
        return []
    names = dict.fromkeys(item["node"] for item in report.get("layers") or ())
    names |= dict.fromkeys(graph["named"])
    pictures: list[dict[str, Any]] = []
    models = {of: _Indexed(graph[of]) for of in ("compiled", "source")}
    for name in names:
        of = next((of for of, indexed in models.items() if name in indexed.places), None)
        if of is not None and len(pictures) < MOST_PICTURES:
            pictures.append({"name": name, "of": of, **_picture(models[of], models[of].places[name])})
    return pictures


class _Indexed:
    def __init__(self, nodes: Sequence[Report]) -> None:
        self.nodes = nodes
        self.places = {node["name"]: place for place, node in enumerate(nodes)}
        self.before = [list(dict.fromkeys(node["inputs"])) for node in nodes]
        self.after: list[list[int]] = [[] for _ in nodes]
        for place, fed in enumerate(self.before):
            for each in fed:
                if 0 <= each < len(nodes):
                    self.after[each].append(place)


def _picture(indexed: _Indexed, centre: int) -> dict[str, Any]:
    rows, more = [[centre]], 0
    for step in (indexed.before, indexed.after):
        row, seen = [centre], {centre}
        count = "feeders" if step is indexed.before else "readers"
        for _ in range(STEPS):
            near = list(dict.fromkeys(each for place in row for each in step[place] if each not in seen))
            unseen = sum(indexed.nodes[place][count] - len(step[place]) for place in row)
            seen |= set(near)
            more += unseen + max(0, len(near) - MOST_IN_A_ROW)
            row = near[:MOST_IN_A_ROW]
            if not row:
                break
            rows = [row, *rows] if step is indexed.before else [*rows, row]
    widest = max(map(len, rows))
    width = widest * (_WIDE + _GAP) - _GAP
    places: dict[int, tuple[float, float]] = {}
    boxes = []
    for level, row in enumerate(rows):
        left = (width - (len(row) * (_WIDE + _GAP) - _GAP)) / 2
        for position, place in enumerate(row):
            if place in places:  # it both feeds and reads, round a loop of neighbours
                continue
            x, y = left + position * (_WIDE + _GAP), float(level * _STEP)
            places[place] = x, y
            node = indexed.nodes[place]
            boxes.append(
                {"x": x, "y": y, "name": _short(node["name"]), "op": _short(node["op"]), "centre": place == centre}
            )
    lines = [
        {"x1": _middle(places[fed]), "y1": places[fed][1] + _HIGH, "x2": _middle(places[place]), "y2": places[place][1]}
        for place in places
        for fed in indexed.before[place]
        if fed in places
    ]
    return {
        "width": width, "height": len(rows) * _STEP - (_STEP - _HIGH), "boxes": boxes, "lines": lines, "more": more
    }  # fmt: skip


def _middle(corner: tuple[float, float]) -> float:
    return corner[0] + _WIDE / 2


def _short(name: str) -> str:
    """The end of a long name, which tells it from others."""
    return name if len(name) <= _SHOWN else f"…{name[1 - _SHOWN :]}"
