"""The HTML page: one file, drawn from the report alone, that loads nothing and runs nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath, PureWindowsPath
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from qcompiler.report import summary, units
from qcompiler.report.plain import plain_report
from qcompiler.report.schema import validate

__all__ = ["MOST_BARS", "MOST_ROWS", "SECTIONS", "render_html"]

SECTIONS = {
    "gates": "Gates",
    "comparison": "Before and after",
    "quality": "Quality",
    "metric": "Metric",
    "passes": "Stage by stage",
    "ops": "Ops",
    "layers": "Layers",
    "decision": "Decision log",
    "ranges": "Ranges",
    "warnings": "Warnings",
    "environment": "Environment and provenance",
    "reproduce": "How to reproduce",
}
"""Titles by id, in order. Layers, decision and ranges are left out where the report has none."""

MOST_ROWS = 1000
"""Rows of one table; what is beyond is only in report.json."""

MOST_BARS = 24
"""Layers in one picture."""

QUIET = 60.0
"""Decibels at which the picture of errors starts: noise of a millionth of the signal's power."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def render_html(report: Mapping[str, Any]) -> str:
    """The page. It holds its style, needs no network and no script, and everything from the report is escaped.

    Raises ValueError if the report does not fit the schema.
    """
    validate(report)
    report = plain_report(report)
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _template().render(_view(report)))


