"""What the page shows: the report, and what is computed from it, ready to be drawn."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath, PureWindowsPath
from typing import Any

from qcompiler.report import summary
from qcompiler.report.clustering import clustering_view
from qcompiler.report.explanation import placed
from qcompiler.report.histogram import bars_of
from qcompiler.report.neighbourhood import MOST_PICTURES, neighbourhoods
from qcompiler.report.picture import Spot, spread, unbeaten
from qcompiler.report.pruning import pruning_view
from qcompiler.report.summary import distance, fewer, plural, size_change, speed_change
from qcompiler.report.training import training_view
from qcompiler.report.units import NOT_MEASURED, count, milliseconds, number, seconds, share, short_count, size

__all__ = ["MOST_BARS", "MOST_ROWS", "QUIET", "SECTIONS", "option", "view"]

Report = Mapping[str, Any]

SECTIONS = {
    "gates": "Gates",
    "comparison": "Before and after",
    "quality": "Quality",
    "metric": "Metric",
    "passes": "Stage by stage",
    "pruning": "Pruning",
    "clustering": "Clustering",
    "training": "Training",
    "ops": "Ops",
    "times": "Time by op",
    "layers": "Layers",
    "placement": "What runs what",
    "engines": "Engines",
    "decision": "Decision log",
    "ranges": "Ranges",
    "weights": "Weights",
    "graph": "Graph around nodes",
    "warnings": "Warnings",
    "environment": "Environment and provenance",
    "reproduce": "How to reproduce",
}
"""Titles by id, in order. Those of what a compile need not have are left out where the report has none."""

MOST_ROWS = 1000
"""Rows of one table; what is beyond is only in report.json."""

MOST_BARS = 24
"""Layers in one picture."""

QUIET = 60.0
"""Decibels at which the picture of errors starts: noise of a millionth of the signal's power."""


def view(report: dict[str, Any]) -> dict[str, Any]:
    """The variables of the template, from a plain and valid report."""
    layers, ranges = report.get("layers") or [], report.get("ranges") or []
    decision, fused = report.get("decision"), report.get("fused")
    pruning, clustering = pruning_view(report["passes"]), clustering_view(report)
    training = training_view(report["passes"])
    times, weights, graph = _times(report.get("time_by_op")), report.get("weights") or [], neighbourhoods(report)
    absent = {
        "pruning": not pruning,
        "clustering": not clustering,
        "training": not training,
        "layers": not layers and not fused,
        "placement": not report.get("placement"),
        "engines": not report.get("tensorrt"),
        "decision": not decision,
        "ranges": not ranges,
        "times": not times,
        "weights": not weights,
        "graph": not graph,
    }
    first, *others = summary.verdict(report)
    return {
        "r": report,
        "title": _title(report["source"]["path"]),
        "recipe": report.get("recipe"),
        "command": report.get("command"),
        "sections": {key: title for key, title in SECTIONS.items() if not absent.get(key)},
        "verdict": {"first": first, "rest": " ".join(others)},
        "badge": _badge(report),
        "machine": summary.machine(report),
        "tiles": _tiles(report),
        "rows": _rows(report),
        "stages": _stages(report["passes"]),
        "pruning": pruning,
        "clustering": clustering,
        "training": training,
        "ops": _ops(report["source"].get("ops"), report["compiled"]["ops"]),
        "layers": layers,
        "slowest": _slowest(layers),
        "noisiest": _noisiest(layers),
        "fused": fused,
        "decision": decision,
        "placement": placed(report),
        "ranges": [item | _spans(item) for item in ranges[:MOST_ROWS]],
        "all_ranges": len(ranges),
        "times": times,
        "weights": [item | _drawn(item) for item in weights[:MOST_ROWS]],
        "all_weights": len(weights),
        "graph": graph,
        "drawn": {item["name"]: place for place, item in enumerate(graph, 1)},
        "search": _search(decision),
        "environment": _environment(report),
        "commands": _commands(report),
        "MOST_PICTURES": MOST_PICTURES,
        "MOST_ROWS": MOST_ROWS,
        "QUIET": QUIET,
    }


