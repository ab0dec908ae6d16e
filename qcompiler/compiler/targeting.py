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


def target_for(
    name: str, for_cpu: str | None, arch: Sequence[str], settings: Sequence[str], noted: Mapping[str, Any] | None = None
) -> tuple[Target, list[str]]:
    """The target called ``name``, and those of ``settings`` that are not ``NAME.OPTION=VALUE`` of its own.

    ``for_cpu`` and ``arch`` are as :func:`qcompiler.compile` takes them; ``noted`` is what :func:`chosen_options` gave
    for a recipe, which everything else overrides. Raises UsageError.
    """
    target = _noted(find_target(name), noted or {})
    target = _for_arch(_for_cpu(target, for_cpu), arch)
    own = [setting for setting in settings if setting.startswith(f"{name}.")]
    rest = [setting for setting in settings if not setting.startswith(f"{name}.")]
    changes: dict[str, Any] = {}
    for setting in own:
        path, equals, value = setting.partition("=")
        option = path.removeprefix(f"{name}.").replace("-", "_")
        if not equals or option not in target.options:
            there = ", ".join(target.options) or "none"
            raise UsageError(f"--set {setting}: target '{name}' has no such option", hint=f"it has: {there}")
        changes[option] = convert_option(value, get_type_hints(type(target))[option], path)
    if not changes:
        return target, rest
    try:
        return replace(target, **changes), rest  # type: ignore[type-var]
    except ValueError as error:
        raise UsageError(f"target '{name}': {error}") from None


def chosen_options(target: Target) -> dict[str, Any]:
    """The options of ``target`` that are not the usual ones, as a recipe can note them."""
    if not is_dataclass(target):
        return {}
    usual = {item.name: item.default for item in fields(target)}
    given = {name: getattr(target, name) for name in ("saturates", "architectures", *target.options) if name in usual}
    changed = {name: value for name, value in given.items() if value != usual[name]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def _noted(target: Target, options: Mapping[str, Any]) -> Target:
    known = getattr(target, "__dataclass_fields__", {})
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items() if key in known}
    try:
        return replace(target, **given) if given else target  # type: ignore[type-var]
    except (ValueError, TypeError) as error:
        raise UsageError(f"target_options of the recipe: {error}") from None


def _for_cpu(target: Target, name: str | None) -> Target:
    """``target`` for the processors called ``name``. Raises UsageError for a name or target without such a choice."""
    if name is None:
        return target
    if name not in SATURATES:
        raise UsageError(f"there is no processor '{name}'", hint=f"there are: {', '.join(SATURATES)}")
    if not isinstance(target, OrtCpu):
        raise UsageError(f"target '{target.name}' is not for processors of several kinds", hint="leave out --for-cpu")
    return replace(target, saturates=SATURATES[name])


def _for_arch(target: Target, names: Sequence[str]) -> Target:
    """``target`` for the cards called ``names``. Raises UsageError for a name or target without such a choice."""
    if not names:
        return target
    if not hasattr(target, "architectures"):
        raise UsageError(f"target '{target.name}' is not for cards of several kinds", hint="leave out --arch")
    known = {f"sm_{capability}": capability for capability in CARDS}
    unknown = [name for name in names if name not in known and name != "none"]
    if unknown:
        raise UsageError(f"there is no architecture '{unknown[0]}'", hint=f"there are: {', '.join(known)}, none")
    architectures = tuple(sorted(known[name] for name in set(names) - {"none"}))
    return replace(target, architectures=architectures)  # type: ignore[type-var]
