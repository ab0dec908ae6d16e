"""The target of one compile: by name, for a processor or cards, with the options that were set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_type_hints

from qcompiler.compiler.catalog import find_target
from qcompiler.errors import UsageError
from qcompiler.kernels import CARDS
from qcompiler.lower import SATURATES, OrtCpu, Target
from qcompiler.pipeline import convert_option

__all__ = ["chosen_options", "target_for"]

_BUILT_FOR = ("saturates", "architectures")  # what --for-cpu and --arch decide


def target_for(
    name: str, for_cpu: str | None, arch: Sequence[str], settings: Sequence[str], noted: Mapping[str, Any] | None = None
) -> tuple[Target, list[str]]:
    """The target called ``name``, and those of ``settings`` that are not ``NAME.OPTION=VALUE`` of its own.

    ``for_cpu`` and ``arch`` are as :func:`qcompiler.compile` takes them; ``noted`` is what :func:`chosen_options` gave
    for a recipe, which everything else overrides. Raises UsageError.
    """
    target = find_target(name)
    changes: dict[str, Any] = {}
    for option, value in (noted or {}).items():
        if option not in (*_BUILT_FOR, *target.options) or not hasattr(target, option):
            raise UsageError(f"target_options of the recipe: target '{name}' has no option '{option}'")
        changes[option] = _converted(target, option, value, f"target_options.{name}.{option}")
    changes |= _for_cpu(target, for_cpu) | _for_arch(target, arch)
    rest = []
    for setting in settings:
        if not setting.startswith(f"{name}."):
            rest.append(setting)
            continue
        path, equals, value = setting.partition("=")
        option = path.removeprefix(f"{name}.").replace("-", "_")
        if not equals or option not in target.options:
            there = ", ".join(target.options) or "none"
            raise UsageError(f"--set {setting}: target '{name}' has no such option", hint=f"it has: {there}")
        changes[option] = _converted(target, option, value, path)
    if not changes:
        return target, rest
    unknown = [item for item in changes.get("architectures") or () if item not in CARDS]
    if unknown:
        raise UsageError(f"there is no architecture sm_{unknown[0]}", hint=f"there are: {_cards()}")
    try:
        return replace(target, **changes), rest  # type: ignore[type-var]
    except ValueError as error:
        raise UsageError(f"target '{name}': {error}") from None


def chosen_options(target: Target) -> dict[str, Any]:
    """The options of ``target`` that are not the usual ones, as a recipe can note them."""
    if not is_dataclass(target):
        return {}
    usual = {item.name: item.default for item in fields(target)}
    given = {name: getattr(target, name) for name in (*_BUILT_FOR, *target.options) if name in usual}
    changed = {name: value for name, value in given.items() if value != usual[name]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def _converted(target: Target, option: str, value: Any, where: str) -> Any:
    return convert_option(value, get_type_hints(type(target))[option], where)


def _for_cpu(target: Target, name: str | None) -> dict[str, Any]:
    """What changes for the processors called ``name``. Raises UsageError for a name or target without such a choice."""
    if name is None:
        return {}
    if name not in SATURATES:
        raise UsageError(f"there is no processor '{name}'", hint=f"there are: {', '.join(SATURATES)}")
    if not isinstance(target, OrtCpu):
        raise UsageError(f"target '{target.name}' is not for processors of several kinds", hint="leave out --for-cpu")
    return {"saturates": SATURATES[name]}


def _for_arch(target: Target, names: Sequence[str]) -> dict[str, Any]:
    """What changes for the cards called ``names``. Raises UsageError for a name or target without such a choice."""
    if not names:
        return {}
    if not hasattr(target, "architectures"):
        raise UsageError(f"target '{target.name}' is not for cards of several kinds", hint="leave out --arch")
    known = {f"sm_{capability}": capability for capability in CARDS}
    unknown = [name for name in names if name not in known and name != "none"]
    if unknown:
        raise UsageError(f"there is no architecture '{unknown[0]}'", hint=f"there are: {_cards()}, none")
    return {"architectures": tuple(sorted(known[name] for name in set(names) - {"none"}))}


def _cards() -> str:
    return ", ".join(f"sm_{capability}" for capability in CARDS)
