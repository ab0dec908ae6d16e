"""What there is to choose from: passes, recipes and targets, those that come with qcompiler and those of plug-ins."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.lower import OrtCpu, OrtCuda, Target, TensorRt
from qcompiler.passes import builtin_passes
from qcompiler.pipeline import Pass, Recipe, parse_recipe
from qcompiler.plugged import KINDS, plugged, problems, spoilt

__all__ = ["find_recipe", "find_target", "passes", "plugin_problems", "recipes", "targets"]


@functools.cache
def passes() -> Mapping[str, type[Pass]]:
    """Every pass by name; a plug-in cannot take the name of one that is there."""
    found = dict(builtin_passes())
    for name, item in plugged("passes").items():
        if isinstance(item, type) and issubclass(item, Pass):
            found.setdefault(item.name, item)
        else:
            spoilt("passes", name, "it is no subclass of qcompiler.Pass")
    return found


@functools.cache
def targets() -> Mapping[str, Target]:
    """Every target by name."""
    found: dict[str, Target] = {item.name: item for item in (OrtCpu(), OrtCuda(), TensorRt())}
    for name, kind in plugged("targets").items():
        try:
            if not issubclass(kind, Target):
                raise TypeError("it is no subclass of qcompiler.Target")
            found.setdefault(kind.name, kind())
        except Exception as error:  # other people's code
            spoilt("targets", name, f"{type(error).__name__}: {error}")
    return found


@functools.cache
def recipes() -> Mapping[str, Recipe]:
    """Every recipe by name. A plug-in's entry point is the text of a recipe, or a function that returns it."""
    found: dict[str, Recipe] = {}
    folder = resources.files("qcompiler") / "recipes"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".toml"):
            recipe = parse_recipe(file.read_text(), file.name, passes())
            found[recipe.name] = recipe
    for name, item in plugged("recipes").items():
        try:
            text = item() if callable(item) else item
            found.setdefault(name, parse_recipe(str(text), name, passes()))
        except UsageError as error:
            spoilt("recipes", name, error.what)
        except Exception as error:  # other people's code
            spoilt("recipes", name, f"{type(error).__name__}: {error}")
    return found


def plugin_problems() -> Mapping[str, str]:
    """Plug-ins that could not be loaded, and why; the others work."""
    passes(), targets(), recipes()
    for kind in KINDS:
        plugged(kind)
    return problems()


def find_recipe(spec: str | Path) -> Recipe:
    """A recipe by name, or from a TOML file. Raises UsageError."""
    text = str(spec)
    if text in recipes():
        return recipes()[text]
    path = Path(spec)
    if path.suffix == ".toml" or path.is_file():
        try:
            return parse_recipe(path.read_text(encoding="utf-8"), text, passes())
        except FileNotFoundError:
            raise UsageError(f"there is no recipe file {path}", hint="check the path") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"recipe file {path} cannot be read: {error}") from None
    raise UsageError(f"there is no recipe '{text}'", hint=_suggest(text, recipes(), "recipes"))


def find_target(name: str) -> Target:
    """A target by name. Raises UsageError when there is none, or when this machine cannot run it."""
    found = targets().get(name)
    if found is None:
        raise UsageError(f"there is no target '{name}'", hint=_suggest(name, targets(), "targets"))
    reason = found.unavailable()
    if reason:
        raise UsageError(f"target '{name}' cannot be used here: {reason}")
    return found


def _suggest(name: str, known: Mapping[str, Any], command: str) -> str:
    near = get_close_matches(name, known, n=1)
    there = ", ".join(known)
    return f"did you mean '{near[0]}'?" if near else f"there are: {there} (`qcompiler {command}`)"
