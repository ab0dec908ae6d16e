"""The work of a compile: passes, the choice of what to quantize, measurement and the report."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qcompiler.compiler.asking import USUAL
from qcompiler.compiler.assess import Measured, measure, speed_beside, statistics_of
from qcompiler.compiler.document import decision_of, report_of, trace_of
from qcompiler.compiler.job import SLOWER, Job
from qcompiler.compiler.particulars import energy_record, graph_record, times_record, weight_records
from qcompiler.compiler.recovering import before_and_behind, trained
from qcompiler.compiler.result import Result
from qcompiler.compiler.targeting import chosen_options
from qcompiler.errors import LoweringError, QCompilerError, UsageError
from qcompiler.ir import Model, clone_model
from qcompiler.lower import Artifacts
from qcompiler.onnx_io import infer_types, upgrade_opset
from qcompiler.pipeline import Pass, PassRecord, Pipeline
from qcompiler.search import Candidate, Choice, choose

__all__ = ["name_all", "rewritten"]

_PROBES = 128  # calibration samples on which candidates are judged
_EXACT = 40.0  # decibels that a lossless rewrite keeps on every sample, whatever the order of additions
_NOTHING = 1e-5  # a difference below this is none, however small the output itself
_FARTHEST = 10.0  # decibels by which the bar rises at once
_DIGITS = 1.0  # decibels that float16 may cost beside integers
_TRIES = 3  # of choosing again with a higher bar when held-out samples fall below it


def rewritten(job: Job, seed: int) -> Result:
    """The source after the recipe's passes, or what of it keeps the limits, and the report."""
    model = clone_model(job.origin)
    behind = upgrade_opset(model)
    if behind:
        job.context.warn(f"the model keeps operator set {model.opset}: {behind}")
    infer_types(job.origin)
    before = statistics_of(job.origin)
    infer_types(model)
    name_all(model)
    passes, tail = before_and_behind(job.recipe.passes)
    first = next((place for place, item in enumerate(passes) if item.changes_numbers), len(passes))
    model, records = Pipeline(passes[:first]).run(model, job.context, job.progress)
    job.target.accepts(model)
    lossless = measure(job, model)
    if first < len(passes) and _is_exact(lossless):
        model, lossless, more = _changed(job, model, lossless, passes[first:])
        records += more
    final, choice = lossless, None
    kept = model
    changed = any(record.sqnr_db is not None and record.status == "applied" for record in records)
    if not changed and not _is_exact(lossless):
        kept = job.origin
        job.context.warn(
            f"the rewritten float model reached {lossless.quality.sqnr_db:.1f} dB on the data, so the source was kept"
        )
        final = measure(job, kept)
    elif job.context.facts.get("forms") is not None:
        final, choice = _choose(job, model, lossless, changed)
        if tail and choice.best is not None:
            final, more = trained(job, final, tail)
            records += more
        records += [PassRecord(item.name, item.options(), status="skipped", reason="the model stays float")
                    for item in tail if choice.best is None]  # fmt: skip
        kept = final.model
    if final is lossless and lossless.is_slower:
        again = measure(job, model)
        if again.is_slower:
            kept = job.origin
            job.context.warn(
                f"the rewritten model ran at {again.speedup:.2f} x the source's speed{_how(job)}, so the source was"
                " kept as it is"
            )
            final = measure(job, kept)
    for record in records:
        if kept is job.origin and record.status == "applied":
            record.status, record.reason = "rolled-back", "the source was kept as it is"
        elif record.status == "applied" and record.name.startswith("quantize"):
            worst = final.quality.sqnr_db
            record.sqnr_db = worst if math.isfinite(worst) else None
    report = report_of(job, before, final, records, seed)
    if choice is not None:
        report |= decision_of(job, model, choice)
    report |= _particulars(job, kept, choice, records, report)
    artifacts = _artifacts(job, kept)
    if artifacts is not None:
        report |= artifacts.record()
    report["warnings"] = list(job.context.warnings)
    header = {"target": job.target.name, "seed": seed, "threads": job.threads, **job.said}
    if options := chosen_options(job.target):
        header["target_options"] = {job.target.name: options}
    settled = [(record.name, record.resolved if record.status in ("applied", "no-op") else {}) for record in records]
    text = job.recipe.resolved(settled).to_toml(header)
    return Result(kept, report, text, records, job.threads, job.recipe.pack, job.target, artifacts)


