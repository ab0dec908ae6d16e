"""Graphics cards by compute capability: what a kernel may use there, and how fast the card is on paper.

Limits are from NVIDIA's CUDA C++ Programming Guide (technical specifications per compute capability), peaks from the
data sheets of the card that is named, dense, in its SXM or desktop form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ARCHITECTURES", "CARDS", "Card", "Tile", "card_for"]


@dataclass(frozen=True)
class Tile:
    """``m`` by ``n`` results of a product, ``k`` at a time; ``warps`` of 32 threads, ``stages`` loads in flight."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Card:
    """``capability`` is 10 * major + minor; ``shared`` the bytes of shared memory that one block may have.

    ``int8`` and ``half`` are the peaks in operations a second (two a multiply-accumulate), ``bandwidth`` bytes a
    second, ``launch`` the seconds that starting one kernel takes. ``tiles`` are what an autotuner found best, by rows,
    columns, inner size, number of products, room and whether the left side is gathered.
    """

    capability: int
    name: str
    shared: int
    processors: int
    int8: float
    half: float
    bandwidth: float
    launch: float = 2.5e-6
    tiles: Mapping[tuple[int, ...], Tile] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """Its name and architecture."""
        return f"{self.name} (sm_{self.capability})"


CARDS = {
    80: Card(80, "A100", 166_912, 108, 624e12, 312e12, 2.0e12),
    86: Card(86, "RTX 3090", 101_376, 82, 284e12, 142e12, 0.94e12),
    89: Card(89, "L40S", 101_376, 142, 733e12, 362e12, 0.86e12),
    90: Card(90, "H100", 232_448, 132, 1979e12, 989e12, 3.35e12),
    100: Card(100, "B200", 232_448, 148, 4500e12, 2250e12, 8.0e12),
    120: Card(120, "RTX 5090", 101_376, 170, 838e12, 419e12, 1.79e12),
}
"""The card that stands for each architecture."""

ARCHITECTURES = (80, 86, 89, 90)
"""What is compiled ahead of time unless something else is asked for."""


def card_for(capability: int) -> Card | None:
    """The card whose kernels a device of ``capability`` can run: of the same major version, not newer."""
    fitting = [card for key, card in CARDS.items() if key // 10 == capability // 10 and key <= capability]
    return max(fitting, key=lambda card: card.capability, default=None)
