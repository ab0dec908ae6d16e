"""Why a compiled model is as it is: what rules did, what they nearly did, and what became of each node."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

__all__ = ["explain_model", "explain_node", "node_names", "placed"]

_EXAMPLES = 3  # nodes named for each reason

Document = Mapping[str, Any]


def explain_model(report: Document, trace: Document) -> dict[str, Any]:
    """What happened to the model as a whole.

    ``report`` and ``trace`` are what ``report.json`` and ``trace.json`` hold. Keys of the result: ``decision`` (kept,
    reason) or None, ``undone`` (passes that were rolled back or left out, and why), ``rules`` (those that fired, how
    often, and one node at which), ``near_misses`` (reasons for which rules did not fire, how often, and some nodes),
    ``chosen`` (each form that layers took: how many, their times in the source and now, and which of them leaves fewest
    decibels by itself), ``pruned`` (groups that lost channels: pass, name, units, kept, removed, nodes; and pieces that
    went whole), ``clustered`` (weights by pass: name, nodes, weights, levels, bits, entropy, sqnr_db), ``layers``
    (those that stayed float, and why) and ``placement`` (what runs nodes, where that is more than one runtime: runs_on,
    op, why, how many, and some nodes), ``engines`` (what is in those that TensorRT built), ``not_int8`` (nodes that it
    did not run in int8 although they are written so, and for which cards) and ``estimated`` (whether times are by a
    model of the card).
    """
    fired = Counter((item["pass"], item["rule"]) for item in trace["rewrites"])
    first = {(item["pass"], item["rule"]): item["took"] for item in reversed(trace["rewrites"])}
    misses: dict[tuple[str, str, str], list[str]] = {}
    gone = {label for item in trace["rewrites"] for label in item["took"]}
    gone -= {label for item in trace["rewrites"] for label in item["gave"]}
    for item in trace["near_misses"]:
        # An operator by itself is what it is, and what another rule took is no loss; asked for by name, both are told.
        if item["matched"] >= 2 and item["node"] not in gone:
            misses.setdefault((item["pass"], item["rule"], _general(item["reason"])), []).append(item["node"])
    decision = report.get("decision")
    return {
        "decision": decision and {"kept": decision["kept"], "reason": decision["reason"]},
        "undone": [
            {"pass": item["name"], "reason": item["reason"]}
            for item in report["passes"]
            if item["status"] in ("rolled-back", "skipped") or item["reason"]
        ],
        "rules": [
            {"pass": name, "rule": rule, "count": count, "example": first[name, rule][:_EXAMPLES]}
            for (name, rule), count in fired.items()
        ],
        "near_misses": [
            {"pass": name, "rule": rule, "reason": reason, "count": len(nodes), "nodes": nodes[:_EXAMPLES]}
            for (name, rule, reason), nodes in sorted(misses.items(), key=lambda entry: -len(entry[1]))
        ],
        "chosen": _chosen(report.get("layers", ())),
        "pruned": _pruned(report),
        "clustered": _clustered(report),
        "trained": _trained(report),
        "layers": [
            {"node": item["node"], "op": item["op"], "reason": item["reason"], "advice": _advice(item)}
            for item in report.get("layers", ())
            if item["choice"] == "float"
        ],
        "placement": placed(report),
        "engines": _engines(report),
        "not_int8": _not_int8(report),
        "estimated": _estimated(report),
    }


def _engines(report: Document) -> list[dict[str, Any]]:
    """What is in the engines that TensorRT built."""
    return [dict(item) for item in (report.get("tensorrt") or {}).get("engines", ())]


def _not_int8(report: Document) -> list[dict[str, Any]]:
    """Nodes that are written to run in int8 and do not, with the architectures of the engines."""
    found: dict[str, list[str]] = {}
    for item in _engines(report):
        for node in item["left_float"]:
            found.setdefault(node, []).append(item["architecture"])
    return [{"node": node, "architectures": cards} for node, cards in found.items()]


def _estimated(report: Document) -> bool:
    """True when the times of layers are not measured but follow from a model of the card."""
    return bool(report["latency"].get("estimate"))


def placed(report: Document) -> list[dict[str, Any]]:
    """What runs the nodes of the compiled model, and why: one entry for each reason, with all of its nodes."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for item in report.get("placement", ()):
        found.setdefault((item["runs_on"], item["op"], item["why"]), []).append(item["node"])
    return [
        {"runs_on": on, "op": op, "why": why, "count": len(nodes), "nodes": nodes}
        for (on, op, why), nodes in sorted(found.items(), key=lambda pair: (pair[0][0] != "kernel", -len(pair[1])))
    ]


def _pruned(report: Document) -> list[dict[str, Any]]:
    """What passes that were not rolled back took out."""
    found = []
    for item in report["passes"]:
        details = item.get("details", {}) if item["status"] == "applied" else {}
        found += [
            {"pass": item["name"], **group} for group in details.get("groups", ()) if group["kept"] < group["units"]
        ]
        found += [{"pass": item["name"], "name": name, "units": 1, "kept": 0, "removed": "", "nodes": []}
                  for name in details.get("removed", ())]  # fmt: skip
    return found


def _clustered(report: Document) -> list[dict[str, Any]]:
    """Weights that passes that were not rolled back clustered."""
    keys = ("name", "nodes", "weights", "levels", "bits", "entropy", "sqnr_db")
    return [
        {"pass": item["name"], **{key: layer[key] for key in keys}}
        for item in report["passes"]
        if item["status"] == "applied"
        for layer in item.get("details", {}).get("layers", ())
    ]


