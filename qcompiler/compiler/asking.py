"""What was asked for, in the words of the compiler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from qcompiler.data import InputSpec
from qcompiler.errors import UsageError
from qcompiler.ir import Model, TensorType
from qcompiler.pipeline import Recipe

__all__ = ["USUAL", "check_feedback", "exclusions", "input_specs", "limits_of", "said_of"]

USUAL = {"min_sqnr": 20.0, "min_speedup": 1.0}
"""Limits of a lossy recipe that sets none."""


def input_specs(model: Model) -> list[InputSpec]:
    """Name, element type and shape of the inputs that a caller has to feed."""
    specs = []
    for value in model.graph.inputs:
        if value.const is None and isinstance(value.type, TensorType) and value.type.dtype is not None:
            specs.append(InputSpec(value.name, value.type.dtype.numpy, value.type.shape))
    return specs


def check_feedback(model: Model, feedback: Mapping[str, str]) -> None:
    """Raises UsageError for a name in ``feedback`` that is no input, or no output, of ``model``."""
    inputs = [value.name for value in model.graph.inputs if value.const is None]
    outputs = [value.name for value in model.graph.outputs]
    for kind, given, known in (("input", list(feedback), inputs), ("output", list(feedback.values()), outputs)):
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
                raise UsageError(f"the model has no {kind} '{name}' to feed back", hint=hint)


def exclusions(recipe: Recipe, patterns: Sequence[str]) -> list[str]:
    """``--exclude`` as a setting of each pass that knows the option. Raises UsageError when none does."""
    if not patterns:
        return []
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    able = [item.name for item in recipe.passes if "exclude" in item.options()]
    if not able:
        raise UsageError(f"recipe '{recipe.name}' has no pass that --exclude could tell something")
    return [f"{name}.exclude={joined}" for name in able]


def limits_of(
    recipe: Recipe, min_sqnr: float | None, min_speedup: float | None, max_drop: float | None
) -> dict[str, float]:
    """The recipe's limits, and over them the caller's. A lossy recipe has limits even if nobody set any."""
    usual = {} if all(item.lossless for item in recipe.passes) else USUAL
    given = {"min_sqnr": min_sqnr, "min_speedup": min_speedup, "max_drop": max_drop}
    limits = usual | dict(recipe.gates) | {name: float(value) for name, value in given.items() if value is not None}
    for name, value in limits.items():
        if not math.isfinite(value):
            raise UsageError(f"{name} cannot be {value}", hint="give a finite number")
    return limits


def said_of(
    data: Any, score: Any, samples: int | None, batch_size: int | None, metric: Any, feedback: Mapping[str, str] | None
) -> dict[str, Any]:
    """What the resolved recipe notes of how it was called, beside its passes and limits."""
    named = {"data": data, "score": score, "metric": metric}
    said: dict[str, Any] = {key: str(item) for key, item in named.items() if isinstance(item, str | Path)}
    if feedback:
        said["feedback"] = [f"{name}={given}" for name, given in feedback.items()]
    return said | {"samples": samples, "batch_size": batch_size}
