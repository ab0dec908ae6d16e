"""The report as a document: what was measured, in the words of schema 1."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from qcompiler.compiler.assess import Measured, environment, layer_records, peak_rss, statistics_of
from qcompiler.compiler.job import SLOWER, Job
from qcompiler.ir import Model
from qcompiler.pipeline import PassRecord
from qcompiler.report import SCHEMA
from qcompiler.search import Choice

__all__ = ["decision_of", "digest", "fill_sizes", "report_of", "trace_of"]


def report_of(
    job: Job, before: dict[str, Any], final: Measured, records: list[PassRecord], seed: int
) -> dict[str, Any]:
    """The report but for what only the written file tells and what a choice adds."""
    after = statistics_of(final.model)
    path = Path(job.source) if isinstance(job.source, str | Path) else None
    gates = _gate_records(job, final)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        **environment(job.target.name, job.threads),
        "source": {
            "path": str(path) if path else None,
            "sha256": digest(path) if path else None,
            "bytes": path.stat().st_size + before["external_bytes"] if path else before["weight_bytes"],
            **{key: before[key] for key in ("nodes", "parameters", "macs", "ops")},
        },
        "compiled": {
            "path": None,
            "sha256": None,
            "bytes": after["weight_bytes"],
            **{key: after[key] for key in ("nodes", "parameters", "macs", "ops")},
        },
        "passes": [_pass_record(record) for record in records],
        "quality": final.quality_record(),
        "latency": final.latency_record(),
        "memory": {"peak_rss_bytes": peak_rss()},
        "gates": gates,
        "warnings": list(job.context.warnings),
        "recipe": job.recipe.name,
        "seed": seed,
    }
    if placed := job.target.runs_on(final.model):
        report["placement"] = placed
    fill_sizes(report)
    return report


def decision_of(job: Job, model: Model, choice: Choice) -> dict[str, Any]:
    """What was tried, what was kept and why, and what became of each group."""
    groups, best = job.context.facts["forms"], choice.best
    tried = [
        {
            "name": item.name,
            "sqnr_db": item.quality.sqnr_db,
            "speedup": item.speedup,
            "int8_nodes": len(item.plan),
            "kept": item.kept,
            "why": item.why,
        }
        for item in choice.tried
    ]
    kept = "float" if best is None else ("int8" if len(best.plan) == len(groups) else "partly")
    sample = next(iter(job.scoring))
    facts = job.context.facts
    seen = facts.get("statistics", {})
    layers = layer_records(model, choice, facts["forms"], facts["refused"], seen, sample, job)
    reason = choice.reason if job.target.timed_here or best is None else f"{choice.reason}, by estimate"
    return {"decision": {"kept": kept, "reason": reason, "tried": tried}, **layers}


def trace_of(records: list[PassRecord]) -> dict[str, Any]:
    """What ``trace.json`` holds: every rewrite, and where a rule nearly matched and why it did not.

    A node that only is of the right type for a rule is no near miss: two nodes of the pattern have to be there, or the
    rule itself has to have refused. One that came about in a later round is none either.
    """
    rewrites = [
        {"pass": record.name, "rule": item.rule, "took": list(item.nodes_in), "gave": list(item.nodes_out)}
        for record in records
        for item in record.trace
    ]
    fired = {(item["rule"], label) for item in rewrites for label in item["took"]}
    seen: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in records:
        for miss in record.near_misses:
            if (miss.matched >= 2 or miss.refused) and (miss.rule, miss.node) not in fired:
                entry = {
                    "pass": record.name,
                    "rule": miss.rule,
                    "node": miss.node,
                    "reason": miss.reason,
                    "matched": miss.matched,
                    "refused": miss.refused,
                }
                seen.setdefault((miss.rule, miss.node, miss.reason), entry)
    return {"schema": SCHEMA, "rewrites": rewrites, "near_misses": list(seen.values())}


def _gate_records(job: Job, final: Measured) -> list[dict[str, Any]]:
    """Each limit, what was reached, and whether that is enough."""
    found = []
    for name, limit in job.recipe.gates.items():
        if name == "min_sqnr":
            value, passed = final.quality.sqnr_db, final.quality.sqnr_db >= limit
        elif name == "min_speedup":
            if final.time is None:
                if limit > 0:
                    job.context.warn("the speed was not measured: what the target runs on is not here")
                found.append({"name": name, "limit": limit, "value": None, "passed": limit <= 0})
                continue
            # What is the same file cannot be slower: a difference is the clock's.
            value, passed = final.speedup, final.speedup >= min(limit, SLOWER if limit == 1.0 else limit)
        else:
            drop = final.drop
            value, passed = (math.nan, False) if drop is None else (drop, drop <= limit)
        found.append({"name": name, "limit": limit, "value": value, "passed": bool(passed)})
        if not passed:
            job.context.warn(f"gate {name} was not met: {value:.4g} against a limit of {limit:g}")
    return found


def _pass_record(record: PassRecord) -> dict[str, Any]:
    names = (
        "name",
        "options",
        "seconds",
        "changed",
        "nodes_before",
        "nodes_after",
        "rewrites",
        "sqnr_db",
        "status",
        "reason",
        "target_nodes_before",
        "target_nodes_after",
        "fusions_before",
        "fusions_after",
    )
    found = {name: getattr(record, name) for name in names}
    return found | ({"details": record.details} if record.details else {})


def fill_sizes(report: dict[str, Any]) -> None:
    """Work out ``size`` from the bytes of both models."""
    source, compiled = report["source"]["bytes"], report["compiled"]["bytes"]
    report["size"] = {
        "source_bytes": source,
        "compiled_bytes": compiled,
        "ratio": source / compiled if compiled else None,
    }


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
