"""distill(): a student learns from a teacher; what comes out is measured against the teacher as by compile()."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qcompiler.compiler.asking import input_specs
from qcompiler.compiler.assess import Measured, measure, statistics_of
from qcompiler.compiler.catalog import find_recipe, find_target, passes
from qcompiler.compiler.document import report_of
from qcompiler.compiler.job import Job
from qcompiler.compiler.recovering import parted
from qcompiler.compiler.result import Result
from qcompiler.compiler.rewriting import name_all
from qcompiler.data import open_dataset, split
from qcompiler.errors import DataError, GateError, LoweringError, UsageError
from qcompiler.ir import Model, clone_model
from qcompiler.onnx_io import importer_of, infer_types, load, open_session, upgrade_opset
from qcompiler.passes.prune import PruneBlocks, PruneChannels
from qcompiler.passes.recover import Recover
from qcompiler.pipeline import Pass, PassContext, PassRecord, Pipeline, Recipe
from qcompiler.runtime import Session
from qcompiler.search import Journal, Limits, find_metric
from qcompiler.training import need_torch

__all__ = ["distill"]

_FEW = 256  # samples by which channels and branches are ranked and refitted: training comes behind it
_PREPARED = (
    "freeze-initializers", "inline-functions", "remove-dead-code", "canonicalize", "simplify", "fold-constants",
    "inline-constant-branches", "simplify-branches", "remove-dead-code",
)  # fmt: skip
"""What is done to a student first. Nothing is fused: batch normalization is trained as such."""


def distill(
    teacher: Any,
    student: Any = None,
    *,
    data: Any,
    score: Any = None,
    width: float = 1.0,
    depth: float = 1.0,
    options: Mapping[str, Any] | None = None,
    samples: int | None = None,
    batch_size: int | None = None,
    metric: str | Callable[..., Any] | None = None,
    max_drop: float | None = None,
    min_sqnr: float | None = None,
    strict: bool = False,
    target: str = "ort-cpu",
    threads: int = 1,
    seed: int = 0,
    unfinished: str | Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Train ``student`` to answer as ``teacher`` does; its report holds it against the teacher.

    Models and data are what :func:`compile` takes, and so are ``samples``, ``batch_size``, ``metric``, the limits,
    ``threads`` and ``seed``. Without ``student`` it is the teacher itself with the share ``depth`` of its residual
    branches and ``width`` of its channels, each above 0 and at most 1, weights inherited. ``options`` are those of the
    pass ``recover``; its loss is that of Hinton et al., 2015, section 2.
    Even samples teach, odd ones score; with ``score``, data of its own, all of ``data`` teach.
    Labels that the data has are learned with the weight ``options["labels"]``.
    With ``unfinished``, a folder for the state after each epoch, a run that was killed goes on to the same result; when
    that is saved, the ``*.pt`` in it may go.
    A student that training makes no better on the
    held-out samples is given back as it was, with a warning.

    Raises UsageError (no torch, a student with another interface, an option that is none), ImportFailure, DataError,
    TrainingError, LoweringError, and with ``strict`` GateError for ``min_sqnr`` (decibels) and ``max_drop``.
    """
    need_torch()
    started = time.perf_counter()
    recover = passes()["recover"].configured(dict(options or {}))
    assert isinstance(recover, Recover)
    for name, share in (("width", width), ("depth", depth)):
        if not 0 < share <= 1:
            raise UsageError(f"the student's {name} is a share of the teacher's, above 0 and at most 1, not {share:g}")
    if student is not None and (width, depth) != (1.0, 1.0):
        raise UsageError("a student is given or made from the teacher, not both", hint="leave out one of the two")
    measure_by = find_metric(metric) if metric is not None else None
    if max_drop is not None and metric is None:
        raise UsageError("--max-drop limits a metric", hint="give --metric top1 or --metric MODULE:CALLABLE")
    progress("reading the models")
    origin = load(teacher)
    as_file = isinstance(teacher, str | Path) and not origin.repairs and not importer_of(teacher)
    session = Session(teacher, threads=threads) if as_file else open_session(origin, threads=threads)
    dataset = open_dataset(data, input_specs(origin), limit=samples, batch_size=batch_size, seed=seed)
    infer_types(origin)
    if metric is None and recover.labels and dataset.labels is not None:
        measure_by = find_metric("top1")  # what learns from labels is judged by them
    calibration, scoring = split(dataset)
    if score is not None:
        calibration, scoring = dataset, open_dataset(score, input_specs(origin), batch_size=batch_size, seed=seed)
    chosen = Recipe("distill", (*_derived(width, depth), recover), "A student learns from a teacher.", True)
    calibration, held_out = parted(calibration, chosen)
    context = PassContext(
        data=calibration, target=find_target(target), seed=seed, threads=threads, source=origin, tell=progress,
        samples=[dataset.sample(i) for i in sorted({0, len(dataset) // 2, len(dataset) - 1})],
        unfinished=None if unfinished is None else Path(unfinished),
        held_out=held_out,
    )  # fmt: skip
    try:
        session.run(context.samples[0])
    except LoweringError as error:
        raise DataError(f"the teacher does not run on the data: {error.what}", hint="give samples it takes") from None
    if len(dataset) == 1 and score is None:
        context.warn("one sample both taught and scored: give more to have the result tested on others")
    model = clone_model(origin) if student is None else load(student)
    from qcompiler.training.teacher import check_alike

    check_alike(origin, model)
    model, records = _prepared(model, context, progress)
    gates = {name: value for name, value in (("min_sqnr", min_sqnr), ("max_drop", max_drop)) if value is not None}
    chosen = Recipe(chosen.name, chosen.passes, chosen.description, True, gates)
    job = Job(
        teacher, origin, session, context.target, chosen, calibration, scoring, measure_by, max_drop,
        Limits(-math.inf if min_sqnr is None else min_sqnr, 0.0), context, progress, threads, {}, math.inf, Journal(),
    )  # fmt: skip
    few = replace(context, data=calibration.subset(range(0, len(calibration), -(-len(calibration) // _FEW))))
    model, more = Pipeline(_derived(width, depth)).run(model, few, progress)
    records += more
    final, learned = _taught(job, model, recover)
    records += learned
    report = report_of(job, statistics_of(origin), final, records, seed)
    if isinstance(data, str | Path):
        report["data"] = str(data)
    report["seconds"] = time.perf_counter() - started
    header = {"seed": seed, "threads": threads, "target": target, "teacher": _path(teacher), "student": _path(student),
              "data": _path(data), "score": _path(score),
              "metric": metric if isinstance(metric, str) else None}  # fmt: skip
    settled = [(record.name, record.resolved) for record in records]
    result = Result(final.model, report, chosen.resolved(settled).to_toml(header), records, threads)
    failed = next((gate for gate in report["gates"] if not gate["passed"]), None)
    if strict and failed is not None and os.environ.get("RANK", "0") == "0":
        raise GateError(f"gate {failed['name']} was not met: {failed['value']} against a limit of {failed['limit']}")
    return result


def _path(item: Any) -> str | None:
    return str(item) if isinstance(item, str | Path) else None


def _derived(width: float, depth: float) -> list[Pass]:
    """What makes the student of the teacher."""
    made: list[Pass] = []
    if depth < 1:
        made.append(PruneBlocks(macs=1e-6, pieces=depth, kinds=("branches",)))
    if width < 1:
        made.append(PruneChannels(ratio=width, spread="uniform"))
    return made


def _prepared(model: Model, context: PassContext, progress: Callable[[str], None]) -> tuple[Model, list[PassRecord]]:
    """The student in a form that can be trained."""
    behind = upgrade_opset(model)
    if behind:
        context.warn(f"the student keeps operator set {model.opset}: {behind}")
    infer_types(model)
    name_all(model)
    known = passes()
    return Pipeline([known[name]() for name in _PREPARED]).run(model, context, progress)


def _taught(job: Job, model: Model, recover: Recover) -> tuple[Measured, list[PassRecord]]:
    """The student after training and after lossless rewriting, or without the training where that was for nothing."""
    lossless = [item for item in find_recipe("lossless").passes if item.lossless]
    before = _measured(job, clone_model(model))
    taught, records = Pipeline([recover]).run(clone_model(model), job.context, job.progress)
    trained = records[-1]
    trained.details["before"] = _told(before)
    found = _measured(job, clone_model(taught))
    # Zeros that were asked for cost something: then limits alone decide.
    reason = "" if recover.reshapes_weights else _why_not(before, found)
    if reason and trained.status == "applied":
        trained.status, trained.reason = "rolled-back", reason
        job.context.warn(f"{trained.name} was rolled back: {reason}")
        taught, found = model, before
    trained.sqnr_db = found.quality.sqnr_db if math.isfinite(found.quality.sqnr_db) else None
    taught, more = Pipeline(lossless).run(taught, job.context, job.progress)
    return _measured(job, taught), records + more


def _measured(job: Job, model: Model) -> Measured:
    return measure(job, model)


def _told(found: Measured) -> dict[str, Any]:
    worst = found.quality.sqnr_db
    return {"sqnr_db": worst if math.isfinite(worst) else None, "metric": found.own_metric}


def _why_not(before: Measured, after: Measured) -> str:
    """In which way training made the student worse; empty where it did not."""
    if before.own_metric is not None and after.own_metric is not None:
        lost = before.own_metric - after.own_metric
        return f"the metric fell from {before.own_metric:.4g} to {after.own_metric:.4g}" if lost > 0 else ""
    one, two = before.quality.sqnr_db, after.quality.sqnr_db
    return f"the student reached {two:.1f} dB instead of {one:.1f} without training" if two < one else ""
