"""The user's cache folder, for what is expensive to find out and may be lost at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
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
    """SHA-256 of the Python and TOML files of a package's folder, links followed, or of one file."""
    found = hashlib.sha256()
    files = [path]
    if path.is_dir():
        walked = os.walk(path, followlinks=True)
        files = sorted(Path(folder, name) for folder, _, names in walked for name in names)
    for file in files:
        if file.suffix in (".py", ".toml"):
            found.update(f"{file.relative_to(path)}\0".encode() + file.read_bytes())
    return found.hexdigest()