def _trained(report: Document) -> list[dict[str, Any]]:
    """What training did: held-out loss before and after, and what had no part in it, by pass."""
    found = []
    for item in report["passes"]:
        training = item.get("details", {}).get("training")
        if training and item["status"] == "applied":
            epochs = training["epochs"]
            kept = next((each for each in epochs if each["epoch"] == training["kept"]), epochs[0])
            found.append({
                "pass": item["name"], "kept": training["kept"], "reason": training["reason"],
                "loss_before": epochs[0]["held_out"], "loss_after": kept["held_out"], "learned": training["learned"],
                "idle": training["frozen"] | training["elsewhere"],
            })  # fmt: skip
    return found


def _chosen(layers: Sequence[Document]) -> list[dict[str, Any]]:
    """What layers became, by form; times are sums over those of which both are known."""
    found = []
    for choice in dict.fromkeys(item["choice"] for item in layers if item["choice"] != "float"):
        those = [item for item in layers if item["choice"] == choice]
        timed = [item for item in those if item["source_us"] is not None and item["compiled_us"] is not None]
        known = [item for item in those if item["sqnr_db"] is not None]
        worst = min(known, key=lambda item: float(item["sqnr_db"]), default=None)
        found.append({
            "choice": choice,
            "count": len(those),
            "source_us": sum(item["source_us"] for item in timed) if timed else None,
            "compiled_us": sum(item["compiled_us"] for item in timed) if timed else None,
            "worst": worst and worst["node"],
            "sqnr_db": worst and worst["sqnr_db"],
        })  # fmt: skip
    return found


def explain_node(report: Document, trace: Document, standing: Mapping[str, str], name: str) -> dict[str, Any]:
    """What is known of the node ``name`` of the source or of the compiled model.

    ``standing`` maps the names of the compiled model's nodes to their operator types. Keys of the result: ``node``,
    ``op`` (None where it is gone), ``stands``, ``history`` (the rewrites that took or gave it, in order), ``became``
    (for one that is gone: the nodes that stand for it now), ``near_misses``, ``layer`` (choice, reason, times,
    sqnr_db, advice) or None, ``pruned`` (groups whose weights it holds that lost channels), ``clustered`` (its
    weights), ``not_int8`` (architectures of engines in which it runs in float although it is written in int8) and
    ``placement`` (runs_on and why) or None. Raises KeyError, with names that are close, when
    nobody knows the node.
    """
    history = [item for item in trace["rewrites"] if name in map(_name, (*item["took"], *item["gave"]))]
    misses = [item for item in trace["near_misses"] if _name(item["node"]) == name]
    layer = next((item for item in report.get("layers", ()) if item["node"] == name), None)
    if not (history or misses or layer or name in standing):
        known = node_names(report, trace, standing)
        lower = {each.lower(): each for each in known}
        raise KeyError(*(lower[near] for near in get_close_matches(name.lower(), lower, n=3)))
    return {
        "node": name,
        "op": standing.get(name)
        or next((_kind(each) for each in _labels(history, misses) if _name(each) == name), None),
        "stands": name in standing,
        "history": history,
        "became": [] if name in standing else _became(trace["rewrites"], name, standing),
        "near_misses": [{key: item[key] for key in ("pass", "rule", "reason", "matched")} for item in misses],
        "layer": layer and {**layer, "advice": _advice(layer)},
        "pruned": [item for item in _pruned(report) if name in item["nodes"]],
        "clustered": [item for item in _clustered(report) if name in item["nodes"]],
        "estimated": _estimated(report),
        "not_int8": next((item["architectures"] for item in _not_int8(report) if item["node"] == name), []),
        "placement": next((item for item in report.get("placement", ()) if item["node"] == name), None),
    }


def node_names(report: Document, trace: Document, standing: Mapping[str, str]) -> list[str]:
    """Every node that can be asked for, those of the compiled model first."""
    found = dict.fromkeys(standing)
    found |= dict.fromkeys(item["node"] for item in report.get("layers", ()))
    labels = (label for item in trace["rewrites"] for label in (*item["took"], *item["gave"]))
    return list(found | dict.fromkeys(map(_name, (*labels, *(item["node"] for item in trace["near_misses"])))))


def _became(rewrites: Sequence[Document], name: str, standing: Mapping[str, str]) -> list[str]:
    """Nodes of the compiled model that came, through any number of rewrites, instead of ``name``."""
    current = {name}
    for item in rewrites:
        if current & set(map(_name, item["took"])):
            current |= set(map(_name, item["gave"]))
    return sorted(current & standing.keys())


def _advice(layer: Document) -> str:
    """What would change the choice; empty where nothing that the user can do would."""
    reason = layer["reason"] or ""
    if layer["choice"] != "float":
        return f"`--exclude '^{re.escape(layer['node'])}$'` would leave it float"
    if "does not pay" in reason:
        return "`--min-speedup 0` asks for the smallest model whatever its time"
    if "dB" in reason or "error" in reason:
        return "a lower `--min-sqnr` lets it in"
    if "NaN" in reason or "never ran" in reason:
        return "other samples in `--data` would give it a range"
    if "budget" in reason:
        return "a longer `--budget` gives it its turn"
    if "excluded" in reason:
        return "leave out the `--exclude` that names it"
    return ""


def _labels(history: Sequence[Document], misses: Sequence[Document]) -> list[str]:
    return [
        *(label for item in history for label in (*item["took"], *item["gave"])),
        *(item["node"] for item in misses),
    ]


def _general(reason: str) -> str:
    """``reason`` without the names in it, so that what happened at many nodes is told once."""
    return re.sub(r"<(\S+) [^>]*>", lambda found: "a value" if found[1] == "Value" else f"a {found[1]}", reason)


def _name(label: str) -> str:
    return label.partition(" ")[2] or label


def _kind(label: str) -> str:
    return label.partition(" ")[0]
