"""What is measured of a model and written down: counts, quality and time against the source, layer by layer."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from qcompiler.calibrate import RangeStatistics
from qcompiler.compiler.job import SLOWER, Job
from qcompiler.dtypes import DType
from qcompiler.ir import ExternalTensor, Model, Value
from qcompiler.kernels import DOMAIN
from qcompiler.lower import HALVES, INTEGER_OPS, STATIC, WEIGHTS, Form, Group, kernel_products
from qcompiler.onnx_io import weight_bytes
from qcompiler.ops import macs
from qcompiler.runtime import Timing, gpu_name, interleaved, processor
from qcompiler.search import Choice, Quality, estimated, group_times

__all__ = [
    "Measured",
    "environment",
    "form_name",
    "layer_records",
    "measure",
    "peak_rss",
    "speed_beside",
    "statistics_of",
]

_TICK = 5e-3  # milliseconds by which two timings of one small model differ from run to run


@dataclass
class Measured:
    """A model, and what it gives against the source: quality on samples, metric and time.

    Where the target is not here to be timed, both times are None and ``estimates`` are seconds of the source and of
    this model.
    """

    model: Model
    quality: Quality
    source_time: Timing | None
    time: Timing | None
    estimates: tuple[float, ...] | None
    card: str
    threads: int
    batch: int
    metric: str | None = None
    source_metric: float | None = None
    own_metric: float | None = None

    @property
    def speedup(self) -> float:
        """Least time of the source over the least of this model, measured or estimated."""
        if self.source_time is None or self.time is None:
            assert self.estimates is not None
            return self.estimates[0] / self.estimates[1]
        return self.source_time.least / self.time.least

    @property
    def is_slower(self) -> bool:
        """True when this model is slower by more than the clock's share: three percent and five microseconds."""
        if self.source_time is None or self.time is None:
            return self.speedup < SLOWER
        return self.speedup < SLOWER and self.time.least - self.source_time.least > _TICK

    @property
    def drop(self) -> float | None:
        """How much the metric lost; None without a metric."""
        if self.source_metric is None or self.own_metric is None:
            return None
        return self.source_metric - self.own_metric

    def quality_record(self) -> dict[str, Any]:
        """The report's ``quality``."""
        metric = None
        if self.metric is not None:
            metric = {"name": self.metric, "source": self.source_metric, "compiled": self.own_metric, "drop": self.drop}
        outputs = self.quality.record()
        return {
            "samples": self.quality.samples, "outputs": outputs, "agreement": self.quality.agreement, "metric": metric
        }  # fmt: skip

    def latency_record(self) -> dict[str, Any]:
        """The report's ``latency``, milliseconds."""
        record = {"threads": self.threads, "batch": self.batch}
        if self.source_time is None or self.time is None:
            assert self.estimates is not None
            source, own = (1e6 * seconds for seconds in self.estimates)
            nothing = dict.fromkeys(("source_ms", "compiled_ms", "speedup", "runs"))
            return (
                record
                | nothing
                | {"estimate": {"card": self.card, "source_us": source, "compiled_us": own, "speedup": self.speedup}}
            )
        return record | {
            "source_ms": self.source_time.least,
            "compiled_ms": self.time.least,
            "speedup": self.speedup,
            "runs": self.time.runs,
        }


def measure(job: Job, model: Model) -> Measured:
    """Run ``model`` and the source over the scoring samples, as the target runs them, and time them in turn on the
    first one.

    Raises LoweringError when ``model`` does not run, UsageError when the metric cannot be computed.
    """
    source, samples, metric = job.session, job.scoring, job.metric
    session = job.target.open(model, job.threads)
    quality = Quality()
    ours: list[Mapping[str, Any]] = []
    theirs: list[Mapping[str, Any]] = []
    states: dict[str, Any] = {}  # errors of a model that carries a state add up, from sample to sample
    for sample in samples:
        expected, found = source.run(sample), session.run({**sample, **states})
        states = {name: found[given] for name, given in job.feedback.items()}
        quality.add(expected, found)
        if metric is not None:  # a metric may look at all outputs together
            theirs.append(expected)
            ours.append(found)
    first = next(iter(samples))
    before, after, estimates = None, None, estimated(job.target, job.origin, model)
    if estimates is None:
        # A target of another kind than the session's runs the source in its own way too.
        apart = job.target.estimated(model) is not None
        before, after = interleaved([job.target.open(job.origin, job.threads) if apart else source, session], first)
    batch = next((array.shape[0] for array in first.values() if getattr(array, "ndim", 0)), 1)
    measured = Measured(model, quality, before, after, estimates, job.target.estimated_for, job.threads, int(batch))
    if metric is not None:
        measured.metric = metric.name
        measured.source_metric = metric.score(theirs, samples.labels)
        measured.own_metric = metric.score(ours, samples.labels)
    return measured


def speed_beside(job: Job, model: Model, other: Model) -> float:
    """Time of ``model`` over that of ``other``, in turn on one sample, or by estimate where nothing can be timed."""
    estimates = estimated(job.target, model, other)
    if estimates is not None:
        return estimates[0] / estimates[1]
    sessions = [job.target.open(each, job.threads) for each in (model, other)]
    one, two = interleaved(sessions, next(iter(job.scoring)), seconds=3.0)
    return one.least / two.least


