"""compile(): the one place that strings import, passes, search, lowering, measuring and reporting together."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.calibrate import with_states
from qcompiler.compiler.assess import Measured, environment, measure, speed_beside, statistics_of
from qcompiler.compiler.catalog import find_recipe, passes
from qcompiler.compiler.document import decision_of, digest, fill_sizes, report_of, trace_of
from qcompiler.compiler.job import SLOWER, Job
from qcompiler.compiler.recovering import before_and_behind, forget_training, parted, trained
from qcompiler.compiler.targeting import chosen_options, target_for
from qcompiler.data import Dataset, InputSpec, open_dataset, split
from qcompiler.dtypes import DType
from qcompiler.errors import DataError, GateError, LoweringError, PassError, QCompilerError, UsageError
from qcompiler.ir import Model, Tensor, TensorType, clone_model
from qcompiler.lower import SATURATES, Artifacts, OrtCpu, Target, products_saturate
from qcompiler.onnx_io import (
    check_replaceable,
    infer_types,
    load,
    open_session,
    replaced_directory,
    save,
    upgrade_opset,
    without_weights,
)
from qcompiler.pipeline import Pass, PassContext, PassRecord, Pipeline, Recipe, with_settings
from qcompiler.report import render_html, to_json
from qcompiler.runtime import Runner, Session
from qcompiler.search import Candidate, Choice, Journal, Limits, choose, find_metric
from qcompiler.storage import need_libraries, pack

__all__ = ["Result", "compile", "exclusions", "input_specs", "name_all"]

_PROBES = 128  # calibration samples on which candidates are judged
_RANDOM = 2  # random samples on which lossless passes are checked where there are no others
_EXACT = 40.0  # decibels that a lossless rewrite keeps on every sample, whatever the order of additions
_NOTHING = 1e-5  # a difference below this is none, however small the output itself
_USUAL = {"min_sqnr": 20.0, "min_speedup": 1.0}  # limits of a lossy recipe that sets none
_FARTHEST = 10.0  # decibels by which the bar rises at once
_LOOKED_AT = 32  # samples that tell one set of data from another
_DIGITS = 1.0  # decibels that float16 may cost beside integers
_TRIES = 3  # of choosing again with a higher bar when held-out samples fall below it


@dataclass
class Result:
    """A compiled model, the report about it, and the recipe that makes it again.

    ``records`` hold every rewrite and near miss; ``report`` is what ``report.json`` holds. ``packed`` has
    :meth:`save` leave a container beside the model. ``artifacts`` are what the target needs beside it.
    """

    model: Model
    report: dict[str, Any]
    recipe: str
    records: list[PassRecord]
    threads: int = 1
    packed: bool = False
    target: Target = field(default_factory=OrtCpu, repr=False)
    artifacts: Artifacts | None = field(default=None, repr=False)
    _session: Runner | None = field(default=None, repr=False)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name for inputs by name. Raises LoweringError when onnxruntime refuses the feeds."""
        if self._session is None:
            self._session = self.target.open(self.model, self.threads)
        return self._session.run({name: np.asarray(array) for name, array in feeds.items()})

    def save(self, folder: str | Path, *, force: bool = False, external_data: bool | None = None) -> Path:
        """Write ``model.onnx``, the reports and the recipe into ``folder``, which appears whole or not at all.

        A recipe that packs leaves ``model.qcz`` there too: the same model, coded by entropy.

        A result that stands there is replaced with ``force``, anything else never: UsageError. Raises OutputError
        when the disk refuses.
        """
        target = Path(folder)
        check_replaceable(target, force)
        with replaced_directory(target) as made:
            written = save(self.model, made / "model.onnx", external_data=external_data)
            self.report["compiled"]["path"] = "model.onnx"
            self.report["compiled"]["bytes"] = sum(path.stat().st_size for path in written)
            self.report["compiled"]["sha256"] = digest(made / "model.onnx")
            fill_sizes(self.report)
            if self.packed:
                found = pack(made / "model.onnx", made / "model.qcz")
                self.report["size"] |= {"packed_bytes": found.packed_bytes}
                self.report["size"]["packed_ratio"] = self.report["size"]["source_bytes"] / found.packed_bytes
            if self.artifacts is not None:
                self.artifacts.write(made)
            (made / "recipe.toml").write_text(self.recipe, encoding="utf-8")
            (made / "report.json").write_text(to_json(self.report), encoding="utf-8")
            (made / "trace.json").write_text(json.dumps(trace_of(self.records), indent=1) + "\n", encoding="utf-8")
            (made / "report.html").write_text(render_html(self.report), encoding="utf-8")
        return target


