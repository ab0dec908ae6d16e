"""Sizes of tiles, by kernel, architecture and the shape of the call. A table and a rule, no measurement.

Tiles are what one block of threads computes. Large products take large tiles, so that each element that is loaded is
used often; few rows take flat ones, so that every processor of the card has something to do. An autotuner may know
better (:mod:`qcompiler.kernels.tuning`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qcompiler.kernels.cards import Card, Tile

__all__ = ["HEAVY", "LARGEST", "READING", "candidates", "product_tile", "product_tiles"]

LARGEST, READING, HEAVY = 128 * 256, 128 * 128, 64 * 128
"""Results of a tile at most: of any, of one whose epilogue reads a residual, of one that computes an exponential. With
more of them threads run out of registers."""

_PRODUCTS = {
    80: (Tile(128, 128, 128, 8, 4), Tile(64, 128, 128, 4, 4), Tile(64, 64, 128, 4, 4), Tile(16, 64, 128, 4, 4)),
    86: (Tile(128, 128, 64, 8, 3), Tile(64, 128, 64, 4, 4), Tile(64, 64, 64, 4, 4), Tile(16, 64, 128, 4, 4)),
    90: (
        Tile(128, 256, 128, 8, 3),
        Tile(128, 128, 128, 8, 4),
        Tile(64, 128, 128, 4, 4),
        Tile(64, 64, 128, 4, 4),
        Tile(16, 64, 128, 4, 4),
    ),
    100: (Tile(128, 128, 128, 8, 4), Tile(64, 128, 128, 4, 4), Tile(64, 64, 128, 4, 4), Tile(16, 64, 128, 4, 4)),
}
"""From the largest to the one for few rows. The last but one is the smallest for many."""

_HELD, _HELD_120 = 32, 16  # results a thread that a heavy epilogue works on without running out of registers
_SHRINKS = 32  # the least inner size that the instruction for int8 takes


def product_tiles(card: Card) -> tuple[Tile, ...]:
    """Every tile of a product that may be used on ``card``."""
    return _PRODUCTS[max(key for key in _PRODUCTS if key <= card.capability and (key < 90 or card.shared > 200_000))]


def product_tile(
    rows: int, columns: int, inner: int, count: int, card: Card, *, room: int = LARGEST, gathered: bool = False
) -> Tile:
    """What was measured on ``card``, or the largest tile of which there are enough for all of its processors.

    Of ``count`` products at once. ``room`` is how many results its epilogue lets a tile have. A product whose left side
    is ``gathered`` element by element takes the smallest tiles.
    """
    known = card.tiles.get((rows, columns, inner, count, room, int(gathered)))
    if known is not None:
        return known
    fitting = candidates(rows, columns, inner, card, room=room, gathered=gathered)
    for tile in fitting:
        if count * -(-rows // tile.m) * -(-columns // tile.n) >= card.processors:
            return tile
    return fitting[-1]


def candidates(rows: int, columns: int, inner: int, card: Card, *, room: int, gathered: bool) -> list[Tile]:
    """The tiles that :func:`product_tile` chooses from, the largest first."""
    fitting = list(_shapes(product_tiles(card), rows, columns))
    if gathered:  # addresses take registers too
        fitting = [replace(tile, warps=2 * tile.warps) if room <= HEAVY else tile for tile in fitting[-1:]]
    else:
        fitting = [_spread(tile, card) if room <= HEAVY else tile for tile in fitting if tile.m * tile.n <= room]
    found = []
    for tile in fitting:
        k = tile.k
        while k > _SHRINKS and k // 2 >= inner:
            k //= 2
        found.append(replace(tile, k=k))
    return found


def _spread(tile: Tile, card: Card) -> Tile:
    """``tile`` by enough threads for a heavy epilogue."""
    held = _HELD_120 if card.capability >= 120 else _HELD
    warps = tile.warps
    while tile.m * tile.n > 32 * warps * held:
        warps *= 2
    return replace(tile, warps=warps)


def _shapes(tiles: tuple[Tile, ...], rows: int, columns: int) -> Iterator[Tile]:
    """Tiles that are not mostly empty; the last of all for few rows."""
    if rows > 16:
        yield from (tile for tile in tiles[:-2] if tile.m < 2 * rows and tile.n < 2 * columns)
        yield tiles[-2]
    else:
        yield tiles[-1]