def statistics_of(model: Model) -> dict[str, Any]:
    """Counts of the whole model, nested graphs included; constants that several values share count once."""
    kinds: Counter[str] = Counter()
    products = 0
    bodies = {key for key in model.functions if key[0] == DOMAIN}  # another form of the nodes that call them
    graphs = [model.graph, *(function.graph for key, function in model.functions.items() if key not in bodies)]
    for node in (node for graph in graphs for node in graph.all_nodes()):
        kinds[f"{node.domain}:{node.op_type}" if node.domain else node.op_type] += 1
        products += macs(node) or kernel_products(node)
    constants = {id(value.const): value.const for graph in model.graphs() for value in graph.constants}
    floats = [item for item in constants.values() if item is not None]
    files = {item.path for item in floats if isinstance(item, ExternalTensor)}
    return {
        "nodes": kinds.total(),
        "parameters": sum(_elements(item) for item in floats),
        "macs": products,
        "ops": dict(sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))),
        "weight_bytes": weight_bytes(model),
        "external_bytes": sum(path.stat().st_size for path in files),
    }


def layer_records(
    model: Model,
    choice: Choice,
    forms: Mapping[Group, Sequence[Form]],
    refused: Mapping[Any, str],
    statistics: Mapping[Value, RangeStatistics],
    sample: Mapping[str, Any],
    job: Job,
) -> dict[str, Any]:
    """The report's ``layers``, ``ranges`` and ``fused``: what each group became, why, and what it costs."""
    best, groups = choice.best, list(forms)
    chosen = dict(best.plan) if best is not None else {}
    target, threads = job.target, job.threads
    before = group_times(target, model, groups, sample, threads=threads)
    after = group_times(target, best.model if best is not None else model, groups, sample, threads=threads)
    fallback = choice.reason if best is None else "does not pay: with it the model is slower than without"
    layers = []
    for group, offered in forms.items():
        why = choice.reasons.get(group, "") or refused.get(group.anchor, "")
        layers.append({
            "node": group.name,
            "op": group.anchor.op_type,
            "choice": form_name(chosen[group]) if group in chosen else "float",
            "reason": _reason(offered, chosen[group], why) if group in chosen else why or fallback,
            "source_us": before[group][1] if group in before else None,
            "compiled_us": after[group][1] if group in after else None,
            "sqnr_db": choice.sensitivity.get(group),
        })  # fmt: skip
    anchors = {group.anchor for group in forms}
    for node, reason in refused.items():
        if node in anchors:  # refused in one form, offered in another
            continue
        layers.append({
            "node": node.name or node.output.name, "op": node.op_type, "choice": "float", "reason": reason,
            "source_us": None, "compiled_us": None, "sqnr_db": None,
        })  # fmt: skip
    values = [value for graph in model.graphs() for value in graph.inputs]
    values += [value for node in model.nodes() for value in node.outputs]
    ranges = [_range_record(value, statistics.get(value)) for value in values if value.quant is not None]
    left = [
        group.name
        for group, form in chosen.items()
        if form.kind != WEIGHTS and group in after and after[group][0] not in INTEGER_OPS
    ]
    found = sum(1 for group in chosen if group in after and after[group][0] in INTEGER_OPS)
    return {
        "layers": layers,
        "ranges": ranges,
        "fused": {"planned": len(chosen), "found": found, "left_float": sorted(left)},
    }


def _reason(offered: Sequence[Form], form: Form, why: str) -> str:
    """Why a group did not take the form that is preferred; empty where it did."""
    first = offered[0]
    return "" if form.kind == first.kind else f"not {first.kind}: {why or 'it gained nothing'}"


def form_name(form: Form) -> str:
    """A form in the words of the report."""
    dtype = form.weight.dtype
    integers = "float8" if dtype is DType.FLOAT8E4M3FN else f"int{dtype.bits}"
    integers = dtype.name.lower() if dtype in HALVES else integers
    return integers if form.kind == STATIC else f"{integers} {form.kind}"


def _range_record(value: Value, seen: RangeStatistics | None) -> dict[str, Any]:
    """One entry of the report's ``ranges``, for a value with one scale."""
    quant = value.quant
    assert quant is not None
    histogram = {} if seen is None else {"histogram": seen.bars()}
    return {
        "value": value.name,
        "low": float(quant.low),
        "high": float(quant.high),
        "min": quant.observed[0],
        "max": quant.observed[1],
        "method": quant.source,
        "scale": float(quant.scale),
        "zero_point": int(quant.zero_point),
        **histogram,
    }


def environment(target: str, threads: int) -> dict[str, Any]:
    """The report's ``qcompiler``, ``target`` and ``environment``."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("qcompiler")
    except PackageNotFoundError:  # run from a checkout that was never installed
        own = "0+unknown"
    return {
        "qcompiler": own,
        "target": target,
        "environment": {
            "cpu": processor(),
            "cores": os.cpu_count(),
            "gpu": gpu_name(),
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
            "threads": threads,
        },
    }


def peak_rss() -> int:
    """Most memory that this process has held, in bytes."""
    try:
        # Unlike getrusage's, this figure does not begin with what the process that started us once held.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _elements(item: Any) -> int:
    held = getattr(item, "values", item)
    return int(held.size)
