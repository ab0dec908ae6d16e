"""A folder that appears whole or not at all, and takes the place of the one before it in one step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qcompiler.errors import OutputError, UsageError

__all__ = ["check_replaceable", "replaced_directory"]

_AT_FDCWD, _EXCHANGE = -100, 2  # Linux, renameat2(2)


def check_replaceable(target: Path, force: bool, marker: str = "report.json") -> None:
    """Raises UsageError unless a result may be put at ``target``.

    What stands there is replaced only with ``force``, and only if it is empty or holds ``marker``: a mistyped path
    must not cost somebody's files.
    """
    if target.is_symlink() or target.is_file():
        raise UsageError(f"{target} is a file", hint="choose another -o DIR")
    if not target.exists():
        return
    if target.resolve() == Path.cwd() or target.resolve() in Path.cwd().resolve().parents:
        raise UsageError(f"{target} holds the folder in which you are", hint="choose another -o DIR")
    if not any(target.iterdir()):
        return
    if not force:
        raise UsageError(f"{target} exists", hint="choose another -o DIR, or replace it with --force")
    if not (target / marker).is_file():
        raise UsageError(
            f"{target} is not a folder that qcompiler made (it has no {marker})", hint="choose another -o DIR"
        )


@contextlib.contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``target`` when the block ends well and vanishes when it does not.

    Raises OutputError when the disk refuses.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        os.chmod(made, 0o777 & ~_umask())
    except OSError as error:
        raise _refused(target, error) from None
    try:
        try:
            yield made
            if not target.exists():
                os.rename(made, target)
            else:
                _exchange(made, target)
        except OSError as error:
            raise _refused(target, error) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _exchange(made: Path, target: Path) -> None:
    """Swap the two; afterwards ``made`` holds what ``target`` held."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        ok = libc.renameat2(_AT_FDCWD, os.fsencode(made), _AT_FDCWD, os.fsencode(target), _EXCHANGE) == 0
        if ok:
            return
    # Elsewhere there is an instant without either, in which the old one waits under another name.
    old = target.with_name(f".{target.name}.old")
    os.rename(target, old)
    os.rename(made, target)
    shutil.rmtree(old, ignore_errors=True)


def _refused(target: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{target} cannot be written: {error.strerror or error}", hint="free some space or choose another place"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
