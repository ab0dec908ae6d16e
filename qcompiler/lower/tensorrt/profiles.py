"""Optimization profiles: for each input with a dynamic axis the shapes that an engine takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.ir import Model, TensorType, Value

__all__ = ["Shapes", "dynamic_inputs", "parse_profile", "profile_of_samples"]

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""By input: the smallest, the usual and the largest shape."""

_FORM = "INPUT:MIN,OPT,MAX with shapes like 1x3x640x640, several inputs with ';' between"


def dynamic_inputs(model: Model) -> dict[str, tuple[Any, ...]]:
    """Inputs that a caller feeds and whose sizes are not all numbers, by name, with their shapes."""
    found: dict[str, tuple[Any, ...]] = {}
    for value in model.graph.inputs:
        if value.const is None and _is_dynamic(value):
            assert value.shape is not None
            found[value.name] = tuple(value.shape)
    return found


def _is_dynamic(value: Value) -> bool:
    if not isinstance(value.type, TensorType):
        return False
    if value.shape is None:
        raise UsageError(f"input '{value.name}' has no shape, and an engine needs its rank")
    return not all(isinstance(size, int) for size in value.shape)


def parse_profile(text: str, model: Model) -> Shapes:
    """The profile that ``text`` describes: ``INPUT:MIN,OPT,MAX`` for each dynamic input, shapes like 1x3x640x640.

    One shape stands for all three. Raises UsageError for text of another form, for inputs that the model does not have
    and shapes that it does not take, and where a dynamic input is missing.
    """
    dynamic = dynamic_inputs(model)
    found: Shapes = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, colon, shapes = part.rpartition(":")
        if not colon:
            raise UsageError(f"profile '{part}' is not {_FORM}")
        if name not in dynamic:
            there = ", ".join(dynamic) or "none"
            raise UsageError(f"profile: the model has no dynamic input '{name}'", hint=f"it has: {there}")
        if name in found:
            raise UsageError(f"the profile says two things of input '{name}'")
        try:
            sizes = [tuple(int(size) for size in shape.split("x")) for shape in shapes.split(",")]
        except ValueError:
            raise UsageError(f"profile '{part}' is not {_FORM}") from None
        if len(sizes) not in (1, 3):
            raise UsageError(f"profile of '{name}' has {len(sizes)} shapes, not 1 or 3", hint=_FORM)
        low, usual, high = sizes if len(sizes) == 3 else sizes * 3
        _check(name, dynamic[name], (low, usual, high))
        found[name] = (low, usual, high)
    missing = [name for name in dynamic if name not in found]
    if missing:
        raise UsageError(f"the profile says nothing of input '{missing[0]}', which is dynamic", hint=_FORM)
    return found


def _check(name: str, wanted: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    for shape in shapes:
        if len(shape) != len(wanted):
            raise UsageError(f"profile of '{name}' has {len(shape)} axes where the input has {len(wanted)}")
        for size, fixed in zip(shape, wanted, strict=True):
            if size < 1 or (isinstance(fixed, int) and size != fixed):
                said = f"{fixed} there" if isinstance(fixed, int) else "1 or more"
                raise UsageError(f"profile of '{name}': a size of {size} where the input has {said}")
    for low, usual, high in zip(*shapes, strict=True):
        if not low <= usual <= high:
            raise UsageError(f"profile of '{name}': sizes {low}, {usual}, {high} do not grow from MIN to OPT to MAX")


def profile_of_samples(model: Model, samples: Iterable[Mapping[str, Any]]) -> Shapes:
    """The profile that takes every one of ``samples``: smallest and largest size of each axis, and the shape that came
    most often between them."""
    names = dynamic_inputs(model)
    seen: dict[str, Counter[tuple[int, ...]]] = {name: Counter() for name in names}
    if names:
        for sample in samples:
            for name in names:
                seen[name][tuple(sample[name].shape)] += 1
    found: Shapes = {}
    for name, shapes in seen.items():
        if not shapes:
            continue
        axes = list(zip(*shapes, strict=True))
        usual = shapes.most_common(1)[0][0]
        found[name] = (tuple(map(min, axes)), usual, tuple(map(max, axes)))
    return found
