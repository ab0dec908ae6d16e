"""Training within a compile: what it judges by, which passes run on the chosen model, and whether that paid."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

from qcompiler.compiler.assess import Measured, measure, speed_beside
from qcompiler.compiler.job import SLOWER, Job
from qcompiler.data import Dataset
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir import clone_model
from qcompiler.passes.recover import Recover
from qcompiler.pipeline import Pass, PassRecord, Pipeline, Recipe
from qcompiler.training import has_torch, hold_out

__all__ = ["before_and_behind", "forget_training", "parted", "trained"]


def parted(calibration: Dataset, recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """What calibrates, and where a pass learns what judges it: nothing else of the recipe may have seen that."""
    shares = [item.hold_out for item in recipe.passes
              if isinstance(item, Recover) and (has_torch() or not item.optional)]  # fmt: skip
    learn, judge = hold_out(len(calibration), max(shares, default=0.0))
    if learn == judge:  # too few to do without some, or nobody asks
        return calibration, None
    return calibration.subset(learn), calibration.subset(judge)


def before_and_behind(passes: Sequence[Pass]) -> tuple[list[Pass], list[Pass]]:
    """``passes`` up to the choice between forms, and those at their end that work on what was chosen.

    Raises UsageError where something was decided for values that a later pass would take away.
    """
    lossy = ""
    body: list[Pass] = []
    tail: list[Pass] = []
    for item in passes:
        if lossy and item.takes_integers:
            tail.append(item)
            continue
        if lossy and item.changes_numbers:
            raise UsageError(f"pass '{item.name}' stands behind '{lossy}'", hint="let it stand in front")
        if tail:
            raise UsageError(f"pass '{tail[0].name}' stands in front of '{item.name}'", hint="let it come last")
        if not item.lossless and not item.changes_numbers:
            lossy = lossy or item.name
        body.append(item)
    return body, tail


def trained(job: Job, final: Measured, tail: Sequence[Pass]) -> tuple[Measured, list[PassRecord]]:
    """The chosen model after ``tail``, or as it was where that made nothing better."""
    try:
        made, records = Pipeline(tail).run(clone_model(final.model), job.context, job.progress)
    except UsageError:
        raise
    except QCompilerError as error:
        job.context.warn(f"{tail[0].name} was left out: {error.what}")
        return final, [PassRecord(item.name, item.options(), status="rolled-back", reason=error.what) for item in tail]
    if not any(record.status == "applied" for record in records):
        return final, records
    job.progress("scoring on samples that had no part in it")
    found = measure(job, made)
    reason, before, after = "", final.quality.sqnr_db, found.quality.sqnr_db
    # Zeros that were asked for cost something, and who learns from labels leaves the source: then limits alone decide.
    own = any(isinstance(item, Recover) and (item.reshapes_weights or item.labels) for item in tail)
    if found.drop is not None and final.drop is not None:
        if found.drop > (final.drop if not own or job.max_drop is None else job.max_drop):
            reason = f"the metric dropped by {found.drop:.4g} instead of {final.drop:.4g}"
    elif after < before and not own:
        reason = f"the model reached {after:.1f} dB instead of {before:.1f}"
    if not reason and job.limits.min_speedup >= 1.0:
        ratio = speed_beside(job, final.model, made)
        reason = f"the model runs at {ratio:.2f} x the speed that it has without" if ratio < SLOWER else ""
    if not reason and found.quality.sqnr_db < job.limits.min_sqnr <= final.quality.sqnr_db:
        reason = f"the model reached {found.quality.sqnr_db:.1f} dB, below {job.limits.min_sqnr:g}"
    for record in records:
        if record.status == "applied":
            worst = found.quality.sqnr_db
            record.sqnr_db = worst if math.isfinite(worst) else None
            if reason:
                record.status, record.reason = "rolled-back", reason
                job.context.warn(f"{record.name} was rolled back: {reason}")
    return (final if reason else found), records


def forget_training(folder: Path) -> None:
    """Remove the states of training from ``folder``, and the folder when nothing else is in it."""
    for path in (*folder.glob("*.pt"), *folder.glob("*.part")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
