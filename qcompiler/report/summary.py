"""What the numbers say, in words: for the terminal and for the head of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qcompiler.report.plain import plain_report
from qcompiler.report.units import NOT_MEASURED, count, decibels, milliseconds, number, ratio, share, size

__all__ = ["Change", "Distance", "change", "distance", "gate_value", "gates_line", "machine", "summary_lines", "verdict"]

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """Before against after: ``factor`` is 3.89× or empty, ``word`` is smaller, larger, the same ..."""

    factor: str
    word: str
    trend: Literal["better", "worse", "same", "unknown"]

    def __str__(self) -> str:
        return f"{self.factor} {self.word}".strip()


@dataclass(frozen=True)
class Distance:
    """How far the outputs are from the source's; ``sqnr_db`` and ``output`` are those of the worst one."""

    kind: Literal["measured", "identical", "unknown"]
    sqnr_db: float | None = None
    output: str = ""

    def __str__(self) -> str:
        if self.kind == "measured":
            return decibels(self.sqnr_db)
        return "identical" if self.kind == "identical" else NOT_MEASURED


def change(times: float | None, better: str, worse: str, same: str) -> Change:
    """What it means that the compiled model is ``times`` times better; None means that it is not known."""
    if times is None or times <= 0:
        return Change("", NOT_MEASURED, "unknown")
    factor = ratio(max(times, 1 / times))
    if factor == ratio(1):
        return Change("", same, "same")
    return Change(factor, better, "better") if times > 1 else Change(factor, worse, "worse")


def size_change(report: Report) -> Change:
    before, after = report["size"]["source_bytes"], report["size"]["compiled_bytes"]
    return change(before / after if after else None, "smaller", "larger", "the same size")


def speed_change(report: Report) -> Change:
    return change(report["latency"]["speedup"], "faster", "slower", "just as fast")


def distance(report: Report) -> Distance:
    """The output that is furthest from the source's. One that was not measured counts for nothing."""
    worst = Distance("unknown")
    for name, output in report["quality"]["outputs"].items():
        if output["sqnr_db"] is not None and (worst.sqnr_db is None or output["sqnr_db"] < worst.sqnr_db):
            worst = Distance("measured", output["sqnr_db"], name)
        elif output["max_abs"] == 0 and worst.kind == "unknown":
            worst = Distance("identical")
    return worst


def machine(report: Report) -> str:
    """What the latency was measured on."""
    found: str | None = report["environment"]["cpu" if "cpu" in report["target"] else "gpu"]
    return found or report["environment"]["cpu"] or "an unnamed machine"


def gate_value(name: str, value: float | None) -> str:
    """A limit or what was measured against it, with the unit that goes with the gate's name."""
    if "sqnr" in name:
        return decibels(value)
    return ratio(value) if "speedup" in name or "ratio" in name else number(value)


def gates_line(report: Report) -> str:
    """How many gates were met, and the names of those that were not."""
    gates = report["gates"]
    failed = [gate["name"] for gate in gates if not gate["passed"]]
    if not gates:
        return "no gate was set"
    if failed:
        return f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}"
    return "the gate passed" if len(gates) == 1 else f"all {len(gates)} gates passed"


def verdict(report: Report) -> list[str]:
    """The whole report in a few sentences."""
    report = plain_report(report)
    return [_gain(report), _difference(report), _sentence(gates_line(report)), *_kept(report)]


def summary_lines(report: Report) -> list[tuple[str, str]]:
    """Label and value of what matters most, for the terminal."""
    report = plain_report(report)
    latency, quality, metric = report["latency"], report["quality"], report["quality"]["metric"]
    how = [str(speed_change(report)), threads(latency["threads"]), _times(latency["runs"], "run")]
    timed = latency["source_ms"] is not None and latency["compiled_ms"] is not None
    far = distance(report)
    quality_parts = [f"{far} SQNR" if far.kind == "measured" else str(far), _output_share(quality)]
    if far.kind != "unknown":
        quality_parts.append(f"on {_times(quality['samples'], 'sample')}")
    gates = "; ".join(
        f"{gate['name']} {gate_value(gate['name'], gate['value'])} (limit {gate_value(gate['name'], gate['limit'])}, "
        f"{'passed' if gate['passed'] else 'FAILED'})"
        for gate in report["gates"]
    )
    return [
        ("size", f"{_arrow(report['size'], 'bytes', size)} ({size_change(report)})"),
        ("latency", f"{_arrow(latency, 'ms', milliseconds)} ({', '.join(filter(None, how))})" if timed else NOT_MEASURED),
        ("quality", ", ".join(filter(None, quality_parts))),
        ("metric", _metric(metric) if metric else NOT_MEASURED),
        ("gates", gates or "none set"),
        ("nodes", f"{count(report['source']['nodes'])} → {count(report['compiled']['nodes'])}"),
    ]


def threads(value: int | None) -> str:
    """1 thread, 4 threads; nothing if it is not known."""
    return _times(value, "thread")


def _gain(report: Report) -> str:
    smaller, faster = size_change(report), speed_change(report)
    text = f"Against the source, the compiled model is {smaller}" if smaller.trend != "unknown" else "Its size is not known"
    if faster.trend == "unknown":
        return f"{text}; its speed was {NOT_MEASURED}."
    with_threads = threads(report["latency"]["threads"])
    return f"{text} and {faster}, timed on {machine(report)}{with_threads and f' with {with_threads}'}."


def _difference(report: Report) -> str:
    far, outputs = distance(report), len(report["quality"]["outputs"])
    if far.kind == "unknown":
        return f"How far its outputs are from the source's was {NOT_MEASURED}."
    samples = _times(report["quality"]["samples"], "sample")
    if far.sqnr_db is None:
        return f"On {samples} its outputs are identical to the source's."
    where = f"the noise in {'its output' if outputs == 1 else 'the worst of its outputs'}"
    side = "below" if far.sqnr_db >= 0 else "above"
    return f"On {samples} {where} lies {decibels(abs(far.sqnr_db))} {side} the signal."


def _kept(report: Report) -> list[str]:
    decision = report.get("decision")
    if not decision or decision["kept"] == "int8":
        return []
    what = "The int8 model was not kept" if decision["kept"] == "float" else "Only a part of it runs in int8"
    return [_sentence(f"{what}: {decision['reason']}" if decision["reason"] else what)]


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _arrow(pair: Report, unit: str, show: Any) -> str:
    return f"{show(pair[f'source_{unit}'])} → {show(pair[f'compiled_{unit}'])}"


def _output_share(quality: Report) -> str:
    return "" if quality["agreement"] is None else f"same answer on {share(quality['agreement'])}"


def _metric(metric: Report) -> str:
    drop = metric["drop"]
    how = f"drop {number(drop)}" if drop is None or drop >= 0 else f"gain {number(-drop)}"
    return f"{metric['name']} {number(metric['source'])} → {number(metric['compiled'])} ({how})"


def _times(value: int | None, thing: str) -> str:
    return "" if value is None else f"{count(value)} {thing}{'' if value == 1 else 's'}"
