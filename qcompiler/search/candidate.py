"""What a choice is made of: limits, measured candidates, and the one that was kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from qcompiler.ir import Model
from qcompiler.lower import Form, Group
from qcompiler.search.quality import Quality

__all__ = ["Candidate", "Choice", "Limits"]


@dataclass(frozen=True)
class Limits:
    """What the result has to keep: decibels of the worst output, and time of the source over its own.

    With ``min_speedup`` 0 size is the goal: no group goes back to float for its time.
    """

    min_sqnr: float
    min_speedup: float


@dataclass
class Candidate:
    """One plan, lowered and measured. ``speedup`` is against the model without any of it."""

    name: str
    plan: dict[Group, Form]
    model: Model
    quality: Quality
    speedup: float
    why: str = ""
    kept: bool = False


@dataclass
class Choice:
    """The best candidate; None when the float model is.

    ``reasons`` tell why a group is float, ``sensitivity`` the decibels that it leaves at the outputs when it alone is
    quantized, in its first form.
    """

    best: Candidate | None
    reason: str
    tried: list[Candidate] = field(default_factory=list)
    reasons: dict[Group, str] = field(default_factory=dict)
    sensitivity: dict[Group, float] = field(default_factory=dict)