def _particulars(
    job: Job, model: Model, choice: Choice | None, records: list[PassRecord], report: dict[str, Any]
) -> dict[str, Any]:
    """What the report shows beside the figures."""
    job.progress("looking at the result")
    found = times_record(job, model) | energy_record(job, model)
    if choice is not None and choice.best is not None:
        found |= {"weights": weight_records(choice.best.plan)}
    named = [layer["node"] for layer in report.get("layers", ())]
    missed = trace_of(records)["near_misses"]
    named += [label.partition(" ")[2] or label for label in (miss["node"] for miss in missed)]
    return found | graph_record(job.origin, model, named)


def _artifacts(job: Job, model: Model) -> Artifacts | None:
    """What the target needs beside the result; where nothing can be made, a warning says so."""
    try:
        seen = itertools.chain(job.scoring, job.calibration, job.context.held_out or ())
        made = job.target.artifacts(model, seen, job.progress)
    except LoweringError as error:
        advice = f" ({error.hint})" if error.hint else ""
        job.context.warn(f"{error.what}{advice}")
        return None
    for problem in () if made is None else made.problems:
        job.context.warn(problem)
    return made


def _changed(
    job: Job, model: Model, lossless: Measured, passes: Sequence[Pass]
) -> tuple[Model, Measured, list[PassRecord]]:
    """The model after ``passes``, of which some change its numbers, or after the others alone.

    What those made has to keep the limits and be no slower than the model before; else they are rolled back.
    """
    changing = {item.name for item in passes if item.changes_numbers}
    reason, made, found, records = "", model, lossless, list[PassRecord]()
    for attempt in range(_TRIES):
        job.context.facts.clear()
        try:
            made, records = Pipeline(passes).run(clone_model(model), job.context, job.progress)
            job.target.accepts(made)
            found = measure(job, made)
        except UsageError:  # what was asked for cannot be done: not for us to leave out
            raise
        except QCompilerError as error:
            reason = error.what
            break
        reason, deficit = _shortfall(job, model, lossless, made, found)
        if not deficit or job.context.min_sqnr is None or not any(item.aims for item in passes):
            break
        if attempt < _TRIES - 1:
            job.context.min_sqnr += min(deficit, _FARTHEST) + 0.5
            job.progress(f"{reason}; once more")
    worst = found.quality.sqnr_db
    for record in records:
        if record.name in changing and record.status == "applied":
            record.sqnr_db = worst if math.isfinite(worst) else None
    if not reason:
        return made, found, records
    known = {record.name for record in records}
    records += [PassRecord(item.name, item.options(), status="applied") for item in passes
                if item.name in changing - known]  # fmt: skip
    for record in records:
        if record.name in changing and record.status == "applied":
            record.status, record.reason = "rolled-back", reason
            job.context.warn(f"{record.name} was rolled back: {reason}")
    job.context.facts.clear()
    rest = [item for item in passes if item.name not in changing]
    model, others = Pipeline(rest).run(model, job.context, job.progress)
    again = measure(job, model) if others else lossless
    return model, again, [record for record in records if record.name in changing] + others


def _shortfall(job: Job, model: Model, lossless: Measured, made: Model, found: Measured) -> tuple[str, float]:
    """Which limit ``made`` misses, in words, and by how many decibels, or what they are worth; nothing where none."""
    drop, worst = found.drop, found.quality.sqnr_db
    if worst < job.limits.min_sqnr:
        return f"the model reached {worst:.1f} dB, below {job.limits.min_sqnr:g}", job.limits.min_sqnr - worst
    if job.max_drop is not None and drop is not None and drop > job.max_drop:
        return f"the metric dropped by {drop:.4g}, more than {job.max_drop:g}", 1.5
    if job.limits.min_speedup >= 1.0 and found.speedup < lossless.speedup * SLOWER:
        ratio = speed_beside(job, model, made)
        if ratio < SLOWER:
            return f"the model runs at {ratio:.2f} x the speed that it has without{_how(job)}", 0.0
    return "", 0.0


