"""``qcompiler sensitivity``"""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli.console import emit_json, progress_line, table

__all__ = ["sensitivity"]


@click.command(epilog="\b\nExample:\n  qcompiler sensitivity model.onnx --data calib.npz --samples 32")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="SPEC", help="As for compile; even samples calibrate, odd ones score.")
@click.option("--target", default="ort-cpu", show_default=True, help="What it is to run on.")
@click.option("--recipe", default="int8", show_default=True, help="NAME or FILE.toml: which forms are tried.")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cut batches of this size where the model allows it.")
@click.option("--set", "settings", multiple=True, metavar="PASS.OPTION=VALUE", help="Change an option of a pass.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="Leave out nodes with such a name or type.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def sensitivity(
    model: Path,
    data: str,
    target: str,
    recipe: str,
    samples: int | None,
    batch_size: int | None,
    settings: tuple[str, ...],
    exclude: tuple[str, ...],
    threads: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Error and time of quantizing each group of MODEL alone, the most sensitive first."""
    from qcompiler.compiler import sensitivity as judge

    with progress_line(quiet) as progress:
        found = judge(
            model, data, target=target, recipe=recipe, samples=samples, batch_size=batch_size, settings=settings,
            exclude=exclude, threads=threads, progress=progress,
        )  # fmt: skip
    if as_json:
        emit_json({"groups": [item.record() for item in found]})
        return
    rows = []
    for item in found:
        alone = "" if item.sqnr_db is None else f"{item.sqnr_db:.1f}"
        times = ("" if time is None else f"{time:.0f}" for time in (item.float_us, item.quantized_us))
        rows.append((item.node, item.op, item.form, alone, *times, item.reason))
    table(rows, ("node", "op", "form", "alone dB", "float us", "quantized us", "why not"))
