"""Recipes: an ordered list of passes with options, and the limits that the result has to keep, in TOML.

description = "what it is for"
[gates]
min_sqnr = 20.0
[[pass]]
name = "fuse-conv"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from qcompiler.errors import UsageError
from qcompiler.pipeline.base import Pass

__all__ = ["GATES", "Recipe", "find_pass", "parse_recipe", "with_settings"]

GATES = ("min_sqnr", "min_speedup", "max_drop")
"""Limits that a recipe may set: decibels, ratio of latencies, drop of the metric."""


@dataclass(frozen=True)
class Recipe:
    """Named passes in order. ``needs_data`` is true when one of them calibrates; with ``pack`` the result is packed
    into a container as well. ``target_options`` are options of targets by their names, in a recipe that was
    resolved."""

    name: str
    passes: tuple[Pass, ...]
    description: str = ""
    needs_data: bool = False
    gates: Mapping[str, float] = field(default_factory=dict)
    pack: bool = False
    target_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def resolved(self, choices: Sequence[tuple[str, Mapping[str, Any]]]) -> Recipe:
        """The recipe with the options that passes settled while they ran.

        ``choices`` has an entry for each run of a pass, by name; those of one name in the order of the recipe.
        """
        left: dict[str, list[Mapping[str, Any]]] = {}
        for name, options in reversed(choices):
            left.setdefault(name, []).append(options)
        settled = {name for name, found in left.items() if any(found)}
        passes = [replace(item, **left[item.name].pop()) if item.name in settled else item for item in self.passes]
        return replace(self, passes=tuple(passes))

    def to_toml(self, header: Mapping[str, Any] | None = None) -> str:
        """The recipe with every option written out; ``header`` adds keys in front (target, seed, data)."""
        document: dict[str, Any] = {"name": self.name, "description": self.description, "needs_data": self.needs_data}
        document |= {"pack": True} if self.pack else {}
        document |= {key: value for key, value in (header or {}).items() if value is not None}
        if self.gates:
            document["gates"] = dict(self.gates)
        document["pass"] = [{"name": item.name} | _plain(item.options()) for item in self.passes]
        return tomli_w.dumps(document)


def parse_recipe(text: str, name: str, known: Mapping[str, type[Pass]]) -> Recipe:
    """The recipe in ``text``. Raises UsageError naming ``name`` for whatever is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name} is not TOML: {error}") from None
    passes = []
    entries = document.get("pass", [])
    if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
        raise UsageError(f"recipe {name}: 'pass' has to be a list of tables", hint="write [[pass]]")
    for entry in entries:
        options = dict(entry)
        kind = options.pop("name", None)
        passes.append(find_pass(kind, known).configured(options))
    gates = document.get("gates", {})
    if not isinstance(document.get("target_options", {}), dict):
        raise UsageError(f"recipe {name}: 'target_options' has to be a table")
    if not isinstance(gates, dict) or not isinstance(document.get("name", ""), str):
        raise UsageError(f"recipe {name}: 'gates' has to be a table and 'name' text")
    for key, value in gates.items():
        if key not in GATES or isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(
                f"recipe {name}: gate {key} = {value!r}", hint=f"gates are numbers named {', '.join(GATES)}"
            )
    return Recipe(
        str(document.get("name", Path(name).stem)),
        tuple(passes),
        str(document.get("description", "")),
        bool(document.get("needs_data", False)),
        {key: float(value) for key, value in gates.items()},
        bool(document.get("pack", False)),
        {name: item for name, item in document.get("target_options", {}).items() if isinstance(item, dict)},
    )


def find_pass(name: Any, known: Mapping[str, type[Pass]]) -> type[Pass]:
    """The pass called ``name``. Raises UsageError with the nearest name there is."""
    from difflib import get_close_matches

    if name in known:
        return known[name]
    near = get_close_matches(str(name), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`qcompiler passes` lists them"
    raise UsageError(f"there is no pass '{name}'", hint=hint)


def with_settings(recipe: Recipe, settings: Sequence[str], known: Mapping[str, type[Pass]]) -> Recipe:
    """``recipe`` with options changed as ``PASS.OPTION=VALUE`` says. Raises UsageError."""
    changes: dict[str, dict[str, Any]] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        name, dot, option = path.partition(".")
        if not equals or not dot:
            raise UsageError(
                f"--set {setting} is not PASS.OPTION=VALUE", hint="for instance: --set quantize.ranges=mse"
            )
        find_pass(name, known)
        if name not in {item.name for item in recipe.passes}:
            there = ", ".join(item.name for item in recipe.passes)
            raise UsageError(f"--set {setting}: recipe '{recipe.name}' has no pass '{name}'", hint=f"it has: {there}")
        changes.setdefault(name, {})[option.replace("-", "_")] = value
    passes = tuple(
        type(item).configured(item.options() | changes[item.name]) if item.name in changes else item
        for item in recipe.passes
    )
    return replace(recipe, passes=passes)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as TOML can say them; None is said by leaving the key out."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in options.items() if value is not None
    }
