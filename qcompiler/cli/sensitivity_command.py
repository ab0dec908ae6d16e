"""``qcompiler sensitivity``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qcompiler.cli.console import emit_json, progress_line, some, table

if TYPE_CHECKING:
    from qcompiler.compiler import PruningSensitivity

__all__ = ["sensitivity"]


@click.command(
    epilog="\b\nExamples:\n  qcompiler sensitivity model.onnx --data calib.npz --samples 32\n"
    "  qcompiler sensitivity model.onnx --data calib.npz --prune 0.25"
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="SPEC", help="As for compile; even samples calibrate, odd ones score.")
@click.option("--target", default="ort-cpu", show_default=True, help="What it is to run on.")
@click.option("--prune", "part", type=float, metavar="PART", help="Of pruning instead: without PART of each group.")
@click.option("--recipe", help="NAME or FILE.toml: which forms are tried. [default: int8, or prune with --prune]")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cut batches of this size where the model allows it.")
@click.option("--set", "settings", multiple=True, metavar="PASS.OPTION=VALUE", help="Change an option of a pass.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="Leave out nodes with such a name or type.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a run.")
@click.option("--executor", metavar="SPEC", help="Who judges groups: processes, processes:N or dask:tcp://HOST:PORT.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def sensitivity(
    model: Path,
    data: str,
    target: str,
    part: float | None,
    recipe: str | None,
    samples: int | None,
    batch_size: int | None,
    settings: tuple[str, ...],
    exclude: tuple[str, ...],
    threads: int,
    executor: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Error and time of quantizing each group of MODEL alone, or of pruning it; the most sensitive first."""
    from qcompiler.compiler import pruning_sensitivity
    from qcompiler.compiler import sensitivity as quantizing_sensitivity
    from qcompiler.errors import UsageError

    if part is not None and executor is not None:
        raise UsageError("--executor judges quantizing, not pruning", hint="leave out --executor or --prune")
    with progress_line(quiet) as progress:
        options: dict[str, Any] = {
            "target": target, "samples": samples, "batch_size": batch_size, "settings": settings, "exclude": exclude,
            "threads": threads, "progress": progress,
        }  # fmt: skip
        if part is not None:
            pruned = pruning_sensitivity(model, data, part=part, recipe=recipe or "prune", **options)
        else:
            found = quantizing_sensitivity(model, data, recipe=recipe or "int8", executor=executor, **options)
    if part is not None:
        _tell_pruned(pruned, as_json)
        return
    if as_json:
        emit_json({"groups": [item.record() for item in found]})
        return
    rows = []
    for item in found:
        alone = "" if item.sqnr_db is None else f"{item.sqnr_db:.1f}"
        times = ("" if time is None else f"{time:.0f}" for time in (item.float_us, item.quantized_us))
        rows.append((item.node, item.op, item.form, alone, *times, item.reason))
    table(rows, ("node", "op", "form", "alone dB", "float us", "quantized us", "why not"))


def _tell_pruned(found: list[PruningSensitivity], as_json: bool) -> None:
    if as_json:
        emit_json({"groups": [item.record() for item in found]})
        return
    rows = [
        (item.group, str(item.units), str(item.removed), "" if item.sqnr_db is None else f"{item.sqnr_db:.1f}",
         f"{item.macs:.3f}", some(item.weights), item.reason)
        for item in found
    ]  # fmt: skip
    table(rows, ("group", "units", "removed", "alone dB", "MACs left", "weights that are cut", "why not"))