def compile(
    source: Any,
    *,
    target: str = "ort-cpu",
    recipe: str | Path | None = None,
    data: Any = None,
    score: Any = None,
    samples: int | None = None,
    batch_size: int | None = None,
    metric: str | Callable[..., Any] | None = None,
    max_drop: float | None = None,
    min_sqnr: float | None = None,
    min_speedup: float | None = None,
    strict: bool = False,
    settings: Sequence[str] = (),
    exclude: Sequence[str] = (),
    threads: int = 1,
    seed: int = 0,
    explain: bool = True,
    budget: float | None = None,
    for_cpu: str | None = None,
    arch: Sequence[str] = (),
    feedback: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    unfinished: str | Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Rewrite ``source`` for ``target`` by ``recipe`` and measure what came of it.

    ``source`` is a path, bytes, ``onnx.ModelProto``, ``onnx_ir.Model``, PyTorch ``ONNXProgram`` or graphsurgeon
    ``Graph``. ``data`` is what ``--data`` takes, or a mapping, callable or list of samples; even samples calibrate,
    odd ones score; with ``score``, data of its own, all of ``data`` calibrate.
    ``recipe`` defaults to ``int8`` with data, else ``lossless``. ``min_sqnr`` is in decibels,
    ``max_drop`` in the metric's own unit, ``min_speedup`` a ratio of latencies (source over result); 0 asks for the
    smallest model whatever its time. ``explain`` keeps where rules nearly matched and why not. ``budget`` is how many
    seconds the choice of what to quantize may look for something better; None for as long as it takes. ``for_cpu`` is
    the processor that the result is for, by its 8-bit instructions: avx2, avx512, vnni, amx or arm64; None is this one.
    ``arch`` are the cards that kernels are compiled for ahead of time, as sm_80, sm_86, ..., or "none".
    ``feedback`` maps inputs that carry a state to the outputs that the next sample gets there; the data is then one
    sequence without them. ``executor`` counts for the calibration, with the same result. ``unfinished`` is a folder
    for what was measured so far and the best model so far: given again after a kill, the search goes on from there;
    it is removed when the compile ends. ``settings`` are ``PASS.OPTION=VALUE`` or
    ``TARGET.OPTION=VALUE``; ``exclude`` are regular expressions on names and operator types.

    What comes out keeps the limits, or is the lossless model, and the report says why.
    Raises ImportFailure, DataError, UsageError, PassError, CalibrationError, LoweringError, and with ``strict``
    GateError.
    """
    started = time.perf_counter()
    chosen = find_recipe(recipe if recipe is not None else ("int8" if data is not None else "lossless"))
    chosen_target, settings = target_for(target, for_cpu, arch, settings, chosen.target_options.get(target))
    chosen = with_settings(chosen, [*settings, *exclusions(chosen, exclude)], passes())
    chosen = replace(chosen, gates=_gates(chosen, min_sqnr, min_speedup, max_drop))
    if data is None and min_sqnr is None:  # decibels on random inputs say nothing
        chosen = replace(chosen, gates={name: limit for name, limit in chosen.gates.items() if name != "min_sqnr"})
    if chosen.needs_data and data is None:
        raise UsageError(f"recipe '{chosen.name}' calibrates and needs data", hint="give --data SPEC, or --data random")
    if chosen.pack:
        need_libraries()
    max_drop = chosen.gates.get("max_drop")
    if budget is not None and not budget >= 0:
        raise UsageError(f"the budget has to be seconds, 0 or more, not {budget:g}")
    if threads < 1:
        raise UsageError(f"threads have to be at least 1, not {threads}")
    if max_drop is not None and metric is None:
        raise UsageError("--max-drop limits a metric", hint="give --metric top1 or --metric MODULE:CALLABLE")
    measure_by = find_metric(metric) if metric is not None else None

    progress("reading the model")
    origin = load(source)
    real = data is not None
    chosen_target.check(origin, real)
    specs = input_specs(origin)
    dataset = open_dataset(
        data if real else "random",
        [spec for spec in specs if spec.name not in (feedback or {})],
        limit=samples if real else _RANDOM,
        batch_size=batch_size,
        seed=seed,
    )
    if measure_by is not None and not real:
        raise UsageError("--metric needs data", hint="give --data SPEC")
    # A file that had to be mended may be one that onnxruntime does not load; then the mended model is the source.
    as_file = isinstance(source, str | Path) and not origin.repairs
    session = Session(source, threads=threads) if as_file else open_session(origin, threads=threads)
    if score is not None and (not real or feedback):
        raise UsageError("data that scores goes with data that calibrates", hint="give --data, and no --feedback")
    if feedback:
        if batch_size not in (None, 1):
            raise UsageError("a state is fed back from sample to sample, not through batches", hint="no --batch-size")
        progress("running the model for its states")
        dataset = with_states(dataset, session, feedback)
    lossy = not all(item.lossless for item in chosen.passes)
    calibration, scoring = split(dataset) if lossy and real else (dataset, dataset)
    if score is not None:
        calibration, scoring = dataset, open_dataset(score, specs, batch_size=batch_size, seed=seed)
    calibration, held_out = parted(calibration, chosen) if real else (calibration, None)
    context = PassContext(
        data=calibration if real else None, target=chosen_target, seed=seed, threads=threads,
        samples=[dataset.sample(i) for i in sorted({0, len(dataset) // 2, len(dataset) - 1})], executor=executor,
        min_sqnr=chosen.gates.get("min_sqnr"), source=origin, tell=progress, held_out=held_out,
        unfinished=None if unfinished is None else Path(unfinished) / "training",
    )  # fmt: skip
    context.trace.explain, context.watch_fusions = explain, True
    if for_cpu is not None and SATURATES[for_cpu] != products_saturate():
        context.warn(f"times were measured here, not on {for_cpu}, so what pays there may be something else")
    if not real:
        what = "what quantizing costs was not judged" if lossy else "nothing was quantized"
        context.warn(f"without --data {what}, and numbers were compared on random inputs only")
    elif data == "random":
        context.warn("calibrated and scored on random inputs: the figures say nothing about real ones")
    if lossy and real and len(dataset) == 1 and score is None:
        context.warn("one sample both calibrated and scored: give more to have the result tested on others")
    for repair in origin.repairs:
        context.warn(f"the model was mended: {repair}")
    try:
        session.run(context.samples[0])
    except LoweringError as error:
        hint = "give samples that it takes" if real else "give --data: it does not take any random input"
        raise DataError(f"the model itself does not run on the data: {error.what}", hint=hint) from None
    if measure_by is not None:  # a metric that cannot judge the source had better say so before the work
        progress("scoring the model")
        measure_by.score([session.run(sample) for sample in scoring], scoring.labels)
    journal = Journal()
    if unfinished is not None:
        said = (chosen.to_toml(), repr(chosen_target), len(dataset), len(scoring), threads, seed)
        journal = Journal(Path(unfinished), _fingerprint(origin, dataset, said))
        if journal.found:
            progress(f"going on from {unfinished}")
    job = Job(
        source, origin, session, chosen_target, chosen, calibration, scoring, measure_by, max_drop,
        Limits(chosen.gates.get("min_sqnr", -math.inf), chosen.gates.get("min_speedup", 0.0)), context, progress,
        threads, _said(data, score, samples, batch_size, metric, feedback),
        math.inf if budget is None else started + budget, journal,
    )  # fmt: skip
    try:
        result = _run(job, seed)
    except QCompilerError:
        _forget(context, journal)
        raise
    _forget(context, journal)
    if isinstance(data, str | Path):
        result.report["data"] = str(data)
    result.report["seconds"] = time.perf_counter() - started
    if strict and context.faults:
        raise PassError(context.faults[0], hint="leave the rule out, or compile without --strict to go on without it")
    if strict:
        failed = [gate for gate in result.report["gates"] if not gate["passed"]]
        if failed:
            gate = failed[0]
            if gate["value"] is None and gate["name"] == "min_speedup":
                raise GateError(
                    "gate min_speedup could not be measured: what the target runs on is not here",
                    hint="compile where it is, or with --min-speedup 0",
                )
            raise GateError(f"gate {gate['name']} was not met: {gate['value']} against a limit of {gate['limit']}")
    return result


def _forget(context: PassContext, journal: Journal) -> None:
    """The work is over: what was kept for going on with it goes."""
    if context.unfinished is not None:
        forget_training(context.unfinished)
    journal.remove()


def _fingerprint(model: Model, dataset: Dataset, said: tuple[Any, ...]) -> str:
    """What tells one compile from another: machine and versions, model, some of the data, and how it was asked for."""
    found = hashlib.sha256(repr((environment("", 1), said)).encode())
    found.update(without_weights(model).SerializeToString())
    for graph in model.graphs():
        for value in graph.constants:
            if isinstance(value.const, Tensor) and value.const.dtype is not DType.STRING:
                found.update(value.const.numpy().tobytes())
    for sample in dataset.walk(range(0, len(dataset), -(-len(dataset) // _LOOKED_AT))):
        for name, array in sample.items():
            found.update(name.encode() + np.asarray(array).tobytes())
    return found.hexdigest()


def input_specs(model: Model) -> list[InputSpec]:
    """Name, element type and shape of the inputs that a caller has to feed."""
    specs = []
    for value in model.graph.inputs:
        if value.const is None and isinstance(value.type, TensorType) and value.type.dtype is not None:
            specs.append(InputSpec(value.name, value.type.dtype.numpy, value.type.shape))
    return specs


def _run(job: Job, seed: int) -> Result:
    """Passes, choice, measurement and the report."""
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
        limits = replace(limits, min_sqnr=max(limits.min_sqnr, _USUAL["min_sqnr"]))
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


def _said(
    data: Any, score: Any, samples: int | None, batch_size: int | None, metric: Any, feedback: Mapping[str, str] | None
) -> dict[str, Any]:
    """What the resolved recipe notes of how it was called, beside its passes and limits."""
    named = {"data": data, "score": score, "metric": metric}
    said: dict[str, Any] = {key: str(item) for key, item in named.items() if isinstance(item, str | Path)}
    if feedback:
        said["feedback"] = [f"{name}={given}" for name, given in feedback.items()]
    return said | {"samples": samples, "batch_size": batch_size}


def _gates(
    recipe: Recipe, min_sqnr: float | None, min_speedup: float | None, max_drop: float | None
) -> dict[str, float]:
    """The recipe's limits, and over them the caller's. A lossy recipe has limits even if nobody set any."""
    usual = {} if all(item.lossless for item in recipe.passes) else _USUAL
    given = {"min_sqnr": min_sqnr, "min_speedup": min_speedup, "max_drop": max_drop}
    limits = usual | dict(recipe.gates) | {name: float(value) for name, value in given.items() if value is not None}
    for name, value in limits.items():
        if not math.isfinite(value):
            raise UsageError(f"{name} cannot be {value}", hint="give a finite number")
    return limits


def exclusions(recipe: Recipe, patterns: Sequence[str]) -> list[str]:
    """``--exclude`` as a setting of each pass that knows the option. Raises UsageError when none does."""
    if not patterns:
        return []
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    able = [item.name for item in recipe.passes if "exclude" in item.options()]
    if not able:
        raise UsageError(f"recipe '{recipe.name}' has no pass that --exclude could tell something")
    return [f"{name}.exclude={joined}" for name in able]
