"""``qcompiler unpack``"""

from __future__ import annotations

from pathlib import Path

import click

from qcompiler.cli.console import emit_json, progress_line, result, told_size

__all__ = ["unpack"]


@click.command(epilog="\b\nExample:\n  qcompiler unpack model.qcz build")
@click.argument("source", metavar="FILE.qcz", type=click.Path(path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace DIR, where it is a result of qcompiler.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def unpack(source: Path, folder: Path, force: bool, as_json: bool, quiet: bool) -> None:
    """Unpack FILE.qcz into DIR, which appears whole or not at all; every byte is checked."""
    from qcompiler.onnx_io import check_replaceable, replaced_directory
    from qcompiler.storage import unpack as unpacked

    check_replaceable(folder, force)
    with progress_line(quiet) as progress, replaced_directory(folder) as made:
        found = unpacked(source, made, progress=progress)
    if as_json:
        emit_json({"path": str(folder), **found.record()})
        return
    result(f"{folder}: {found.files} {'file' if found.files == 1 else 'files'}, {told_size(found.bytes)}, all checked")
