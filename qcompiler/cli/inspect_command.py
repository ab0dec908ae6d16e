"""``qcompiler inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qcompiler.cli.console import emit_json, result, some, table

__all__ = ["inspect"]


@click.command(epilog="\b\nExample:\n  qcompiler inspect model.onnx")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="ort-cpu", show_default=True, help="For what could be quantized.")
@click.option("--groups", "with_groups", is_flag=True, help="Channels that can be pruned, and what is kept whole.")
@click.option(
    "--dot", type=click.Path(path_type=Path), help="Draw the groups into a file for Graphviz (with --groups)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: Path, target: str, with_groups: bool, dot: Path | None, as_json: bool) -> None:
    """What is in MODEL: operators, parameters, MACs, sizes, dynamic axes; what could be fused, quantized or pruned."""
    if dot is not None and not with_groups:
        from qcompiler.errors import UsageError

        raise UsageError("--dot draws groups of channels", hint="add --groups")
    found: dict[str, Any] = describe(model, target) if not with_groups else {"channels": prunable(model, target, dot)}
    if as_json:
        emit_json(found)
        return
    if with_groups:
        _tell_groups(found["channels"])
        return
    rows = [
        ("file", f"{found['bytes'] / 1e6:.2f} MB, operator set {found['opset']}, {found['producer']}"),
        ("nodes", f"{found['nodes']} ({found['nodes_after_lossless']} after the lossless recipe)"),
        ("parameters", f"{found['parameters'] / 1e6:.3f} M"),
        ("MACs", f"{found['macs'] / 1e6:.2f} M, dynamic axes counted as 1"),
    ]
    rows += [("input", f"{item['name']}: {item['type']}") for item in found["inputs"]]
    rows += [("output", f"{item['name']}: {item['type']}") for item in found["outputs"]]
    rows.append(("dynamic axes", ", ".join(found["dynamic_axes"]) or "none"))
    rows.append(("rewrites", ", ".join(f"{name} {count}" for name, count in found["fusible"].items()) or "none"))
    table(rows)
    table([(name, str(count)) for name, count in found["ops"].items()], ("operator", "count"))
    quantizable = found["quantizable"]
    result(f"{len(quantizable['groups'])} groups could run in int8 on {target}")
    for node, reason in quantizable["refused"].items():
        result(f"  {node} stays float: {reason}")


def prunable(path: Path, target_name: str, dot: Path | None = None) -> dict[str, Any]:
    """Channel groups of the model after the lossless recipe, and the layers that are kept whole, with reasons.

    With ``dot`` they are drawn into that file. Raises ImportFailure and OutputError.
    """
    from qcompiler.cli.drawing import drawn
    from qcompiler.cli.files import write_whole
    from qcompiler.cli.models import model_file
    from qcompiler.compiler import find_recipe, find_target, name_all
    from qcompiler.onnx_io import infer_types, load, upgrade_opset
    from qcompiler.ops import info
    from qcompiler.passes.prune import channel_groups
    from qcompiler.pipeline import PassContext, Pipeline

    model = load(model_file(path))
    upgrade_opset(model)
    infer_types(model)
    name_all(model)  # names as compile has them
    model, _ = Pipeline(find_recipe("lossless").passes).run(model, PassContext(target=find_target(target_name)))
    infer_types(model)
    found = channel_groups(model)
    if dot is not None:
        text = drawn(model, found.groups)
        write_whole(dot, lambda partial: partial.write_text(text, encoding="utf-8"))
    held = {value: value.constant.size for value in model.graph.constants if value.constant is not None}
    groups = []
    for group in found.groups:
        weights = {value.name: held[value] for value, _ in group.places if value in held and held[value] > group.size}
        groups.append({
            "name": group.name,
            "units": group.size,
            "parameters": sum(weights.values()),
            "weights": list(weights),
            "values": [f"{value.name}[{axis}]" for value, axis in group.places if value not in held],
        })  # fmt: skip
    kept = {node.name or node.output.name: reason for node, reason in found.kept.items()}
    places = {place for group in found.groups for place in group.places}
    sizes = {}
    for node in model.graph:
        known, weight = info(node), node.input(1)
        if known is not None and known.role == "compute" and weight is not None and weight in held:
            sizes[weight] = held[weight]
    within = sum(size for value, size in sizes.items() if any((value, axis) in places for axis in range(8)))
    return {"groups": groups, "kept_whole": kept, "weights": sum(sizes.values()), "weights_in_groups": within}


def _tell_groups(found: dict[str, Any]) -> None:
    rows = [
        (item["name"], str(item["units"]), str(item["parameters"]), some(item["weights"]), some(item["values"]))
        for item in found["groups"]
    ]
    table(rows, ("group", "units", "parameters", "weights that are cut", "values that get narrower"))
    share = found["weights_in_groups"] / found["weights"] if found["weights"] else 0.0
    result(f"{100 * share:.1f} % of the {found['weights']} convolution and linear weights lie in groups")
    for node, reason in found["kept_whole"].items():
        result(f"  {node} is kept whole: {reason}")


def describe(path: Path, target_name: str) -> dict[str, Any]:
    """Everything that ``inspect`` prints. Raises ImportFailure and UsageError."""
    from qcompiler.cli.models import model_file
    from qcompiler.compiler import find_recipe, find_target, statistics_of
    from qcompiler.ir import format_type
    from qcompiler.onnx_io import infer_types, load, upgrade_opset
    from qcompiler.pipeline import PassContext, Pipeline

    target = find_target(target_name)
    path = model_file(path)
    model = load(path)
    infer_types(model)
    counted = statistics_of(model)
    inputs = [value for value in model.graph.inputs if value.const is None]
    sizes = {dim for value in (*inputs, *model.graph.outputs) for dim in value.shape or () if isinstance(dim, str)}
    found = {
        "path": str(path),
        "bytes": path.stat().st_size + counted["external_bytes"],
        "opset": model.opset,
        "opsets": {domain or "ai.onnx": version for domain, version in model.opsets.items()},
        "ir_version": model.ir_version,
        "producer": " ".join(part for part in model.producer if part) or "unknown producer",
        "nodes": counted["nodes"],
        "parameters": counted["parameters"],
        "macs": counted["macs"],
        "ops": counted["ops"],
        "functions": [":".join(part for part in key if part) for key in model.functions],
        "inputs": [{"name": value.name, "type": format_type(value.type)} for value in inputs],
        "outputs": [{"name": value.name, "type": format_type(value.type)} for value in model.graph.outputs],
        "dynamic_axes": sorted(sizes),
        "overridable_initializers": sum(1 for value in model.graph.inputs if value.const is not None),
    }
    upgrade_opset(model)
    model, records = Pipeline(find_recipe("lossless").passes).run(model, PassContext(target=target))
    found["nodes_after_lossless"] = model.count_nodes()
    found["fusible"] = {name: count for record in records for name, count in record.rewrites.items()}
    groups, refused = target.groups(model)
    found["quantizable"] = {
        "groups": [group.name for group in groups if group.data],
        "refused": {node.name or node.output.name: reason for node, reason in refused.items()},
    }
    return found
