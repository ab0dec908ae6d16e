"""What other packages add by entry points ``qcompiler.KIND``: loaded when it is asked for, and named where broken."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

__all__ = ["KINDS", "plugged", "plugged_names", "problems", "spoilt"]

KINDS = ("importers", "kernels", "passes", "recipes", "targets")
"""What can be added."""

_PROBLEMS: dict[str, str] = {}


@functools.cache
def _points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"qcompiler.{kind}")}


def plugged_names(kind: str) -> tuple[str, ...]:
    """The names of what was added, without loading it."""
    return tuple(_points(kind))


@functools.cache
def _loaded(kind: str, name: str) -> Any:
    try:
        return _points(kind)[name].load()
    except KeyError:
        return None
    except Exception as error:  # other people's code
        spoilt(kind, name, f"{type(error).__name__}: {error}")
        return None


def plugged(kind: str, name: str | None = None) -> Mapping[str, Any]:
    """What was added, by name; with ``name`` that alone. One that fails to load is left out and noted."""
    names = plugged_names(kind) if name is None else (name,)
    found = {each: _loaded(kind, each) for each in names}
    return {each: item for each, item in found.items() if item is not None}


def spoilt(kind: str, name: str, problem: str) -> None:
    """Note what is wrong with something that was added."""
    _PROBLEMS[f"{kind}:{name}"] = " ".join(problem.split())


def problems() -> Mapping[str, str]:
    """What could not be used of what was loaded so far, as ``KIND:NAME``, and why."""
    return dict(_PROBLEMS)
