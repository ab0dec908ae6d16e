"""``qcompiler compile``"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qcompiler.cli.completing import recipe_names, target_names
from qcompiler.cli.console import emit_json, progress_line, result, table, warn, warn_of_plugins

if TYPE_CHECKING:
    from qcompiler.compiler import Result

__all__ = ["compile"]

EMITTED = ("triton-server",)


@click.command(
    epilog="\b\nExamples:\n"
    "  qcompiler compile model.onnx --data calib.npz -o build --min-sqnr 25\n"
    "  qcompiler compile a.onnx b.onnx --data random --recipe lossless --recipe recipes/ -o builds\n"
    "  qcompiler compile model.onnx --data calib.npz -o build --executor dask:tcp://scheduler:8786\n"
    "  qcompiler compile model.onnx --data calib.npz -o build --emit triton-server",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Result.")
@click.option(
    "--target", default="ort-cpu", show_default=True, help="What the result runs on.", shell_complete=target_names
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    help="NAME or FILE.toml, or a folder of them; several: each of them. [default: int8 with --data, else lossless]",
    shell_complete=recipe_names,
)
@click.option("--data", metavar="SPEC", help="FILE.npz, a folder of them, FILE.toml, MODULE:CALLABLE, or 'random'.")
@click.option("--score", metavar="SPEC", help="Data that scores; then all of --data calibrate.")
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many samples.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cut batches of this size where the model allows it.")
@click.option("--metric", help="top1 or MODULE:CALLABLE(outputs, labels).")
@click.option("--max-drop", type=float, help="How much the metric may lose, in its own unit (top1: a share of 1).")
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
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of whatever is drawn.")
@click.option("--emit", multiple=True, type=click.Choice(EMITTED), help="Write this too, into DIR.")
@click.option(
    "--executor", metavar="SPEC", help="Who calibrates and judges: processes, processes:N or dask:tcp://HOST:PORT."
)
@click.option("--no-cache", is_flag=True, help="Compute, even what was computed before; see `qcompiler cache`.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; of several, all of them.")
@click.option("--force", is_flag=True, help="Replace DIR.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("-v", "--verbose", count=True, help="More; twice: tracebacks.")
def compile(
    models: tuple[Path, ...],
    folder: Path,
    recipes: tuple[str, ...],
    feedback: tuple[str, ...],
    emit: tuple[str, ...],
    no_cache: bool,
    as_json: bool,
    force: bool,
    quiet: bool,
    verbose: int,
    **options: Any,
) -> None:
    """Compile MODEL into DIR: smaller and faster, with a report of what was gained and lost.

    Of several models or recipes each gets a folder of its own in DIR, and one that fails does not stop the others.
    """
    from qcompiler.cli.batch import compile_all, jobs_of

    options |= {"feedback": dict(_pair(text) for text in feedback) or None, "cache": not no_cache}

    def one(model: Path, recipe: str | None, place: Path, progress: Callable[[str], None]) -> Result:
        with _told(place):
            return _compiled(model, recipe, place, options, emit, force, progress)

    jobs = jobs_of(models, recipes, folder)
    if len(jobs) > 1:
        warn_of_plugins()
        compile_all(jobs, one, folder, force=force, as_json=as_json, quiet=quiet, verbose=verbose)
        return
    from qcompiler.onnx_io import check_replaceable

    check_replaceable(folder, force)
    with progress_line(quiet) as progress:
        made = one(models[0], jobs[0].recipe, folder, progress)
    warn_of_plugins()
    for text in made.report["warnings"]:
        warn(text)
    if as_json:
        emit_json(made.report)
        return
    _tell(made, verbose)
    result(f"{folder}/report.html")


def _compiled(
    model: Path,
    recipe: str | None,
    folder: Path,
    options: dict[str, Any],
    emit: tuple[str, ...],
    force: bool,
    progress: Callable[[str], None],
) -> Result:
    from qcompiler.compiler import compile as run_compiler

    if "triton-server" in emit:
        from qcompiler.onnx_io import load
        from qcompiler.plugins import TritonServer

        TritonServer.check(model.stem, load(model))
    made = run_compiler(model, recipe=recipe, unfinished=_unfinished(folder), progress=progress, **options)
    progress("writing the result")
    made.report["command"] = shlex.join(["qcompiler", *sys.argv[1:]])
    also = []
    if "triton-server" in emit:
        also.append(TritonServer(made, model.stem, _sample(made, options)))
    made.save(folder, force=force, also=also)
    return made


def _sample(made: Result, options: dict[str, Any]) -> dict[str, Any]:
    """The inputs of one run, but for states: the first of the data, or random ones."""
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset

    specs = [spec for spec in input_specs(made.model) if spec.name not in (options["feedback"] or {})]
    return open_dataset(
        options["data"] or "random", specs, limit=1, batch_size=options["batch_size"], seed=options["seed"]
    ).sample(0)


def _tell(made: Result, verbose: int) -> None:
    from qcompiler.report import summary_lines

    table(summary_lines(made.report))
    if verbose:
        header = ("pass", "status", "nodes", "seconds", "rewrites")
        rows = []
        for item in made.report["passes"]:
            fired = ", ".join(f"{rule} {count}" for rule, count in item["rewrites"].items())
            nodes = f"{item['nodes_before']} -> {item['nodes_after']}"
            rows.append((item["name"], item["status"], nodes, f"{item['seconds']:.2f}", fired))
        table(rows, header)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tells whoever interrupts a search what is left of it."""
    unfinished = _unfinished(folder)
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
