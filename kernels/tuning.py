"""Which tile is fastest for a product on this card: measured once, kept by card and shape. Never required."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from qcompiler.caching import cache_folder, keep
from qcompiler.kernels.cards import Card, Tile
from qcompiler.kernels.configurations import candidates
from qcompiler.kernels.registry import Launch

__all__ = ["Shape", "asked", "fastest", "keep_tiles", "known_tiles"]

Shape = tuple[int, ...]
"""Rows, columns, inner size, number of products, room, gathered: see :func:`.configurations.product_tile`."""


def fastest(shape: Shape, card: Card, seconds: Callable[[Card], float]) -> Tile:
    """The tile with which ``seconds``, given the card with that tile alone, is least.

    One that does not compile or launch has ``seconds`` infinite.
    """
    rows, columns, inner, _, room, gathered = shape
    found = candidates(rows, columns, inner, card, room=room, gathered=bool(gathered))
    return min(found, key=lambda tile: seconds(replace(card, tiles={shape: tile})))


def asked(launch: Callable[[Card], Launch], card: Card) -> Shape | None:
    """The shape for which ``launch`` asks for a tile; None for what is no product."""
    seen = _Seen()
    launch(replace(card, tiles=seen))
    return seen.shape


class _Seen(dict[Shape, Tile]):
    """No tiles, and what was asked for."""

    shape: Shape | None = None

    def get(self, key: Shape, default: Tile | None = None) -> Tile | None:  # type: ignore[override]
        self.shape = key
        return default


def known_tiles(name: str) -> dict[Shape, Tile]:
    """What was measured before on the card called ``name``, from ``qcompiler/tiles.json`` in the user's cache folder;
    nothing where it cannot be read."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))[name]
        return {tuple(map(int, key.split())): Tile(**tile) for key, tile in found.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def keep_tiles(name: str, tiles: Mapping[Shape, Tile]) -> None:
    """Add ``tiles`` to what is known of the card; a cache that cannot be written is done without."""
    path = _path()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if not isinstance(found, dict):
        found = {}
    whole = {**known_tiles(name), **tiles}
    found[name] = {" ".join(map(str, key)): asdict(tile) for key, tile in whole.items()}
    keep(path, json.dumps(found, indent=1) + "\n")


def _path() -> Path:
    return cache_folder() / "tiles.json"
