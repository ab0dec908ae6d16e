"""Files that a command writes: whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` write a file beside ``path``, which it replaces when it is complete. Raises OutputError."""
    from qcompiler.errors import OutputError

    partial = path.with_name(f".{path.name}.part")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
