"""compile(): the one place that strings import, passes, search, lowering, measuring and reporting together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from qcompiler.calibrate import with_states
from qcompiler.compiler.asking import check_feedback, exclusions, input_specs, limits_of, said_of
from qcompiler.compiler.catalog import find_recipe, passes
from qcompiler.compiler.document import digest
from qcompiler.compiler.fingerprint import fingerprint, sources_of
from qcompiler.compiler.job import Job
from qcompiler.compiler.kept import result_cache
from qcompiler.compiler.recovering import forget_training, parted
from qcompiler.compiler.result import Result, from_entry
from qcompiler.compiler.rewriting import rewritten
from qcompiler.compiler.targeting import target_for
from qcompiler.data import Dataset, open_dataset, split
from qcompiler.errors import DataError, ExecutorError, GateError, LoweringError, PassError, QCompilerError, UsageError
from qcompiler.ir import Model
from qcompiler.lower import SATURATES, Target, products_saturate
from qcompiler.onnx_io import importer_of, load, open_session
from qcompiler.pipeline import PassContext, Recipe, with_settings
from qcompiler.runtime import Session
from qcompiler.search import Journal, Limits, Metric, find_metric
from qcompiler.storage import need_libraries
from qcompiler.workers import check_executor, connected

__all__ = ["compile"]

_RANDOM = 2  # random samples on which lossless passes are checked where there are no others


@dataclass
class _Asked:
    """One compile, with everything in it opened that has to be there before it can be told from others."""

    source: Any
    origin: Model
    target: Target
    recipe: Recipe
    data: Any
    dataset: Dataset
    scoring: Dataset | None  # data of its own that scores
    metric: Metric | None
    feedback: Mapping[str, str]
    for_cpu: str | None
    threads: int
    seed: int
    explain: bool
    budget: float | None
    said: dict[str, Any]
    executor: Executor | str | None
    unfinished: Path | None
    progress: Callable[[str], None]

    @property
    def is_random(self) -> bool:
        """Whether the user asked for random samples."""
        return isinstance(self.data, str) and self.data == "random"


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
    executor: Executor | str | None = None,
    cache: bool | str | Path = False,
    unfinished: str | Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Rewrite ``source`` for ``target`` by ``recipe`` and measure what came of it.

    What comes out keeps the limits, or is the lossless model, and the report says why.

    Model and data: ``source`` is a path, bytes, ``onnx.ModelProto``, ``onnx_ir.Model``, PyTorch ``ONNXProgram``,
    graphsurgeon ``Graph``, or what an importer of another package reads. ``data`` is what ``--data`` takes, or a dict
    of arrays, a callable or a list of dicts. Arrays have the inputs' names and element types, and shape [samples, ...]
    (axis 0 is cut into the model's batch, or into ``batch_size`` rows) or [runs, batch, ...]; at most ``samples`` are
    used. Even ones calibrate, odd ones score; with ``score``, data of its own, all of ``data`` calibrate. ``feedback``
    maps inputs that carry a state to the outputs that the next run gets there; the data is then one sequence without
    them, through which the result is judged with its own states.

    Limits: ``min_sqnr`` in decibels, of the worst output: 10 log10(sum x^2 / sum (x - y)^2) over all elements of all
    scoring samples, x the source's. ``max_drop`` in the unit of ``metric``, which is ``top1`` (share of rows whose
    largest score is the label's), MODULE:CALLABLE or a function of (outputs: list of dicts of arrays, labels), higher
    is better. ``min_speedup`` is the source's least time of many runs over the result's; 0 asks for the smallest model
    whatever its time. A lossy recipe that sets none has 20 dB and 1.0. ``strict`` makes a missed limit, and a rule that
    was rolled back, an error.

    How: ``recipe`` is a name or a TOML file, by default ``int8`` with data, else ``lossless``. ``settings`` are
    ``PASS.OPTION=VALUE`` or ``TARGET.OPTION=VALUE``; ``exclude`` are regular expressions on names and operator types
    that stay float. ``threads`` are those of every run, timed ones included; with one, times are the thread's own
    processor time. ``seed`` starts whatever is drawn. ``budget`` is how many seconds the choice of what to quantize may
    look for something better; None for as long as it takes. ``for_cpu`` is the processor that the result is for, by
    its 8-bit instructions: avx2, avx512, vnni, amx or arm64; None is this one. ``arch`` are the cards that kernels are
    compiled for ahead of time, as sm_80, sm_86, ..., or "none". ``explain`` keeps where rules nearly matched and why
    not.

    ``executor`` calibrates and judges candidates elsewhere, with the same result: a ``concurrent.futures.Executor``,
    ``"processes:N"`` or ``"dask:tcp://HOST:PORT"``; times are measured here. ``cache`` is a folder of results, or True
    for the user's own: what the same model, data, recipe, versions and kind of machine gave before is not computed
    again; to know that, all of the data is read once more. Metrics of the user's, and code that has no source file, are
    computed every time. ``unfinished`` is a folder for what was measured so far and the best model so far: given again
    after a kill, the search goes on from there; it is removed when the compile ends. ``progress`` is told what is being
    done, as text or as a :class:`qcompiler.progress.Step`.

    Raises ImportFailure, DataError, UsageError, PassError, CalibrationError, LoweringError, ExecutorError, and with
    ``strict`` GateError.
    """
    check_executor(executor)
    chosen = find_recipe(recipe if recipe is not None else ("int8" if data is not None else "lossless"))
    chosen_target, settings = target_for(target, for_cpu, arch, settings, chosen.target_options.get(target))
    chosen = with_settings(chosen, [*settings, *exclusions(chosen, exclude)], passes())
    chosen = replace(chosen, gates=limits_of(chosen, min_sqnr, min_speedup, max_drop))
    if data is None and min_sqnr is None:  # decibels on random inputs say nothing
        chosen = replace(chosen, gates={name: limit for name, limit in chosen.gates.items() if name != "min_sqnr"})
    if chosen.needs_data and data is None:
        raise UsageError(f"recipe '{chosen.name}' calibrates and needs data", hint="give --data SPEC, or --data random")
    if chosen.pack:
        need_libraries()
    if budget is not None and not budget >= 0:
        raise UsageError(f"the budget has to be seconds, 0 or more, not {budget:g}")
    if threads < 1:
        raise UsageError(f"threads have to be at least 1, not {threads}")
    if "max_drop" in chosen.gates and metric is None:
        raise UsageError("--max-drop limits a metric", hint="give --metric top1 or --metric MODULE:CALLABLE")
    measure_by = find_metric(metric) if metric is not None else None
    if score is not None and (data is None or feedback):
        raise UsageError("data that scores goes with data that calibrates", hint="give --data, and no --feedback")
    if feedback and data is None:
        raise UsageError("a state is fed back through a sequence of samples", hint="give --data SPEC")
    if feedback and batch_size not in (None, 1):
        raise UsageError("a state is fed back from sample to sample, not through batches", hint="no --batch-size")

    progress("reading the model")
    origin = load(source)
    chosen_target.check(origin, data is not None)
    specs = input_specs(origin)
    check_feedback(origin, feedback or {})
    dataset = open_dataset(
        data if data is not None else "random",
        [spec for spec in specs if spec.name not in (feedback or {})],
        limit=samples if data is not None else _RANDOM,
        batch_size=batch_size,
        seed=seed,
    )
    if measure_by is not None and data is None:
        raise UsageError("--metric needs data", hint="give --data SPEC")
    scoring = None if score is None else open_dataset(score, specs, batch_size=batch_size, seed=seed)
    asked = _Asked(
        source, origin, chosen_target, chosen, data, dataset, scoring, measure_by, feedback or {}, for_cpu, threads,
        seed, explain, budget,
        said_of(data, score, samples, batch_size, metric, feedback), executor,
        None if unfinished is None else Path(unfinished), progress,
    )  # fmt: skip
    result = _found_or_made(asked, cache, metric)
    failed = next((gate for gate in result.report["gates"] if not gate["passed"]), None)
    if strict and result.faults:
        raise PassError(result.faults[0], hint="leave the rule out, or compile without --strict to go on without it")
    if strict and failed is not None:
        if failed["value"] is None and failed["name"] == "min_speedup":
            raise GateError(
                "gate min_speedup could not be measured: what the target runs on is not here",
                hint="compile where it is, or with --min-speedup 0",
            )
        raise GateError(f"gate {failed['name']} was not met: {failed['value']} against a limit of {failed['limit']}")
    return result


