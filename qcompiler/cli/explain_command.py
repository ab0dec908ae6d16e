"""``qcompiler explain``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from qcompiler.cli.console import emit_json, result, some, table

__all__ = ["explain"]


@click.command(epilog="\b\nExamples:\n  qcompiler explain build\n  qcompiler explain build Conv_41")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("node", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(folder: Path, node: str | None, as_json: bool) -> None:
    """Why the model in DIR is as it is: which rules fired, which nearly did and why not, what stayed float.

    With NODE, of the source or of the result: where it came from, what became of it, and what would change it.
    """
    from qcompiler.errors import UsageError
    from qcompiler.report import explain_model, explain_node, read

    report = read(folder / "report.json")
    trace = _read(folder / "trace.json")
    if node is None:
        found = explain_model(report, trace)
        emit_json(found) if as_json else _tell_model(found)
        return
    try:
        found = explain_node(report, trace, _standing(folder / "model.onnx"), node)
    except KeyError as error:
        hint = (
            f"did you mean {' or '.join(map(repr, error.args))}?"
            if error.args
            else "`qcompiler explain DIR` names some"
        )
        raise UsageError(f"neither model has a node '{node}'", hint=hint) from None
    emit_json(found) if as_json else _tell_node(found)


def _read(path: Path) -> Any:
    from qcompiler.errors import ImportFailure

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ImportFailure(f"there is no file {path}", hint="give a folder that `qcompiler compile` made") from None
    except (OSError, ValueError) as error:
        raise ImportFailure(f"{path} cannot be read: {error}", hint="compile again") from None


def _standing(path: Path) -> dict[str, str]:
    from qcompiler.onnx_io import load

    return {node.name: node.op_type for node in load(path).nodes()}


def _tell_model(found: dict[str, Any]) -> None:
    if found["decision"]:
        result(f"kept {found['decision']['kept']}: {found['decision']['reason']}")
    for item in found["undone"]:
        result(f"{item['pass']}: {item['reason']}")
    if found["rules"]:
        rows = [(item["rule"], str(item["count"]), item["pass"], some(item["example"])) for item in found["rules"]]
        table(rows, ("rule that fired", "times", "pass", "for example at"))
    else:
        result("no rule fired")
    if found["near_misses"]:
        rows = [
            (item["rule"], str(item["count"]), item["reason"], some(item["nodes"])) for item in found["near_misses"]
        ]
        table(rows, ("rule that nearly fired", "times", "why not", "for example at"))
    if found["chosen"]:
        forms = [
            (item["choice"], str(item["count"]), _number(item["source_us"]), _number(item["compiled_us"]),
             item["worst"] or "", _number(item["sqnr_db"], 1))
            for item in found["chosen"]
        ]  # fmt: skip
        by = " (estimated)" if found["estimated"] else ""
        table(forms, ("form", "layers", f"us before{by}", f"us now{by}", "most sensitive", "dB with it alone"))
    if found["pruned"]:
        pruned = [(item["name"], str(item["units"]), str(item["kept"]), item["removed"], some(item["nodes"]))
                for item in found["pruned"]]  # fmt: skip
        table(pruned, ("what was pruned", "units", "kept", "which went", "weights that were cut"))
    if found["clustered"]:
        clustered = [
            (item["name"], some(item["nodes"]), str(item["weights"]), str(item["levels"]), str(item["bits"]),
             f"{item['entropy']:.2f}", _number(item["sqnr_db"], 1))
            for item in found["clustered"]
        ]  # fmt: skip
        table(clustered, ("clustered weights", "read by", "how many", "levels", "bits", "entropy", "dB of the weights"))
    if found["placement"]:
        places = [
            (item["runs_on"], item["op"], str(item["count"]), item["why"], some(item["nodes"]))
            for item in found["placement"]
        ]
        table(places, ("what runs it", "operator", "nodes", "why", "for example"))
    if found["engines"]:
        engines = []
        for item in found["engines"]:
            share = f"{'?' if item['found'] is None else item['found']} of {item['planned']}"
            counts = (str(item["layers"]), str(item["products"]), share, str(item["reformats"]))
            engines.append((item["architecture"], *counts, item["file"]))
        table(engines, ("engine for", "launches", "products", "planned in 8 bits, found", "reformats", "file"))
    if found["not_int8"]:
        missed = [(item["node"], ", ".join(item["architectures"])) for item in found["not_int8"]]
        table(missed, ("planned in 8 bits, and TensorRT runs it in float", "on"))
    for item in found["trained"]:
        result(f"{item['pass']}: {item['reason']}, epoch {item['kept']} kept, held-out loss "
               f"{item['loss_before']:.4g} -> {item['loss_after']:.4g}")  # fmt: skip
        if item["idle"]:
            table(list(item["idle"].items()), ("did not learn", "why"))
    if found["layers"]:
        rows = [(item["node"], item["op"], item["reason"], item["advice"]) for item in found["layers"]]
        table(rows, ("stays float", "operator", "why", "what would change it"))


def _tell_node(found: dict[str, Any]) -> None:
    result(f"{found['op'] or 'node'} {found['node']}: {_fate(found)}")
    for item in found["history"]:
        gave = some(item["gave"], 8) or "nothing"
        result(f"  {item['pass']}, {item['rule']}: {some(item['took'], 8)} became {gave}")
    for item in found["near_misses"]:
        result(f"  {item['pass']}, {item['rule']} did not fire: {item['reason']}")
    for item in found["pruned"]:
        result(f"  {item['pass']}: group {item['name']} lost {item['units'] - item['kept']} of {item['units']} units")
    for item in found["clustered"]:
        coded = f"{item['entropy']:.2f} bits each when coded"
        result(f"  {item['pass']}: {item['weights']} weights share {item['levels']} levels, {coded}")
    if found["placement"]:
        result(f"  run by {found['placement']['runs_on']}: {found['placement']['why']}")
    if found["not_int8"]:
        result(f"  TensorRT runs it in float on {', '.join(found['not_int8'])}, although it is written in 8 bits")
    layer = found["layer"]
    if layer:
        about = "an estimated " if found["estimated"] else ""
        times = [f"{about}{layer[key]:.0f} us {word}" for key, word in (("source_us", "before"), ("compiled_us", "now"))
                 if layer[key] is not None]  # fmt: skip
        error = (
            [f"{layer['sqnr_db']:.1f} dB at the output when it alone is quantized"]
            if layer["sqnr_db"] is not None
            else []
        )
        result(f"  runs in {layer['choice']}" + "".join(f", {text}" for text in (*times, *error)))
        for text in (layer["reason"], layer["advice"]):
            if text:
                result(f"  {text}")


def _number(value: float | None, places: int = 0) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _fate(found: dict[str, Any]) -> str:
    if found["stands"]:
        return "stands in the compiled model"
    if found["became"]:
        return f"is gone; in its place {'stands' if len(found['became']) == 1 else 'stand'} {some(found['became'], 8)}"
    return "is gone, and nothing stands in its place"
