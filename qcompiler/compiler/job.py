"""Everything that one compile works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qcompiler.data import Dataset
from qcompiler.ir import Model
from qcompiler.lower import Target
from qcompiler.pipeline import PassContext, Recipe
from qcompiler.runtime import Session
from qcompiler.search import Journal, Limits, Metric

__all__ = ["SLOWER", "Job"]

SLOWER = 0.97
"""A model below this fraction of the source's speed is slower; above it the difference may be the clock's."""


@dataclass
class Job:
    """The request, opened: the model, its session, samples, limits and options.

    ``deadline`` is when the choice has to come to an end, by ``time.perf_counter``; ``journal`` keeps what
    it measured. With ``feedback`` (inputs to the outputs that the next sample gets there) ``scoring`` is the whole
    sequence, with the states of the source; :func:`measure` runs a model through it with its own. The search before
    judges a step at a time, with the source's.
    """

    source: Any
    origin: Model
    session: Session
    target: Target
    recipe: Recipe
    calibration: Dataset
    scoring: Dataset
    metric: Metric | None
    max_drop: float | None
    limits: Limits
    context: PassContext
    progress: Callable[[str], None]
    threads: int
    said: dict[str, Any]
    deadline: float
    journal: Journal
    feedback: Mapping[str, str] = field(default_factory=dict)