@cache
def _template() -> Template:
    here = files("qcompiler.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: (here / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("count", "decibels", "microseconds", "milliseconds", "number", "ratio", "seconds", "share", "short_count", "size")
    environment.filters |= {name: getattr(units, name) for name in names} | {"option": _option}
    environment.globals |= {"change": summary.change, "gate_value": summary.gate_value, "MOST_ROWS": MOST_ROWS}
    return environment.get_template("report.html.j2")


def _view(report: dict[str, Any]) -> dict[str, Any]:
    """What the template draws: the report, and what follows from it."""
    layers, ranges, decision = report.get("layers") or [], report.get("ranges") or [], report.get("decision")
    fused = report.get("fused")
    absent = {"layers": not layers and not fused, "decision": not decision, "ranges": not ranges}
    return {
        "r": report,
        "title": _title(report),
        "sections": {key: title for key, title in SECTIONS.items() if not absent.get(key)},
        "verdict": summary.verdict(report),
        "gates_line": summary.gates_line(report),
        "failed": sum(not gate["passed"] for gate in report["gates"]),
        "machine": summary.machine(report),
        "tiles": _tiles(report),
        "rows": _rows(report),
        "stages": _stages(report),
        "ops": _ops(report),
        "layers": layers,
        "slowest": _slowest(layers),
        "noisiest": _noisiest(layers),
        "QUIET": QUIET,
        "fused": fused,
        "decision": decision,
        "ranges": [item | _kept_range(item) for item in ranges[:MOST_ROWS]],
        "all_ranges": len(ranges),
        "environment": _environment(report),
        "commands": _commands(report),
    }


def _title(report: Mapping[str, Any]) -> str:
    path = report["source"]["path"]
    return (PureWindowsPath(path) if "\\" in path else PurePath(path)).name or path if path else "A model given in memory"


def _tiles(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures under the verdict: a big text, what it is, how it came about, and whether it is good."""
    smaller, faster, far = summary.size_change(report), summary.speed_change(report), summary.distance(report)
    lines = dict(summary.summary_lines(report))
    quality, metric = report["quality"], report["quality"]["metric"]
    tiles = [
        {"big": smaller.factor or smaller.word, "what": smaller.word if smaller.factor else "file", "trend": smaller.trend},
        {"big": faster.factor or faster.word, "what": faster.word if faster.factor else "latency", "trend": faster.trend},
        {
            "big": str(far),
            "what": "SQNR" if far.kind == "measured" else "outputs",
            "detail": f"worst output: {far.output}" if far.output else "",
            "trend": "unknown" if far.kind == "unknown" else "same",
        },
    ]
    tiles[0]["detail"] = lines["size"].partition(" (")[0]
    tiles[1]["detail"] = lines["latency"].partition(" (")[0] if faster.trend != "unknown" else ""
    if metric:
        trend = "unknown" if metric["drop"] is None else "worse" if metric["drop"] > 0 else "better"
        detail = f"{units.number(metric['source'])} → {units.number(metric['compiled'])}"
        drop = metric["drop"]
        big = units.number(None if drop is None else -drop)
        plus = "+" if drop is not None and drop < 0 else ""
        tiles.append({"big": f"{plus}{big}", "what": metric["name"], "detail": detail, "trend": trend})
    elif quality["agreement"] is not None:
        detail = f"on {units.count(quality['samples'])} samples"
        tiles.append({"big": units.share(quality["agreement"]), "what": "same answer", "detail": detail, "trend": "same"})
    return tiles


def _rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of before and after: texts, and the lengths of the bars in percent of the longer one."""
    source, compiled, latency = report["source"], report["compiled"], report["latency"]
    fewer = ("fewer", "more", "as many")
    found = [
        ("Size", units.size, *(report["size"][f"{one}_bytes"] for one in ("source", "compiled")), summary.size_change(report)),
        ("Latency", units.milliseconds, latency["source_ms"], latency["compiled_ms"], summary.speed_change(report)),
    ]
    for title, key, show in (
        ("Nodes", "nodes", units.count),
        ("Parameters", "parameters", units.short_count),
        ("MACs", "macs", units.short_count),
    ):
        before, after = source[key], compiled[key]
        if before == after and before is not None:
            told = summary.change(1.0, *fewer)
        else:
            told = summary.change(before / after if before and after else None, *fewer)
        found.append((title, show, before, after, told))
    rows = []
    for title, show, before, after, told in found:
        most = max(before or 0, after or 0) or 1
        rows.append(
            {
                "title": title,
                "source": show(before),
                "compiled": show(after),
                "change": told,
                "bars": (_percent(before, most), _percent(after, most)),
            }
        )
    return rows


def _stages(report: Mapping[str, Any]) -> dict[str, Any]:
    passes = report["passes"]
    known = [item["seconds"] for item in passes if item["seconds"] is not None]
    rewrites = sum(sum(item["rewrites"].values()) for item in passes)
    return {"seconds": sum(known) if known else None, "rewrites": rewrites, "most": max(known, default=0) or 1}


def _ops(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Op, count in the source if it is known, count in the compiled model: most frequent first."""
    after, before = report["compiled"]["ops"], report["source"].get("ops")
    names = sorted({*after, *(before or {})}, key=lambda op: (-after.get(op, 0), -(before or {}).get(op, 0), op))
    most = max([*after.values(), *(before or {}).values()], default=1) or 1
    return [
        {
            "op": op,
            "before": None if before is None else before.get(op, 0),
            "after": after.get(op, 0),
            "bars": (None if before is None else _percent(before.get(op, 0), most), _percent(after.get(op, 0), most)),
        }
        for op in names
    ]


def _slowest(layers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The layers that take longest, before or after, with the lengths of their bars."""

    def longest(item: Mapping[str, Any]) -> float:
        return max(item["source_us"] or 0.0, item["compiled_us"] or 0.0)

    timed = [item for item in layers if item["source_us"] is not None or item["compiled_us"] is not None]
    timed = sorted(timed, key=longest, reverse=True)[:MOST_BARS]
    most = longest(timed[0]) or 1 if timed else 1
    return [
        {"layer": item, "bars": (_percent(item["source_us"], most), _percent(item["compiled_us"], most))} for item in timed
    ]


def _noisiest(layers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The layers with most error, with bars from QUIET (empty) to 0 dB (full)."""
    known = sorted((item for item in layers if item["sqnr_db"] is not None), key=lambda item: float(item["sqnr_db"]))
    return [
        {"layer": item, "bar": _percent(min(max(QUIET - item["sqnr_db"], 0.0), QUIET), QUIET)} for item in known[:MOST_BARS]
    ]


def _kept_range(item: Mapping[str, Any]) -> dict[str, Any]:
    """Where the range that was chosen lies in the picture that holds both it and what was observed, in percent."""
    ends = [item["low"], item["high"], *(one for one in (item["min"], item["max"]) if one is not None)]
    left, width = min(ends), max(ends) - min(ends) or 1

    def at(value: float) -> float:
        return _percent(value - left, width) or 0.0

    observed = None
    if item["min"] is not None and item["max"] is not None:
        observed = (at(item["min"]), round(at(item["max"]) - at(item["min"]), 2))
    return {"observed": observed, "chosen": (at(item["low"]), round(at(item["high"]) - at(item["low"]), 2))}


def _percent(value: float | None, most: float) -> float | None:
    return None if value is None else round(100 * value / most, 2)


def _environment(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the numbers come from, label and text."""
    titles = {"cpu": "CPU", "gpu": "GPU", "onnxruntime": "onnxruntime", "threads": "Threads"}
    found = dict(report["environment"])
    lines = [
        ("qcompiler", report["qcompiler"]),
        ("Target", report["target"]),
        ("Recipe", report.get("recipe")),
        ("Data", report.get("data")),
        ("Seed", report.get("seed")),
        *((titles.get(key, key), value or "none") if key == "gpu" else (titles.get(key, key), value) for key, value in found.items()),
        ("Peak memory of the compile", units.size(report["memory"]["peak_rss_bytes"])),
    ]
    known = ("cpu", "gpu", "onnxruntime", "threads")
    return [
        (label, "not recorded" if value is None else _option(value))
        for label, value in lines
        if value is not None or label in map(titles.get, known)
    ]


def _commands(report: Mapping[str, Any]) -> list[str]:
    """Shell commands that check the source, compile it again and time both models."""
    source, threads = report["source"]["path"], report["environment"]["threads"]
    name = shlex.quote(source or "SOURCE.onnx")
    options = ["-o again", f"--target {shlex.quote(report['target'])}", "--recipe recipe.toml"]
    data = report.get("data") or ("DATA" if report["quality"]["samples"] else None)
    options += [f"--data {shlex.quote(data)}"] if data else []
    options += [f"--threads {threads}"] if threads else []
    options += [f"--seed {report['seed']}"] if report.get("seed") is not None else []
    check = f"echo {shlex.quote(report['source']['sha256'] + '  ' + source)} | sha256sum --check"
    return [
        *([check] if source and report["source"]["sha256"] else []),
        f"qcompiler compile {name} {' '.join(options)}",
        f"qcompiler bench {name} again/model.onnx{f' --threads {threads}' if threads else ''}",
    ]


def _option(value: object) -> str:
    """A value as a recipe would write it, short."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(_option, value)) or "none"
        case dict():
            return ", ".join(f"{key} {_option(item)}" for key, item in value.items()) or "none"
    return str(value)