def _how(job: Job) -> str:
    """How a speed is known, where it was not measured."""
    return "" if job.target.timed_here else " by estimate"


def _is_exact(lossless: Measured) -> bool:
    """True when lossless rewriting kept the numbers on all of the data; the passes were checked on a few samples."""
    outputs = lossless.quality.outputs.values()
    agreement = lossless.quality.agreement
    if agreement is not None and agreement < 0.99:
        return False
    return all(item.sqnr_db >= _EXACT or (item.comparable and item.max_abs <= _NOTHING) for item in outputs)


def name_all(model: Model) -> None:
    """Give every node and every constant a name of its own: reports and profiles tell them by name."""
    nodes: set[str] = set()
    for node in model.nodes():
        node.name = _unlike(node.name or next((v.name for v in node.outputs if v.name), node.op_type), nodes)
    constants: set[str] = set()
    for graph in model.graphs():
        for value in graph.constants:
            if not value.is_input and not value.is_output:
                value.name = _unlike(value.name or "constant", constants)


def _unlike(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    taken.add(name)
    return name


def _choose(job: Job, model: Model, lossless: Measured, changed: bool) -> tuple[Measured, Choice]:
    """The best integer form on held-out samples, or ``lossless``. The bar on the probes rises with every miss.

    Probes are held against ``model``. Where that is ``changed``, the user's limit is spent on it, and the usual one
    is for what is lost beside.
    """
    job.journal.keep(model, {"sqnr_db": None, "speedup": lossless.speedup, "groups": 0}, first=True)
    probes = job.calibration.subset(range(min(_PROBES, len(job.calibration))))
    # Between integers and float the question is which is faster; what the user asked for is a gate of the result.
    limits = replace(job.limits, min_speedup=min(1.0, job.limits.min_speedup))
    if changed:
        limits = replace(limits, min_sqnr=max(limits.min_sqnr, USUAL["min_sqnr"]))
    missed = ""
    for _ in range(_TRIES):
        choice = choose(
            model,
            job.context.facts["forms"],
            job.target,
            probes,
            limits,
            threads=job.threads,
            budget=max(0.0, job.deadline - time.perf_counter()),
            journal=job.journal,
            executor=job.context.executor,
            progress=job.progress,
        )
        if choice.best is None:
            choice.reason = missed or choice.reason
            break
        job.progress("scoring on samples that did not calibrate")
        try:
            found = measure(job, choice.best.model)
        except UsageError as error:  # it could judge the source
            missed = f"the metric cannot judge it: {error.what}"
            choice.reason = missed
            break
        found = _safest(job, model, choice.best, found)
        deficit = job.limits.min_sqnr - found.quality.sqnr_db
        drop = found.drop
        if deficit > 0:
            choice.reason = (
                f"on held-out samples it reaches {found.quality.sqnr_db:.1f} dB, below {job.limits.min_sqnr:g}"
            )
        elif job.max_drop is not None and drop is not None and drop > job.max_drop:
            choice.reason = f"the metric drops by {drop:.4g}, more than {job.max_drop:g}"
            deficit = 3.0
        elif job.limits.min_speedup >= 1.0 and found.speedup < lossless.speedup:
            choice.reason = (
                f"the lossless float model is faster ({lossless.speedup:.2f} x against {found.speedup:.2f} x)"
            )
            break
        else:
            return found, choice
        missed = choice.reason
        limits = replace(limits, min_sqnr=max(limits.min_sqnr, choice.best.quality.sqnr_db) + deficit + 0.5)
    choice.best = None
    for candidate in choice.tried:
        candidate.kept = False
    job.context.warn(f"the model stays float: {choice.reason}")
    return lossless, choice


def _safest(job: Job, model: Model, best: Candidate, found: Measured) -> Measured:
    """``found``, or the same plan lowered without what trades digits for time, where that cost too many of them."""
    safer = job.target.safer()
    if safer is None:
        return found
    plain = measure(job, safer.lower(model, best.plan))
    lost = plain.quality.sqnr_db - found.quality.sqnr_db
    if not lost > _DIGITS:
        return found
    job.context.warn(f"float16 cost {lost:.1f} dB, so that what stays float stays float32")
    best.model = plain.model
    return plain
