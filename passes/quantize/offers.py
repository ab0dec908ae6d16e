"""What quantizing passes hand on: for each group of the target the forms that it may take, best first."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from qcompiler.errors import UsageError
from qcompiler.ir import Model
from qcompiler.lower import WEIGHTS, Form, Group, Target
from qcompiler.pipeline import Pass, PassContext

__all__ = ["candidates", "offer"]


def candidates(item: Pass, model: Model, context: PassContext, kind: str) -> list[Group]:
    """The groups of ``model`` that the target has in forms of ``kind`` and that the user did not exclude.

    ``item`` has an option ``exclude``, a regular expression on node names and operator types. Groups are the same
    objects for every pass of a recipe; why a node is in none is noted in the fact ``refused``. Raises UsageError
    without a target, or for an expression that is none.
    """
    target: Target | None = context.target
    if target is None:
        raise UsageError(f"pass '{item.name}' needs a target", hint="give --target")
    pattern = item.expression("exclude")
    if "forms" not in context.facts:
        groups, context.facts["refused"] = target.groups(model)
        context.facts["all_groups"], context.facts["forms"] = groups, {}
    found = []
    for group in context.facts["all_groups"]:
        if kind not in target.kinds(group):
            continue
        if pattern is not None and _excluded(group, pattern):
            context.facts["refused"][group.anchor] = "the user excluded it"
        elif kind == WEIGHTS and not _finite(group):
            context.facts["refused"][group.anchor] = "its weights hold NaN or infinity"
        else:
            found.append(group)
    return found


def offer(context: PassContext, groups: list[Group], form: Callable[[Group], Form]) -> int:
    """Add a form for each of ``groups`` behind those that it has already; how many there are."""
    for group in groups:
        context.facts["forms"].setdefault(group, []).append(form(group))
    return len(groups)


def _finite(group: Group) -> bool:
    held = group.weight.constant if group.weight is not None else None
    return held is None or not held.dtype.is_float or bool(np.isfinite(held.numpy().astype(np.float32)).all())


def _excluded(group: Group, pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(text) for node in group.nodes for text in (node.name, node.op_type) if text)
