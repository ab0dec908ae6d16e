"""What the numbers say, in words: for the terminal and for the head of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qcompiler.report.plain import plain
from qcompiler.report.units import NO_BREAK, NOT_MEASURED, count, decibels, milliseconds, number, ratio, share, size

__all__ = [
    "Change",
    "Distance",
    "change",
    "distance",
    "fewer",
    "gate_limit",
    "gate_value",
    "gates_line",
    "lines",
    "machine",
    "plural",
    "sentence",
    "size_change",
    "speed_change",
    "summary_lines",
    "verdict",
]

_CLOSE = 20.0  # decibels; below, the difference itself says more: it may be that of an output of nearly nothing
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """Before against after: ``factor`` is 3.89×, 12 % or empty, ``word`` is smaller, fewer, the same size ..."""

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


def fewer(before: int | None, after: int | None) -> Change:
    """How many there are less: of nodes, of parameters, of multiplications. More of them is not worse in itself."""
    if before is None or after is None:
        return Change("", NOT_MEASURED, "unknown")
    if before == after:
        return Change("", "as many", "same")
    if after >= 2 * before:
        return Change(ratio(after / before) if before else "", "as many" if before else "new", "same")
    part = f"{number(100 * abs(after - before) / before, 3)}{NO_BREAK}%"
    return Change(part, "fewer", "better") if after < before else Change(part, "more", "same")


def size_change(report: Report) -> Change:
    """How much smaller the file became."""
    before, after = report["size"]["source_bytes"], report["size"]["compiled_bytes"]
    return change(before / after if after else None, "smaller", "larger", "the same size")


def speed_change(report: Report) -> Change:
    """How much faster the model became, as it was measured."""
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
    """What was measured for the gate ``name``, with the unit that goes with it."""
    if "sqnr" in name:
        return decibels(value)
    return ratio(value) if "speedup" in name or "ratio" in name else number(value)


def gate_limit(name: str, limit: float) -> str:
    """The limit of the gate ``name``, and on which side of it the value has to be."""
    side = {"min": "at least ", "max": "at most "}.get(name[:3], "")
    return f"{side}{gate_value(name, limit)}"


def gates_line(report: Report) -> str:
    """How many gates were met, and the names of those that were not."""
    gates = report["gates"]
    failed = [gate["name"] for gate in gates if not gate["passed"]]
    if not gates:
        return "no gate was set"
    if failed:
        return f"{len(failed)} of {plural(len(gates), 'gate')} failed: {', '.join(failed)}"
    return {1: "the gate passed", 2: "both gates passed"}.get(len(gates), f"all {len(gates)} gates passed")


def plural(value: int | None, thing: str) -> str:
    """1 thread, 4 threads; nothing if it is not known."""
    return "" if value is None else f"{count(value)} {thing}{'' if value == 1 else 's'}"


def verdict(report: Report) -> list[str]:
    """The whole of a plain report in a few sentences."""
    return [_gain(report), _difference(report), sentence(gates_line(report)), *_kept(report)]


def summary_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of what matters most, for the terminal: size, latency, quality, metric, gates, nodes, engines."""
    return lines(plain(report))


def lines(report: Report) -> list[tuple[str, str]]:
    """:func:`summary_lines` of a report that is plain already."""
    latency, quality, metric = report["latency"], report["quality"], report["quality"]["metric"]
    far, faster = distance(report), speed_change(report)
    timed = latency["source_ms"] is not None or latency["compiled_ms"] is not None
    how = (
        str(faster) if faster.trend != "unknown" else "",
        plural(latency["threads"], "thread"),
        plural(latency["runs"], "run"),
    )
    error = f"{far} SQNR" if far.kind == "measured" else str(far)
    if far.sqnr_db is not None and far.sqnr_db < _CLOSE:
        error += f", off by {number(quality['outputs'][far.output]['max_abs'])} at most"
    answer = "" if quality["agreement"] is None else f"same answer on {share(quality['agreement'])}"
    samples = "" if far.kind == "unknown" else plural(quality["samples"], "sample")
    return [
        ("size", f"{_arrow(report['size'], 'bytes', size)} ({size_change(report)}){_packed(report['size'])}"),
        ("latency", f"{_arrow(latency, 'ms', milliseconds)}{_in_brackets(*how)}" if timed else NOT_MEASURED),
        ("quality", ", ".join(filter(None, (error, answer))) + _in_brackets(samples)),
        ("metric", _metric(metric) if metric else NOT_MEASURED),
        ("gates", "; ".join(map(_gate, report["gates"])) or "none set"),
        ("nodes", f"{count(report['source']['nodes'])} → {count(report['compiled']['nodes'])}"),
        *([("engines", _engines(report["tensorrt"]["engines"]))] if report.get("tensorrt") else []),
    ]


