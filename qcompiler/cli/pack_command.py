"""``qcompiler pack``"""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli.console import emit_json, progress_line, result, told_size

__all__ = ["pack"]


@click.command(epilog="\b\nExample:\n  qcompiler pack build model.qcz")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("target", metavar="FILE.qcz", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE.qcz.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def pack(folder: Path, target: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Pack DIR, or one model and its external data, into FILE.qcz; `qcompiler unpack` gives back every byte."""
    from qcompiler.errors import UsageError
    from qcompiler.storage import pack as packed

    if target.is_dir():
        raise UsageError(f"{target} is a folder", hint="name a file: pack DIR FILE.qcz")
    if target.exists() and not force:
        raise UsageError(f"{target} exists", hint="choose another name, or replace it with --force")
    with progress_line(quiet) as progress:
        found = packed(folder, target, progress=progress)
    if as_json:
        emit_json({"path": str(target), **found.record()})
        return
    result(f"{target}: {told_size(found.bytes)} in {found.files} {'file' if found.files == 1 else 'files'} became "
           f"{told_size(found.packed_bytes)}, {found.ratio:.2f} x smaller")  # fmt: skip