def _found_or_made(asked: _Asked, cache: bool | str | Path, metric: Any) -> Result:
    """The result that the cache holds, or a new one, which it holds from then on."""
    store = result_cache(cache)
    source = None if store is None else _digest_of(asked.source)
    key = None if store is None else _key(asked, metric, source)
    if store is None or key is None:
        return _made(asked)[0]
    with store.claimed(key, asked.progress) as held:
        entry = store.find(key, asked.progress) if held else None
        if entry is not None:
            asked.progress("the same was compiled before: its result is taken from the cache")
            if asked.unfinished is not None:
                _forget(asked.unfinished, Journal(asked.unfinished))
            return from_entry(entry, asked.source, asked.said, asked.target, asked.threads, asked.recipe.pack)
        result, odd = _made(asked)
        if held and not result.faults and not odd and result.report["source"]["sha256"] == source:
            result.entry = store.put(key, result.write, asked.progress)
        return result


def _key(asked: _Asked, metric: Any, source: str | None) -> str | None:
    """What the cache knows the result by, ``source`` the digest of the model's file. None for one that cannot be told
    from others: of code that is in no file, and of a metric of the user's, since what that calls may be anywhere."""
    code = sources_of(compile, type(asked.target), *map(type, asked.recipe.passes))
    if metric not in (None, "top1") or code is None:
        return None
    asked.progress("looking into the cache")
    # Instances of a target hold no state, but for fields of a dataclass.
    options_of_target = repr(asked.target) if is_dataclass(type(asked.target)) else ""
    said = (
        asked.recipe.to_toml(), asked.target.name, options_of_target, metric, sorted(asked.feedback.items()),
        asked.data is not None, asked.is_random, asked.said["samples"], asked.said["batch_size"], asked.budget,
        asked.seed, asked.threads, asked.explain, asked.for_cpu, code, source,
    )  # fmt: skip
    return fingerprint(asked.origin, (asked.dataset, asked.scoring), said, every=True)