def _engines(engines: Sequence[Report]) -> str:
    """What was found in each of what was planned."""
    shares = [("?" if item["found"] is None else count(item["found"]), count(item["planned"])) for item in engines]
    found = [f"{one} of {all_} on {item['architecture']}" for (one, all_), item in zip(shares, engines, strict=True)]
    return f"planned in 8 bits and found so: {', '.join(found)}" if found else "none built here"


def _gain(report: Report) -> str:
    smaller, faster = size_change(report), speed_change(report)
    text = f"Against the source, the compiled model is {smaller}"
    if smaller.trend == "unknown":
        text = "How much smaller the model became is not known"
    if faster.trend == "unknown":
        return f"{text}; its speed was {NOT_MEASURED}."
    threads = plural(report["latency"]["threads"], "thread")
    joined = f"; it is {faster}" if smaller.trend == "unknown" else f" and {faster}"
    return f"{text}{joined}, timed on {machine(report)}{threads and f' with {threads}'}."


def _difference(report: Report) -> str:
    far, outputs = distance(report), len(report["quality"]["outputs"])
    if far.kind == "unknown":
        return f"How far its outputs are from the source's was {NOT_MEASURED}."
    samples = plural(report["quality"]["samples"], "sample")
    if far.sqnr_db is None:
        return f"On {samples} its outputs are identical to the source's."
    where = f"the noise in {'its output' if outputs == 1 else 'the worst of its outputs'}"
    side = "below" if far.sqnr_db >= 0 else "above"
    return f"On {samples} {where} lies {decibels(abs(far.sqnr_db))} {side} the signal."


def _kept(report: Report) -> list[str]:
    decision = report.get("decision")
    if not decision or decision["kept"] == "int8":
        return []
    what = "No int8 was kept" if decision["kept"] == "float" else "Only a part of it runs in int8"
    return [sentence(f"{what}: {decision['reason']}" if decision["reason"] else what)]


def sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _arrow(pair: Report, unit: str, show: Any) -> str:
    return f"{show(pair[f'source_{unit}'])} → {show(pair[f'compiled_{unit}'])}"


def _in_brackets(*texts: str) -> str:
    inside = ", ".join(filter(None, texts))
    return f" ({inside})" if inside else ""


def _packed(sizes: Report) -> str:
    """The container beside the model, where there is one."""
    if "packed_bytes" not in sizes:
        return ""
    return f"; model.qcz {size(sizes['packed_bytes'])} ({ratio(sizes['packed_ratio'])} smaller)"


def _gate(gate: Report) -> str:
    name, result = gate["name"], "passed" if gate["passed"] else "FAILED"
    # Decibels of outputs that are identical are infinite, which JSON cannot say.
    value = "identical" if name == "min_sqnr" and gate["value"] is None and gate["passed"] else None
    return f"{name} {result}: {value or gate_value(name, gate['value'])}, {gate_limit(name, gate['limit'])}"


def _metric(metric: Report) -> str:
    drop = metric["drop"]
    how = f"gain {number(-drop)}" if drop is not None and drop < 0 else f"drop {number(drop)}"
    return f"{metric['name']} {number(metric['source'])} → {number(metric['compiled'])} ({how})"
