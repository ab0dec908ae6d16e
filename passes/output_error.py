"""How far the outputs of a changed model are from those of the model that it was made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from qcompiler.data import Sample
from qcompiler.errors import QCompilerError
from qcompiler.runtime import Session

__all__ = ["expected_outputs", "is_compared", "relative_error", "relative_errors"]


def expected_outputs(session: Session, samples: Iterable[Sample]) -> list[tuple[Sample, dict[str, Any]]]:
    """Each sample that runs, with its outputs. All are kept, so that ``samples`` have to be few."""
    found = []
    for sample in samples:
        try:
            found.append((sample, session.run(sample)))
        except QCompilerError:
            continue
    return found


def is_compared(output: Any) -> bool:
    """True for an output whose error :func:`relative_errors` tells: an array of numbers or of truth values."""
    return isinstance(output, np.ndarray) and output.dtype.kind in "fiub"


def relative_error(session: Session, expected: Sequence[tuple[Sample, dict[str, Any]]]) -> float:
    """:func:`relative_errors` summed over outputs; infinite where shapes differ or nothing finite comes out."""
    total = sum(relative_errors(session, expected).values())
    return total if np.isfinite(total) else float("inf")


def relative_errors(session: Session, expected: Sequence[tuple[Sample, dict[str, Any]]]) -> dict[str, float]:
    """Squared error over squared size of each float output, of others the share that differs; infinite where shapes do.

    What is not finite in ``expected`` is left out. Raises LoweringError when ``session`` does not run.
    """
    errors: dict[str, float] = {}
    powers: dict[str, float] = {}
    for sample, outputs in expected:
        found = session.run(sample)
        for name, array in outputs.items():
            if not is_compared(array):
                continue
            if array.shape != found[name].shape:
                errors[name], powers[name] = float("inf"), 1.0
                continue
            if array.dtype.kind != "f":  # answers: how many are others
                errors[name] = errors.get(name, 0.0) + float((array != found[name]).sum())
                powers[name] = powers.get(name, 0.0) + array.size
                continue
            there = np.isfinite(array)
            real = array[there].astype(np.float64)
            errors[name] = errors.get(name, 0.0) + float(np.square(real - found[name][there]).sum())
            powers[name] = powers.get(name, 0.0) + float(np.square(real).sum())
    return {name: errors[name] / (powers[name] or 1.0) for name in errors}
