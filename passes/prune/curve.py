"""What other amounts would have given: error and time by what goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from qcompiler.data import Sample
from qcompiler.ir import Model
from qcompiler.onnx_io import open_session
from qcompiler.passes.output_error import expected_outputs, relative_error
from qcompiler.passes.prune.taking import Chosen, without
from qcompiler.runtime import interleaved

__all__ = ["Point", "judged"]

Key = TypeVar("Key")


@dataclass(frozen=True)
class Point:
    """What a pruned model gives against the whole one.

    ``sqnr_db`` is of all outputs together; None where they are the same or do not compare. ``speedup`` is the time of
    the whole model over that of the pruned one, in turn on the first sample.
    """

    sqnr_db: float | None
    speedup: float


def judged(
    model: Model,
    choices: Mapping[Key, Chosen],
    refitting: Iterable[Sample],
    judging: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Point]:
    """``model`` without each of ``choices``, refitted on some samples and judged on others, few enough to be kept."""
    source = open_session(model, threads=threads)
    expected = expected_outputs(source, judging)
    found = []
    for done, chosen in enumerate(choices.values()):
        progress(done + 1)
        session = open_session(without(model, chosen, refitting, threads=threads), threads=threads)
        error = relative_error(session, expected)
        first, own = interleaved([source, session], expected[0][0], seconds=0.5)
        found.append(Point(-10 * math.log10(error) if 0 < error < math.inf else None, first.least / own.least))
    return found
