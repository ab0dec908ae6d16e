"""Runs passes in order. After each one the IR verifies; runs of lossless passes are checked on samples against the
model before them, and what broke it is found by bisection over single rewrites, named, and left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from qcompiler.errors import PassError, QCompilerError, UsageError, VerifyError
from qcompiler.ir import Model, clone_model, verify
from qcompiler.onnx_io import infer_types
from qcompiler.pipeline.base import Pass, PassContext
from qcompiler.pipeline.check import Reference
from qcompiler.rewrite import NearMiss, Rewrite, RuleError, Trace

__all__ = ["PassRecord", "Pipeline"]


@dataclass
class PassRecord:
    """What one pass did. ``status`` is applied, no-op, rolled-back or skipped; ``sqnr_db`` is for lossy passes."""

    name: str
    options: dict[str, Any]
    seconds: float = 0.0
    changed: int = 0
    nodes_before: int = 0
    nodes_after: int = 0
    rewrites: dict[str, int] = field(default_factory=dict)
    sqnr_db: float | None = None
    status: str = "no-op"
    reason: str = ""
    trace: list[Rewrite] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)


class Pipeline:
    """An ordered list of passes.

    Raises UsageError when some pass needs what none before it gives.
    """

    def __init__(self, passes: Iterable[Pass]) -> None:
        self.passes = tuple(passes)
        given: set[str] = set()
        for item in self.passes:
            missing = item.needs - given
            if missing:
                raise UsageError(
                    f"pass '{item.name}' needs {', '.join(sorted(missing))}, which no pass before it gives",
                    hint="put the pass that gives it first",
                )
            given |= item.gives

    def run(
        self, model: Model, context: PassContext, progress: Callable[[str], None] = lambda _: None
    ) -> tuple[Model, list[PassRecord]]:
        """The rewritten model and a record of each pass. ``model`` itself may be changed and must not be used again.

        Raises PassError when a lossy pass fails; a lossless one is left out instead and a warning says so.
        """
        records: list[PassRecord] = []
        for lossless, group in groupby(self.passes, lambda item: item.lossless):
            run = _lossless if lossless else _lossy
            model, made = run(model, list(group), context, progress)
            records += made
        return model, records


def _lossy(
    model: Model, passes: Sequence[Pass], context: PassContext, progress: Callable[[str], None]
) -> tuple[Model, list[PassRecord]]:
    records = []
    for item in passes:
        progress(item.name)
        try:
            records.append(_one(item, model, context))
        except VerifyError as error:
            raise PassError(f"pass '{item.name}' left a broken graph: {error.what}") from error
    return model, records


def _lossless(
    model: Model, passes: Sequence[Pass], context: PassContext, progress: Callable[[str], None]
) -> tuple[Model, list[PassRecord]]:
    """Run ``passes`` until the result is right, each time without what was found to break it."""
    reference = _reference(model, context)
    source = clone_model(model)
    left_out: dict[Pass, str] = {}
    blamed: dict[str, str] = {}
    while True:
        context.allowance, context.spent = None, []
        records: list[PassRecord] = []
        guilty: tuple[Pass, str] | None = None
        for item in passes:
            progress(item.name)
            if item in left_out:
                records.append(_skipped(item, model, left_out[item]))
                continue
            try:
                records.append(_one(item, model, context))
            except RuleError as error:
                # A pass that applies rules in its own way may go on with one that was disabled: then the pass goes.
                guilty = (item, error.what if error.rule in blamed else "")
                blamed[error.rule] = error.what
                context.disabled.add(error.rule)
            except Exception as error:  # a pass is other people's code: whatever it raises must not end the compile
                guilty = (
                    item,
                    f"{type(error).__name__}: {error}" if not isinstance(error, QCompilerError) else error.what,
                )
            if guilty is not None:
                break
        if guilty is None:
            progress("checking the numbers")
            wrong = reference.difference(model) if reference is not None else ""
            if not wrong:
                break
            culprit = _bisect(source, [item for item in passes if item not in left_out], context, reference)
            if culprit is None:
                guilty = (passes[-1], wrong)
                left_out.update(dict.fromkeys(passes, f"rolled back with the run of passes: {wrong}"))
            else:
                rule, where = culprit
                blamed[rule] = f"{wrong}, first after '{rule}' at {where}"
                context.disabled.add(rule)
        elif guilty[1]:
            left_out[guilty[0]] = guilty[1]
        model = clone_model(source)
    for record in records:
        for rule, why in blamed.items():
            if rule == record.name or rule in {
                each.name for item in passes if item.name == record.name for each in item.rules
            }:
                record.status = "rolled-back" if not record.changed else record.status
                record.reason = f"rule '{rule}' was rolled back: {why}"
                context.warn(f"pass '{record.name}': {record.reason}")
        if record.status == "rolled-back" and not record.reason.startswith("rule"):
            context.warn(f"pass '{record.name}' was left out: {record.reason}")
    return model, records


def _one(item: Pass, model: Model, context: PassContext) -> PassRecord:
    record = PassRecord(item.name, item.options(), nodes_before=sum(1 for _ in model.nodes()))
    context.trace = Trace(explain=context.trace.explain)
    start = time.perf_counter()
    record.changed = item.run(model, context)
    verify(model)
    if record.changed:
        infer_types(model)
    record.seconds = time.perf_counter() - start
    record.nodes_after = sum(1 for _ in model.nodes())
    record.rewrites = context.trace.counts()
    record.trace = context.trace.rewrites
    record.near_misses = context.trace.near_misses
    record.status = "applied" if record.changed else "no-op"
    return record


def _skipped(item: Pass, model: Model, why: str) -> PassRecord:
    count = sum(1 for _ in model.nodes())
    return PassRecord(
        item.name, item.options(), nodes_before=count, nodes_after=count, status="rolled-back", reason=why
    )


def _reference(model: Model, context: PassContext) -> Reference | None:
    """The source's outputs on the samples; None, with a warning, when there are none or it does not run on them."""
    if not context.samples:
        context.warn("the rewrites were not checked on samples, because there are none")
        return None
    try:
        return Reference(model, context.samples, context.threads)
    except QCompilerError as error:
        context.warn(f"the rewrites were not checked: the source model itself does not run: {error.what}")
        return None


def _bisect(
    source: Model, passes: Sequence[Pass], context: PassContext, reference: Reference | None
) -> tuple[str, str] | None:
    """The rule, and the node, of the first rewrite after which the numbers are wrong."""
    total = len(context.spent)

    def wrong_after(count: int) -> tuple[bool, list[tuple[str, str]]]:
        model = clone_model(source)
        context.allowance, context.spent = count, []
        try:
            for item in passes:
                item.run(model, context)
            verify(model)
        except QCompilerError:
            return True, context.spent
        return bool(reference and reference.difference(model)), context.spent

    good, bad = 0, total
    if wrong_after(0)[0]:
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if wrong_after(middle)[0] else (middle, bad)
    wrong, spent = wrong_after(bad)
    context.allowance = None
    if not wrong or not spent:
        return None
    return spent[-1]
