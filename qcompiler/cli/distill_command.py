"""``qcompiler distill``"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from qcompiler.cli.console import emit_json, progress_line, result, table, warn

__all__ = ["distill"]


@click.command(
    epilog="\b\nExamples:\n"
    "  qcompiler distill --teacher model.onnx --student small.onnx --data train.npz -o build\n"
    "  qcompiler distill --teacher model.onnx --student-width 0.5 --data train.npz -o build --set flip=true\n"
    "  torchrun --nproc-per-node 4 -m qcompiler distill --teacher model.onnx ...",
)
@click.option(
    "--teacher", type=click.Path(path_type=Path), required=True, metavar="MODEL", help="From which it learns."
)
@click.option("--student", type=click.Path(path_type=Path), metavar="MODEL", help="What learns.")
@click.option("--student-width", type=float, default=1.0, metavar="PART", help="Instead: the teacher, so much as wide.")
@click.option("--student-depth", type=float, default=1.0, metavar="PART", help="Instead: with so many of its branches.")
@click.option("--data", required=True, metavar="SPEC", help="As for compile; even samples teach, odd ones score.")
@click.option("--score", metavar="SPEC", help="Data that scores; then all of --data teach.")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Result.")
@click.option("--epochs", type=click.IntRange(min=1), help="Walks over the samples. [default: 20]")
@click.option("--labels", type=click.FloatRange(0, 1), help="Part of the loss that the labels have. [default: 0]")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of the pass recover.")
@click.option(
    "--exclude", multiple=True, metavar="REGEX", help="Leave constants and nodes with such a name as they are."
)
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Rows of a sample, where the model allows it.")
@click.option("--metric", help="top1 or MODULE:CALLABLE(outputs, labels).")
@click.option("--max-drop", type=float, help="How much the metric may lose, in its own unit.")
@click.option("--min-sqnr", type=float, metavar="DB", help="How close the outputs have to be, in decibels.")
@click.option("--strict", is_flag=True, help="Exit 4 when a gate is not met.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a timed run.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--force", is_flag=True, help="Replace DIR.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("-v", "--verbose", count=True, help="More; twice: tracebacks.")
def distill(
    teacher: Path,
    student: Path | None,
    student_width: float,
    student_depth: float,
    data: str,
    score: str | None,
    folder: Path,
    epochs: int | None,
    labels: float | None,
    settings: tuple[str, ...],
    exclude: tuple[str, ...],
    samples: int | None,
    batch_size: int | None,
    metric: str | None,
    max_drop: float | None,
    min_sqnr: float | None,
    strict: bool,
    threads: int,
    seed: int,
    as_json: bool,
    force: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Train a student to answer as the teacher does, and write it into DIR with a report against the teacher.

    Unlabelled data is enough. Without --student it is the teacher itself, made narrower or shallower. After a kill the
    same command goes on. Launched by torchrun, its processes share each batch.
    """
    from qcompiler.compiler import distill as run
    from qcompiler.compiler import forget_training
    from qcompiler.onnx_io import check_replaceable
    from qcompiler.report import summary_lines

    check_replaceable(folder, force)
    options: dict[str, Any] = dict(_pair(text) for text in settings)
    options |= {name: value for name, value in (("epochs", epochs), ("labels", labels)) if value is not None}
    if exclude:
        options["exclude"] = "|".join(f"(?:{pattern})" for pattern in exclude)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks and writes
    with progress_line(quiet or not first) as progress:
        try:
            made = run(
                teacher, student, data=data, score=score, width=student_width, depth=student_depth, options=options,
                samples=samples, batch_size=batch_size, metric=metric, max_drop=max_drop, min_sqnr=min_sqnr,
                strict=strict, threads=threads, seed=seed, unfinished=unfinished, progress=progress,
            )  # fmt: skip
        except KeyboardInterrupt:
            if unfinished.exists() and first:
                warn(f"{unfinished} holds the last whole epoch; the same command goes on from there")
            raise
        if not first:
            return
        progress("writing the result")
        made.report["command"] = shlex.join(["qcompiler", *sys.argv[1:]])
        made.save(folder, force=force)
        forget_training(unfinished)
    for text in made.report["warnings"]:
        warn(text)
    if as_json:
        emit_json(made.report)
        return
    table(summary_lines(made.report))
    result(f"{folder}/report.html")


def _pair(text: str) -> tuple[str, str]:
    """OPTION=VALUE in its two parts."""
    from qcompiler.errors import UsageError

    name, equals, given = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--set {text} is not OPTION=VALUE", hint="for instance: --set temperature=4")
    return name.removeprefix("recover.").replace("-", "_"), given
