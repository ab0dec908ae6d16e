"""The user's cache folder, for what is expensive to find out and may be lost at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cache_folder", "keep", "sources_digest"]


def cache_folder() -> Path:
    """``qcompiler`` in ``XDG_CACHE_HOME``, or in ``~/.cache``; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "qcompiler"


def keep(path: Path, text: str) -> None:
    """Write ``text``, whole or not at all; a cache that cannot be written is done without."""
    whole = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            whole.unlink()


def sources_digest(path: Path) -> str:
    """SHA-256 of the Python and TOML files of a package's folder, links to folders followed, or of one file."""
    found = hashlib.sha256()
    for file in sorted(_files(path, set())) if path.is_dir() else [path]:
        if file.suffix in (".py", ".toml") and file.is_file():
            found.update(f"{file.relative_to(path)}\0".encode() + file.read_bytes())
    return found.hexdigest()


def _files(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Every file below ``folder``; each folder once, by whatever links."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for each in sorted(folder.iterdir()):
        if each.is_dir():
            yield from _files(each, seen)
        else:
            yield each