def option(value: object) -> str:
    """A value as a recipe would write it, short."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case "":
            return '""'
        case list():
            return ", ".join(map(option, value)) or "none"
        case dict():
            return ", ".join(f"{key} {option(item)}" for key, item in value.items()) or "none"
    return str(value)


def _title(path: str | None) -> str:
    if not path:
        return "A model given in memory"
    return (PureWindowsPath(path) if "\\" in path else PurePath(path)).name or path


def _badge(report: Report) -> tuple[str, str]:
    """Class and text of the badge that says whether the gates were met."""
    text = summary.gates_line(report).partition(":")[0]
    failed = not all(gate["passed"] for gate in report["gates"])
    return "fail" if failed else "pass" if report["gates"] else "", f"{text[:1].upper()}{text[1:]}"


def _tiles(report: Report) -> list[dict[str, Any]]:
    """The figures under the verdict: a big text, what it is, how it came about, and whether it is good."""
    lines = dict(summary.lines(report))
    far, quality, metric = distance(report), report["quality"], report["quality"]["metric"]
    tiles = []
    for line, what, told in (("size", "file", size_change(report)), ("latency", "latency", speed_change(report))):
        detail = "" if told.trend == "unknown" else lines[line].partition(" (")[0]
        big, what = (told.factor, told.word) if told.factor else (told.word, what)
        tiles.append({"big": big, "what": what, "detail": detail, "trend": told.trend})
    tiles.append(
        {
            "big": str(far),
            "what": "SQNR" if far.kind == "measured" else "outputs",
            "detail": f"{'worst ' * (len(quality['outputs']) > 1)}output: {far.output}" if far.output else "",
            "trend": "unknown" if far.kind == "unknown" else "same",
        }
    )
    if metric:
        drop = metric["drop"]
        big = NOT_MEASURED if drop is None else f"{'+' if drop < 0 else ''}{number(-drop)}"
        detail = f"{number(metric['source'])} → {number(metric['compiled'])}"
        trend = "unknown" if drop is None else "same"
        tiles.append({"big": big, "what": metric["name"], "detail": detail, "trend": trend})
    elif quality["agreement"] is not None:
        detail = f"on {plural(quality['samples'], 'sample')}"
        tiles.append({"big": share(quality["agreement"]), "what": "same answer", "detail": detail, "trend": "same"})
    return [tile | {"words": not any(map(str.isdigit, tile["big"]))} for tile in tiles]


def _rows(report: Report) -> list[dict[str, Any]]:
    """The table of before and after: texts, and the lengths of the bars in percent of the longer one."""
    latency, sizes = report["latency"], report["size"]
    rows = [
        _row("Size", size, sizes["source_bytes"], sizes["compiled_bytes"], size_change(report)),
        _row("Latency", milliseconds, latency["source_ms"], latency["compiled_ms"], speed_change(report)),
    ]
    for title, key, show in (
        ("Nodes", "nodes", count),
        ("Parameters", "parameters", short_count),
        ("MACs", "macs", short_count),
    ):
        before, after = report["source"][key], report["compiled"][key]
        rows.append(_row(title, show, before, after, fewer(before, after)))
    return rows


def _row(title: str, show: Any, before: float | None, after: float | None, told: summary.Change) -> dict[str, Any]:
    most = max(before or 0, after or 0) or 1
    known = before is not None and after is not None
    return {
        "title": title,
        "source": show(before),
        "compiled": show(after),
        "change": "" if known and told.trend == "unknown" else str(told),
        "trend": told.trend,
        "bars": (_percent(before, most), _percent(after, most)) if known else None,
    }


def _stages(passes: Sequence[Report]) -> dict[str, Any]:
    known = [item["seconds"] for item in passes if item["seconds"] is not None]
    rewrites = sum(sum(item["rewrites"].values()) for item in passes)
    return {"seconds": sum(known) if known else None, "rewrites": rewrites}


def _ops(before: Mapping[str, int] | None, after: Mapping[str, int]) -> list[dict[str, Any]]:
    """Op, count in the source if it is known, count in the compiled model: most frequent first."""
    old = before or {}
    names = sorted({*after, *old}, key=lambda op: (-after.get(op, 0), -old.get(op, 0), op))
    most = max([*after.values(), *old.values()], default=1) or 1
    return [
        {
            "op": op,
            "before": None if before is None else old.get(op, 0),
            "after": after.get(op, 0),
            "bars": (_percent(old.get(op, 0), most), _percent(after.get(op, 0), most)),
        }
        for op in names
    ]


def _times(by_op: Mapping[str, Mapping[str, float]] | None) -> list[dict[str, Any]]:
    """Op and its time in both models: the longest first. An op that one of them has none of takes no time there."""
    if not by_op:
        return []
    before, after = by_op["source"], by_op["compiled"]
    names = sorted({*before, *after}, key=lambda op: (-max(before.get(op, 0.0), after.get(op, 0.0)), op))
    most = max([*before.values(), *after.values()], default=1.0) or 1.0
    return [
        {
            "op": op,
            "before": before.get(op, 0.0),
            "after": after.get(op, 0.0),
            "bars": (_percent(before.get(op, 0.0), most), _percent(after.get(op, 0.0), most)),
        }
        for op in names
    ]


def _search(decision: Report | None) -> dict[str, Any] | None:
    """What was tried, as points; None where fewer than two have both figures."""
    tried = decision["tried"] if decision else []
    known = [item for item in tried if item["sqnr_db"] is not None and item["speedup"] is not None]
    best = unbeaten([(item["speedup"], item["sqnr_db"]) for item in known])
    spots = [
        Spot(float(item["speedup"]), float(item["sqnr_db"]), item["name"] if item["kept"] else "", good)
        for item, good in zip(known, best, strict=True)
    ]
    return spread(spots) if len(spots) > 1 else None


def _drawn(item: Report) -> dict[str, Any]:
    """Bars of what a weight was, and left end and width of what it is stored as, in percent of both together."""
    ends = [one for one in (item["low"], item["high"], item["stored_low"], item["stored_high"]) if one is not None]
    left, width = min(ends), (max(ends) - min(ends)) or 1.0
    bars = bars_of(item["histogram"], 100 * (item["low"] - left) / width, 100 * (item["high"] - item["low"]) / width)
    if item["stored_low"] is None:
        return {"bars": bars, "after": None}
    start = round(100 * (item["stored_low"] - left) / width, 2)
    return {"bars": bars, "after": (start, round(100 * (item["stored_high"] - item["stored_low"]) / width, 2))}


def _slowest(layers: Iterable[Report]) -> list[dict[str, Any]]:
    """The layers that take longest, before or after, with the lengths of their bars."""

    def longest(item: Report) -> float:
        return max(item["source_us"] or 0.0, item["compiled_us"] or 0.0)

    timed = [item for item in layers if item["source_us"] is not None or item["compiled_us"] is not None]
    timed = sorted(timed, key=longest, reverse=True)[:MOST_BARS]
    most = (longest(timed[0]) if timed else 0) or 1
    return [
        {"layer": item, "bars": (_percent(item["source_us"], most), _percent(item["compiled_us"], most))}
        for item in timed
    ]


def _noisiest(layers: Iterable[Report]) -> list[dict[str, Any]]:
    """The layers with most error, with bars from QUIET (empty) to 0 dB (full)."""
    known = [item for item in layers if item["sqnr_db"] is not None]
    known.sort(key=lambda item: float(item["sqnr_db"]))
    return [
        {"layer": item, "bar": _percent(min(max(QUIET - item["sqnr_db"], 0), QUIET), QUIET)}
        for item in known[:MOST_BARS]
    ]


def _spans(item: Report) -> dict[str, Any]:
    """Left end and width, in percent, of the range that was observed and of the one that was chosen."""
    ends = [one for one in (item["low"], item["high"], item["min"], item["max"]) if one is not None]
    left, width = min(ends), max(ends) - min(ends) or 1.0

    def span(low: float | None, high: float | None) -> tuple[float, float] | None:
        if low is None or high is None:
            return None
        return round(100 * (low - left) / width, 2), round(100 * max(high - low, 0) / width, 2)

    observed = span(item["min"], item["max"])
    return {
        "observed": observed,
        "chosen": span(item["low"], item["high"]),
        "bars": bars_of(item.get("histogram") or [], *observed) if observed else [],
    }


def _percent(value: float | None, most: float) -> float | None:
    return None if value is None else round(100 * value / most, 2)


def _environment(report: Report) -> list[tuple[str, str]]:
    """Where the numbers come from, label and text."""
    machine = dict(report["environment"])
    known = {
        "CPU": machine.pop("cpu") or "not recorded",
        "GPU": machine.pop("gpu") or "none",
        "onnxruntime": machine.pop("onnxruntime") or "not recorded",
        "Threads": option(machine.pop("threads") or "not recorded"),
        "Peak memory": size(report["memory"]["peak_rss_bytes"]),
    }
    made = {"Recipe": report.get("recipe"), "Data": report.get("data"), "Seed": report.get("seed")}
    return [
        ("qcompiler", report["qcompiler"]),
        ("Target", report["target"]),
        *((label, option(value)) for label, value in made.items() if value is not None),
        *known.items(),
        *([("Time of the compile", seconds(report["seconds"]))] if report.get("seconds") is not None else []),
        *((f"{label[:1].upper()}{label[1:]}", option(value)) for label, value in machine.items()),
    ]


def _commands(report: Report) -> list[str]:
    """Shell commands that check the source, compile it again and time both models."""
    path, digest, threads = report["source"]["path"], report["source"]["sha256"], report["environment"]["threads"]
    data = report.get("data") or ("DATA" if report["quality"]["samples"] else None)
    model = shlex.quote(path or "SOURCE.onnx")
    with_threads = f" --threads {threads}" if threads else ""
    options = [f"--target {shlex.quote(report['target'])}", "--recipe recipe.toml"]
    options += [f"--data {shlex.quote(data)}"] if data else []
    options += [f"--seed {report['seed']}"] if report.get("seed") is not None else []
    return [
        *([f"echo {shlex.quote(f'{digest}  {path}')} | sha256sum --check"] if path and digest else []),
        f"qcompiler compile {model} -o again {' '.join(options)}{with_threads}",
        f"qcompiler bench {model} again/model.onnx{with_threads}",
    ]
