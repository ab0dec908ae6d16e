"""``qcompiler compile``"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from qcompiler.cli.console import emit_json, progress_line, result, table, warn

__all__ = ["compile"]


@click.command(
    epilog="\b\nExample:\n  qcompiler compile model.onnx --data calib.npz -o build --min-sqnr 25",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Result.")
@click.option("--target", default="ort-cpu", show_default=True, help="What the result runs on.")
@click.option("--recipe", help="NAME or FILE.toml [default: int8 with --data, else lossless].")
@click.option("--data", metavar="SPEC", help="FILE.npz, a folder of them, FILE.toml, MODULE:CALLABLE, or 'random'.")
@click.option("--score", metavar="SPEC", help="Data that scores; then all of --data calibrate.")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cut batches of this size where the model allows it.")
@click.option("--metric", help="top1 or MODULE:CALLABLE(outputs, labels).")
@click.option("--max-drop", type=float, help="How much the metric may lose, in its own unit.")
@click.option("--min-sqnr", type=float, metavar="DB", help="How close the outputs have to stay, in decibels.")
@click.option("--min-speedup", type=float, help="How much faster it has to be; 0: the smallest, at any speed.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="SECONDS", help="When to stop looking for better.")
@click.option("--for-cpu", metavar="KIND", help="avx2, avx512, vnni, amx or arm64 [default: this processor].")
@click.option("--arch", multiple=True, metavar="SM", help="sm_80, ... or none: cards to compile for ahead of time.")
@click.option("--feedback", multiple=True, metavar="INPUT=OUTPUT", help="A state that each sample gets from the last.")
@click.option("--strict", is_flag=True, help="Exit 4 when a gate is not met.")
@click.option(
    "--set", "settings", multiple=True, metavar="PASS.OPTION=VALUE", help="Change an option of a pass or target."
)
@click.option("--exclude", multiple=True, metavar="REGEX", help="Leave nodes with such a name or type in float.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a run.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--force", is_flag=True, help="Replace DIR.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("-v", "--verbose", count=True, help="More; twice: tracebacks.")
def compile(
    model: Path,
    folder: Path,
    target: str,
    recipe: str | None,
    data: str | None,
    score: str | None,
    samples: int | None,
    batch_size: int | None,
    metric: str | None,
    max_drop: float | None,
    min_sqnr: float | None,
    min_speedup: float | None,
    budget: float | None,
    for_cpu: str | None,
    arch: tuple[str, ...],
    feedback: tuple[str, ...],
    strict: bool,
    settings: tuple[str, ...],
    exclude: tuple[str, ...],
    threads: int,
    seed: int,
    as_json: bool,
    force: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Compile MODEL into DIR: smaller and faster, with a report of what was gained and lost."""
    from qcompiler.compiler import compile as run_compiler
    from qcompiler.onnx_io import check_replaceable
    from qcompiler.report import summary_lines

    check_replaceable(folder, force)
    states = dict(_pair(text) for text in feedback)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    with progress_line(quiet) as progress, _told(unfinished):
        made = run_compiler(
            model,
            target=target,
            recipe=recipe,
            data=data,
            score=score,
            samples=samples,
            batch_size=batch_size,
            metric=metric,
            max_drop=max_drop,
            min_sqnr=min_sqnr,
            min_speedup=min_speedup,
            budget=budget,
            for_cpu=for_cpu,
            arch=arch,
            feedback=states or None,
            unfinished=unfinished,
            strict=strict,
            settings=settings,
            exclude=exclude,
            threads=threads,
            seed=seed,
            progress=progress,
        )
        progress("writing the result")
        made.report["command"] = shlex.join(["qcompiler", *sys.argv[1:]])
        made.save(folder, force=force)
    for text in made.report["warnings"]:
        warn(text)
    if as_json:
        emit_json(made.report)
        return
    table(summary_lines(made.report))
    if verbose:
        header = ("pass", "status", "nodes", "seconds", "rewrites")
        rows = []
        for item in made.report["passes"]:
            fired = ", ".join(f"{rule} {count}" for rule, count in item["rewrites"].items())
            nodes = f"{item['nodes_before']} -> {item['nodes_after']}"
            rows.append((item["name"], item["status"], nodes, f"{item['seconds']:.2f}", fired))
        table(rows, header)
    result(f"{folder}/report.html")


@contextlib.contextmanager
def _told(unfinished: Path) -> Iterator[None]:
    """Tells whoever interrupts a search what is left of it."""
    try:
        yield
    except KeyboardInterrupt:
        if unfinished.exists():
            warn(f"{unfinished} holds what was measured and the best so far; the same command goes on from there")
        raise


def _pair(text: str) -> tuple[str, str]:
    """INPUT=OUTPUT in its two parts."""
    from qcompiler.errors import UsageError

    name, equals, given = text.partition("=")
    if not (name and equals and given):
        raise UsageError(f"--feedback {text} is not INPUT=OUTPUT", hint="for instance: --feedback state=new_state")
    return name, given