def _digest_of(source: Any) -> str | None:
    """That of the file, where the source is one."""
    return digest(Path(source)) if isinstance(source, str | Path) and Path(source).is_file() else None


def _made(asked: _Asked) -> tuple[Result, list[str]]:
    """The result, computed, and why it may not be what this machine alone would have made."""
    started = time.perf_counter()
    odd: list[str] = []
    with connected(asked.executor, odd.append) as workers:
        result = _computed(asked, workers, odd, started)
    if "data" in asked.said:
        result.report["data"] = asked.said["data"]
    result.report["seconds"] = time.perf_counter() - started
    return result, odd


def _computed(asked: _Asked, workers: Executor | None, odd: list[str], started: float) -> Result:
    """The work of :func:`_made`, between executors; ``odd`` is what is told of them."""
    source, origin, chosen, dataset = asked.source, asked.origin, asked.recipe, asked.dataset
    real, score, progress, threads = asked.data is not None, asked.scoring, asked.progress, asked.threads
    # A file that had to be mended may be one that onnxruntime does not load; then the mended model is the source.
    as_file = isinstance(source, str | Path) and not origin.repairs and not importer_of(source)
    session = Session(source, threads=threads) if as_file else open_session(origin, threads=threads)
    if asked.feedback:
        progress("running the model for its states")
        dataset = with_states(dataset, session, asked.feedback)
    lossy = not all(item.lossless for item in chosen.passes)
    calibration, scoring = split(dataset) if lossy and real else (dataset, dataset)
    if score is not None:
        calibration, scoring = dataset, score
    if asked.feedback:
        scoring = dataset  # a state goes through all of them
    calibration, held_out = parted(calibration, chosen) if real else (calibration, None)
    context = PassContext(
        data=calibration if real else None, target=asked.target, seed=asked.seed, threads=threads,
        samples=[dataset.sample(i) for i in sorted({0, len(dataset) // 2, len(dataset) - 1})],
        min_sqnr=chosen.gates.get("min_sqnr"), source=origin, tell=progress, held_out=held_out, executor=workers,
        unfinished=None if asked.unfinished is None else asked.unfinished / "training",
    )  # fmt: skip
    context.trace.explain, context.watch_fusions = asked.explain, True
    if asked.for_cpu is not None and SATURATES[asked.for_cpu] != products_saturate():
        context.warn(f"times were measured here, not on {asked.for_cpu}, so what pays there may be something else")
    if not real:
        what = "what quantizing costs was not judged" if lossy else "nothing was quantized"
        context.warn(f"without --data {what}, and numbers were compared on random inputs only")
    elif asked.is_random:
        context.warn("calibrated and scored on random inputs: the figures say nothing about real ones")
    if lossy and real and len(dataset) == 1 and score is None:
        context.warn("one sample both calibrated and scored: give more to have the result tested on others")
    for text in odd:
        context.warn(text)
    for repair in origin.repairs:
        context.warn(f"the model was mended: {repair}")
    try:
        session.run(context.samples[0])
    except LoweringError as error:
        hint = "give samples that it takes" if real else "give --data: it does not take any random input"
        raise DataError(f"the model itself does not run on the data: {error.what}", hint=hint) from None
    if asked.metric is not None:  # a metric that cannot judge the source had better say so before the work
        progress("scoring the model")
        asked.metric.score([session.run(sample) for sample in scoring], scoring.labels)
    journal = Journal()
    if asked.unfinished is not None:
        told = (chosen.to_toml(), repr(asked.target), len(dataset), len(scoring), threads, asked.seed)
        journal = Journal(asked.unfinished, fingerprint(origin, (dataset,), told, every=False))
        if journal.found:
            progress(f"going on from {asked.unfinished}")
    job = Job(
        source, origin, session, asked.target, chosen, calibration, scoring, asked.metric, chosen.gates.get("max_drop"),
        Limits(chosen.gates.get("min_sqnr", -math.inf), chosen.gates.get("min_speedup", 0.0)), context, progress,
        threads, asked.said, math.inf if asked.budget is None else started + asked.budget, journal, asked.feedback,
    )  # fmt: skip
    try:
        result = rewritten(job, asked.seed)
    except ExecutorError:  # none of ours: what is unfinished stays
        raise
    except QCompilerError:
        _forget(asked.unfinished, journal)
        raise
    _forget(asked.unfinished, journal)
    result.faults = list(context.faults)
    return result


def _forget(unfinished: Path | None, journal: Journal) -> None:
    """The work is over: what was kept for going on with it goes."""
    if unfinished is not None:
        forget_training(unfinished / "training")
    journal.remove()
