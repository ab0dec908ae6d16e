"""Operators of a newer operator set than passes are written for, where the target has a kernel for them."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir import Model, clone_model
from qcompiler.onnx_io import upgrade_opset
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rule, Trace, apply_rules

__all__ = ["apply_newer"]


def apply_newer(
    item: Pass,
    model: Model,
    context: PassContext,
    rules: Sequence[Rule],
    operator: str,
    since: int,
    *,
    may_raise: bool,
    but: str = "",
) -> int:
    """Apply ``rules`` of pass ``item``, which make ``operator`` of operator set ``since``; how many rewrites were made.

    Nothing happens where the target has no kernel: a runtime would put the pieces back, slower than they were. The
    model is raised only with ``may_raise``, and only if a copy of it, raised, gives the rules something to do: a newer
    operator set asks for a newer runtime, and the user is told; ``but`` says what else changes.
    """
    own: frozenset[str] = getattr(context.target, "own_operators", frozenset())
    if f"ai.onnx:{operator}" not in own:
        return 0
    there = {(node.domain, node.op_type) for node in model.nodes()}
    if not any(rule.required() <= there for rule in rules):
        return 0
    if model.opset < since:
        trial, trace, before = clone_model(model), Trace(explain=context.trace.explain), model.opset
        wanted = [rule for rule in rules if rule.name not in context.disabled]
        if not may_raise or upgrade_opset(trial, since) or not apply_rules(trial, wanted, trace=trace):
            context.trace.near_misses += trace.near_misses
            return 0
        upgrade_opset(model, since)
        context.warn(
            f"the operator set was raised from {before} to {since} for {operator}, so the result needs a runtime as "
            f"new as this one{but}; `--set {item.name}.raise_opset=false` keeps it"
        )
    return item.apply(model, context, rules)
