"""What other amounts would have given: error and time by what goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from qcompiler.data import Dataset, Sample
from qcompiler.errors import CalibrationError, QCompilerError
from qcompiler.ir import Model
from qcompiler.onnx_io import open_session
from qcompiler.ops import total_macs
from qcompiler.passes.output_error import expected_outputs, relative_error
from qcompiler.passes.prune.taking import Chosen, without
from qcompiler.runtime import interleaved

__all__ = ["Point", "apart", "judged"]

Key = TypeVar("Key")

_SAMPLES = 32


@dataclass(frozen=True)
class Point:
    """What a pruned model gives against the whole one.

    ``error`` is relative to the outputs, infinite where they do not compare, ``macs`` the share of the products that
    remains. ``speedup`` is the time of the whole model over that of the pruned one, in turn on the first sample; None
    where it was not timed.
    """

    error: float
    macs: float
    speedup: float | None = None

    @property
    def sqnr_db(self) -> float | None:
        """Decibels of all outputs together; None where there is no error, or nothing but."""
        return -10 * math.log10(self.error) if 0 < self.error < math.inf else None


def apart(data: Dataset) -> tuple[Dataset, Dataset]:
    """At most 32 samples that refit and as many others that judge; one sample alone does both."""
    step = max(2, -(-len(data) // _SAMPLES))
    refitting = data.subset(range(0, len(data), step))
    return refitting, data.subset(range(step // 2, len(data), step)) if len(data) > 1 else refitting


def judged(
    model: Model,
    choices: Mapping[Key, Chosen],
    refitting: Iterable[Sample],
    judging: Iterable[Sample],
    *,
    timed: bool = True,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Point]:
    """``model`` without each of ``choices``, refitted on some samples and judged on others, few enough to be kept.

    Raises CalibrationError when none of the others runs.
    """
    source = open_session(model, threads=threads)
    expected = expected_outputs(source, judging)
    if not expected:
        raise CalibrationError(
            "no sample runs that could judge a pruned model", hint="give samples that the model takes"
        )
    whole = total_macs(model.graph)
    found = []
    for done, chosen in enumerate(choices.values()):
        progress(done + 1)
        pruned = without(model, chosen, refitting, threads=threads)
        left = total_macs(pruned.graph) / whole if whole else 1.0
        try:
            session = open_session(pruned, threads=threads)
            error = relative_error(session, expected)
        except QCompilerError:
            found.append(Point(math.inf, left))
            continue
        speedup = None
        if timed:
            first, own = interleaved([source, session], expected[0][0], seconds=0.5)
            speedup = first.least / own.least
        found.append(Point(error, left, speedup))
    return found
