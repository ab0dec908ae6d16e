"""Many models, many recipes: each pair compiled into a folder of its own, and one table of what came of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from qcompiler.cli.console import emit_json, progress_line, table, tell_error, warn

if TYPE_CHECKING:
    from qcompiler.compiler import Result

__all__ = ["Job", "compile_all", "jobs_of"]


Compile: TypeAlias = "Callable[[Path, str | None, Path, Callable[[str], None]], Result]"
"""Compiles a model by a recipe into a folder, and tells how far it is."""


@dataclass(frozen=True)
class Job:
    """One compile: ``recipe`` is a name or a file; None for the usual one."""

    model: Path
    recipe: str | None
    folder: Path


def jobs_of(models: Sequence[Path], recipes: Sequence[str], folder: Path) -> list[Job]:
    """Every model with every recipe. One alone goes into ``folder``, of several each into FOLDER/MODEL/RECIPE.

    A recipe may be a folder: each TOML file in it. Raises UsageError for a folder without any, and where two would
    have the same folder.
    """
    from qcompiler.errors import UsageError

    chosen: list[str | None] = []
    for recipe in recipes or (None,):
        if recipe is None or not Path(recipe).is_dir():
            chosen.append(recipe)
            continue
        files = sorted(str(path) for path in Path(recipe).glob("*.toml"))
        if not files:
            raise UsageError(f"there is no recipe in {recipe}", hint="it has to hold files that end in .toml")
        chosen += files
    if len(models) == 1 and len(chosen) == 1:
        return [Job(models[0], chosen[0], folder)]
    jobs = []
    for model in models:
        for recipe in chosen:
            place = folder / model.stem if len(models) > 1 else folder
            jobs.append(Job(model, recipe, place / Path(recipe or "").stem if len(chosen) > 1 else place))
    taken: dict[Path, Job] = {}
    for job in jobs:
        other = taken.setdefault(job.folder, job)
        if other is not job:
            one, two = ((each.model, each.recipe or "") for each in (other, job))
            raise UsageError(
                f"{_name(*one)} and {_name(*two)} would both be written into {job.folder}", hint="rename one of them"
            )
    return jobs


def compile_all(
    jobs: Sequence[Job],
    one: Compile,
    root: Path,
    *,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Compile each into its folder below ``root``, tell what came of it, and exit with the status of the first that
    failed, if any did. Interrupted, it tells what is done. Raises UsageError where ``root`` is a result itself."""
    from qcompiler.errors import UsageError
    from qcompiler.onnx_io import check_replaceable

    if (root / "report.json").exists():
        raise UsageError(
            f"{root} is a compiled model, and results would be written into it", hint="name another folder"
        )
    for job in jobs:
        check_replaceable(job.folder, force)
    found: list[dict[str, Any]] = []
    try:
        for index, job in enumerate(jobs):
            found.append(_entry(job, one, quiet, verbose, f"[{index + 1} of {len(jobs)}] "))
    except KeyboardInterrupt:
        _tell(found, as_json, 130)
        raise
    failed = next((entry["status"] for entry in found if entry["status"]), 0)
    _tell(found, as_json, failed)
    if failed:
        raise click.exceptions.Exit(failed)


def _entry(job: Job, one: Compile, quiet: bool, verbose: int, place: str) -> dict[str, Any]:
    """What came of one compile. A fault of ours does not stop the others either."""
    from qcompiler.errors import QCompilerError

    name = _name(job.model, job.recipe or "")
    entry: dict[str, Any] = {"model": str(job.model), "recipe": job.recipe, "folder": str(job.folder)}
    try:
        with progress_line(quiet, f"{place}{name}: ") as progress:
            made = one(job.model, job.recipe, job.folder, progress)
    except Exception as error:
        ours = isinstance(error, QCompilerError)
        said = str(error) if ours else f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        tell_error(f"{name}: {said}")
        if verbose >= 2:
            traceback.print_exc()
        return entry | {"status": error.exit_status if isinstance(error, QCompilerError) else 1, "error": said}
    for text in made.report["warnings"]:
        warn(f"{name}: {text}")
    return entry | {"status": 0, "report": made.report}


def _tell(found: list[dict[str, Any]], as_json: bool, status: int) -> None:
    if as_json:
        emit_json({"results": found, "status": status})
    else:
        table([_row(entry) for entry in found], ("model", "recipe", "size", "speed", "quality", "gates", "folder"))


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    from qcompiler.report import distance, gates_line, size_change, speed_change

    recipe = Path(entry["recipe"]).stem if entry["recipe"] else ""
    if "report" not in entry:
        return entry["model"], recipe, "failed", "", "", "", f"exit status {entry['status']}"
    report = entry["report"]
    told = (str(size_change(report)), str(speed_change(report)), str(distance(report)), gates_line(report))
    return entry["model"], recipe or report["recipe"], *told, entry["folder"]


def _name(model: Path, recipe: str) -> str:
    return f"{model} with {recipe}" if recipe else str(model)
