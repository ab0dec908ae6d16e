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
from qcompiler.compiler.job import SLOWER
from qcompiler.data import Dataset
from qcompiler.ir import ExternalTensor, Model, Value
from qcompiler.lower import HALVES, INTEGER_OPS, STATIC, WEIGHTS, Form, Group
from qcompiler.onnx_io import open_session, weight_bytes
from qcompiler.ops import macs
from qcompiler.runtime import Session, Timing, interleaved, processor
from qcompiler.search import Choice, Metric, Quality, profile_groups

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
    """A model, and what it gives against the source: quality on samples, metric and time."""

    model: Model
    quality: Quality
    source_time: Timing
    time: Timing
    threads: int
    batch: int
    metric: str | None = None
    source_metric: float | None = None
    own_metric: float | None = None

    @property
    def speedup(self) -> float:
        """Least time of the source over the least of this model."""
        return self.source_time.least / self.time.least

    @property
    def is_slower(self) -> bool:
        """True when this model is slower by more than the clock's share: three percent and five microseconds."""
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
        return {
            "source_ms": self.source_time.least,
            "compiled_ms": self.time.least,
            "speedup": self.speedup,
            "threads": self.threads,
            "runs": self.time.runs,
            "batch": self.batch,
        }


def measure(source: Session, model: Model, samples: Dataset, metric: Metric | None, threads: int) -> Measured:
    """Run ``model`` and ``source`` over ``samples`` and time them in turn on the first one.

    Raises LoweringError when ``model`` does not run, UsageError when the metric cannot be computed.
    """
    session = open_session(model, threads=threads)
    quality = Quality()
    ours: list[Mapping[str, Any]] = []
    theirs: list[Mapping[str, Any]] = []
    for sample in samples:
        expected, found = source.run(sample), session.run(sample)
        quality.add(expected, found)
        if metric is not None:  # a metric may look at all outputs together
            theirs.append(expected)
            ours.append(found)
    first = next(iter(samples))
    before, after = interleaved([source, session], first)
    batch = next((array.shape[0] for array in first.values() if getattr(array, "ndim", 0)), 1)
    measured = Measured(model, quality, before, after, threads, int(batch))
    if metric is not None:
        measured.metric = metric.name
        measured.source_metric = metric.score(theirs, samples.labels)
        measured.own_metric = metric.score(ours, samples.labels)
    return measured


def speed_beside(model: Model, other: Model, sample: Mapping[str, Any], threads: int) -> float:
    """Time of ``model`` over that of ``other``, in turn on one sample."""
    sessions = [open_session(each, threads=threads) for each in (model, other)]
    one, two = interleaved(sessions, sample, seconds=3.0)
    return one.least / two.least


def statistics_of(model: Model) -> dict[str, Any]:
    """Counts of the whole model, nested graphs included; constants that several values share count once."""
    kinds: Counter[str] = Counter()
    products = 0
    for node in model.nodes():
        kinds[f"{node.domain}:{node.op_type}" if node.domain else node.op_type] += 1
        products += macs(node)
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
    threads: int,
) -> dict[str, Any]:
    """The report's ``layers``, ``ranges`` and ``fused``: what each group became, why, and what it costs."""
    best, groups = choice.best, list(forms)
    chosen = dict(best.plan) if best is not None else {}
    before, _ = profile_groups(model, groups, sample, threads=threads)
    after, _ = profile_groups(best.model if best is not None else model, groups, sample, threads=threads)
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
    integers = form.weight.dtype.name.lower() if form.weight.dtype in HALVES else f"int{form.weight.dtype.bits}"
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
            "gpu": None,
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
