"""``qcompiler bench``"""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli.console import emit_json, result, table

__all__ = ["bench"]


@click.command(epilog="\b\nExample:\n  qcompiler bench model.onnx build/model.onnx --data calib.npz")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option("--data", default="random", metavar="SPEC", show_default=True, help="The first sample is run.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cut batches of this size where the model allows it.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a run.")
@click.option("--runs", type=click.IntRange(min=1), help="Runs of each [default: about two seconds in all].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    a: Path, b: Path | None, data: str, batch_size: int | None, threads: int, runs: int | None, as_json: bool
) -> None:
    """Time model A, or A and B in turn on the same input. With one thread it is processor time.

    Joules of a run where the machine counts them (RAPL), else "not measured".
    """
    from qcompiler.cli.models import model_file
    from qcompiler.data import open_dataset
    from qcompiler.onnx_io import read_proto
    from qcompiler.report.units import joules as told_joules
    from qcompiler.runtime import Session, interleaved, measured_energy

    paths = [model_file(path) for path in (a, b) if path is not None]
    for path in paths:
        read_proto(path)  # tells what is wrong with a file better than the runtime does
    sessions = [Session(path, threads=threads) for path in paths]
    feeds = [open_dataset(data, session.inputs, limit=1, batch_size=batch_size).sample(0) for session in sessions]
    timings = interleaved(sessions, feeds, runs=runs or 0)
    energy = measured_energy(sessions, feeds)
    joules = energy.joules or (None,) * len(paths)
    ratio = timings[0].least / timings[1].least if len(timings) == 2 else None
    if as_json:
        found = [
            {"path": str(path), "least_ms": item.least, "median_ms": item.median, "runs": item.runs, "joules": each}
            for path, item, each in zip(paths, timings, joules, strict=True)
        ]
        counted = {"counter": energy.counter or None, "reason": energy.reason or None}
        emit_json({"models": found, "threads": threads, "speedup": ratio, "energy": counted})
        return
    rows = [
        (str(path), f"{item.least:.3f}", f"{item.median:.3f}", str(item.runs), told_joules(each))
        for path, item, each in zip(paths, timings, joules, strict=True)
    ]
    table(rows, ("model", "least ms", "median ms", "runs", "energy of a run"))
    result(f"energy {f'by {energy.counter}' if energy.joules else f'not measured: {energy.reason}'}")
    if ratio is not None:
        table([("B against A", f"{ratio:.2f} x " + ("faster" if ratio >= 1 else "(slower)"))])
