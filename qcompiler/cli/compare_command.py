"""``qcompiler compare``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qcompiler.cli.console import emit_json, result, table, warn

__all__ = ["compare"]


@click.command(
    epilog="\b\nExamples:\n  qcompiler compare build-int8 build-lossless\n"
    "  qcompiler compare builds/* --html pareto.html"
)
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option("--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Draw them into a page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(folders: tuple[Path, ...], page: Path | None, as_json: bool) -> None:
    """Compiled models side by side, and which of them no other beats in speed and quality, or size and quality."""
    from qcompiler.cli.files import write_whole
    from qcompiler.report import compare_reports, read, render_comparison, units

    found = compare_reports(_named({folder: read(folder) for folder in folders}))
    if len({item.source for item in found}) > 1:
        warn("not all were made from the same source; only those that were are held against each other")
    if len({item.machine for item in found}) > 1:
        warn("they were timed on different machines or threads, so that speeds do not compare")
    if page is not None:
        text = render_comparison(found)
        write_whole(page, lambda partial: partial.write_text(text, encoding="utf-8"))
    if as_json:
        emit_json({"models": [item.record() for item in found]})
        return
    rows = [
        (
            item.name,
            item.recipe,
            units.ratio(item.speedup),
            units.milliseconds(item.compiled_ms),
            units.size(item.compiled_bytes),
            units.ratio(item.ratio),
            "identical" if item.identical else units.decibels(item.sqnr_db),
            f"{item.metric} {units.number(item.score)}" if item.metric else "",
            "passed" if item.gates_passed else "FAILED",
            ", ".join(item.pareto),
        )
        for item in found
    ]
    header = ("model", "recipe", "speed-up", "latency", "size", "smaller", "SQNR", "metric", "gates", "not beaten in")
    table(rows, header)
    if page is not None:
        result(str(page))


def _named(reports: dict[Path, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Reports by as much of their folders' names as tells them apart."""
    parts = [folder.parts for folder in reports]
    shared = 0
    while len(parts) > 1 and all(len(each) > shared + 1 and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    return {str(Path(*folder.parts[shared:])): report for folder, report in reports.items()}
