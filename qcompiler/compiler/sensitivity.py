"""What quantizing or pruning each group alone would cost and gain, without compiling anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcompiler.compiler.asking import exclusions, input_specs
from qcompiler.compiler.assess import form_name
from qcompiler.compiler.catalog import find_recipe, passes
from qcompiler.compiler.rewriting import name_all
from qcompiler.compiler.targeting import target_for
from qcompiler.data import Dataset, open_dataset, split
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir import Model
from qcompiler.lower import Target
from qcompiler.onnx_io import infer_types, load, upgrade_opset
from qcompiler.passes.prune import PruneChannels, apart, judged
from qcompiler.pipeline import Pass, PassContext, Pipeline, with_settings
from qcompiler.progress import Step
from qcompiler.search import group_times, sensitivities
from qcompiler.workers import check_executor, connected

__all__ = ["PruningSensitivity", "Sensitivity", "pruning_sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Sensitivity:
    """One group of nodes, or a node that cannot be quantized.

    ``sqnr_db`` is the worst output's when this group alone is quantized as ``form`` says; None where it does not run,
    for ``reason``. ``float_us`` and ``quantized_us`` are its time in place, with nothing and with everything quantized.
    """

    node: str
    op: str
    form: str
    sqnr_db: float | None
    float_us: float | None
    quantized_us: float | None
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def sensitivity(
    source: Any,
    data: Any,
    *,
    target: str = "ort-cpu",
    recipe: str | Path = "int8",
    samples: int | None = None,
    batch_size: int | None = None,
    settings: Sequence[str] = (),
    exclude: Sequence[str] = (),
    threads: int = 1,
    seed: int = 0,
    executor: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Sensitivity]:
    """Each group of ``source`` that ``recipe`` would offer, the most sensitive first; then what cannot be quantized.

    Even samples calibrate, odd ones score. Arguments are those of :func:`qcompiler.compile`. Raises what it raises.
    """
    check_executor(executor)
    chosen = find_recipe(recipe)
    found_target, settings = target_for(target, None, (), settings, chosen.target_options.get(target))
    chosen = with_settings(chosen, [*settings, *exclusions(chosen, exclude)], passes())
    if all(item.lossless for item in chosen.passes):
        raise UsageError(f"recipe '{chosen.name}' quantizes nothing", hint="give --recipe int8 or another")
    with connected(executor, progress) as workers:
        model, context, scoring = _prepared(
            source, data, found_target, chosen.passes, samples, batch_size, threads, seed, progress, workers
        )
        forms = context.facts.get("forms", {})
        choice = sensitivities(
            model, forms, found_target, scoring, threads=threads, executor=workers, progress=progress
        )
    first = scoring.sample(0)
    floats = group_times(found_target, model, list(forms), first, threads=threads)
    try:
        lowered = found_target.lower(model, {group: offered[0] for group, offered in forms.items()})
        quantized = group_times(found_target, lowered, list(forms), first, threads=threads)
    except QCompilerError:  # one of them is refused: the others have their errors all the same
        quantized = {}
    rows = [
        Sensitivity(
            group.name,
            group.anchor.op_type,
            form_name(offered[0]),
            None if choice.reasons.get(group) else choice.sensitivity[group],
            floats[group][1] if group in floats else None,
            quantized[group][1] if group in quantized else None,
            choice.reasons.get(group, ""),
        )
        for group, offered in forms.items()
    ]
    rows.sort(key=lambda row: -float("inf") if row.sqnr_db is None else row.sqnr_db)
    refused = context.facts.get("refused", {})
    return rows + [
        Sensitivity(node.name or node.output.name, node.op_type, "float", None, None, None, reason)
        for node, reason in refused.items()
    ]


@dataclass(frozen=True)
class PruningSensitivity:
    """One group of channels, of which ``removed`` units of ``units`` went alone, readers refitted.

    ``sqnr_db`` is that of all outputs together; None where nothing changed, or where they do not compare, for
    ``reason``. ``macs`` is the share of the model's multiply-accumulates that remains. ``weights`` are the nodes whose
    weights are cut.
    """

    group: str
    units: int
    removed: int
    sqnr_db: float | None
    macs: float
    weights: list[str]
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def pruning_sensitivity(
    source: Any,
    data: Any,
    *,
    part: float = 0.25,
    target: str = "ort-cpu",
    recipe: str | Path = "prune",
    samples: int | None = None,
    batch_size: int | None = None,
    settings: Sequence[str] = (),
    exclude: Sequence[str] = (),
    threads: int = 1,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[PruningSensitivity]:
    """Each group that ``prune-channels`` of ``recipe`` may narrow, without ``part`` of its units; worst first.

    Even samples rank and refit, odd ones judge; at most 32 of each refit and judge. Arguments are those of
    :func:`qcompiler.compile`. Raises what it raises.
    """
    if not 0.0 < part < 1.0:
        raise UsageError(f"the part that goes has to be above 0 and below 1, not {part:g}")
    chosen = find_recipe(recipe)
    found_target, settings = target_for(target, None, (), settings, chosen.target_options.get(target))
    chosen = with_settings(chosen, [*settings, *exclusions(chosen, exclude)], passes())
    place = next((place for place, item in enumerate(chosen.passes) if isinstance(item, PruneChannels)), None)
    if place is None:
        raise UsageError(f"recipe '{chosen.name}' prunes no channels", hint="give --recipe prune or another")
    pruning = chosen.passes[place]
    assert isinstance(pruning, PruneChannels)
    before = [item for item in chosen.passes[:place] if item.lossless]
    model, context, scoring = _prepared(
        source, data, found_target, before, samples, batch_size, threads, seed, progress
    )
    calibration = context.data
    assert calibration is not None
    progress("ranking channels")
    amounts = {group: {group: gone} for group, gone in pruning.parts(model, part, context).items() if gone}
    refitting, judging = apart(calibration)[0], apart(scoring)[0]
    points = judged(
        model, amounts, refitting, judging, timed=False, threads=threads,
        progress=lambda done: progress(Step(f"group {done} of {len(amounts)}", done - 1, len(amounts))),
    )  # fmt: skip
    rows = sorted(zip(amounts.items(), points, strict=True), key=lambda row: -row[1].error)
    return [
        PruningSensitivity(
            group.name, group.size, len(gone[group]), point.sqnr_db, point.macs, group.weight_nodes(),
            "the outputs do not compare" if point.error == float("inf") else "",
        )
        for (group, gone), point in rows
    ]  # fmt: skip


def _prepared(
    source: Any,
    data: Any,
    target: Target,
    before: Sequence[Pass],
    samples: int | None,
    batch_size: int | None,
    threads: int,
    seed: int,
    progress: Callable[[str], None],
    executor: Executor | None = None,
) -> tuple[Model, PassContext, Dataset]:
    """The model after ``before``, what passes may use, and the samples that score."""
    progress("reading the model")
    model = load(source)
    dataset = open_dataset(data, input_specs(model), limit=samples, batch_size=batch_size, seed=seed)
    calibration, scoring = split(dataset)
    upgrade_opset(model)
    infer_types(model)
    name_all(model)
    context = PassContext(data=calibration, target=target, seed=seed, threads=threads, executor=executor, tell=progress)
    context.samples = [dataset.sample(0)]
    model, _ = Pipeline(before).run(model, context, progress)
    return model, context, scoring
