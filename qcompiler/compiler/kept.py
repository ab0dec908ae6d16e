"""Results that were made before: folders by the digest of everything that went into them, safe under concurrent runs.

    FOLDER/entries/KEY/              what ``Result.save`` wrote, and entry.json: the SHA-256 of each of its files
    FOLDER/locks/KEY.lock            held by whoever makes or reads the entry; who comes second waits, then reads

An entry appears whole or not at all. One whose files do not have their digests is thrown away and made anew. When all
together are larger than the limit, those that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from qcompiler.caching import cache_folder
from qcompiler.compiler.document import digest
from qcompiler.errors import OutputError, QCompilerError, UsageError
from qcompiler.onnx_io import replaced_directory

__all__ = ["DEFAULT_LIMIT", "Entry", "ResultCache", "result_cache"]

DEFAULT_LIMIT = 10 << 30
"""Bytes that all results together may take."""

_ENTRY = "entry.json"
_SCHEMA = 1


def result_cache(chosen: bool | str | Path) -> ResultCache | None:
    """The cache in the folder ``chosen``; True is the user's, unless ``$QCOMPILER_CACHE`` names another or is ``off``.

    ``$QCOMPILER_CACHE_LIMIT`` is how many bytes it may hold. Raises UsageError when that is no number.
    """
    if chosen is False:
        return None
    named = os.environ.get("QCOMPILER_CACHE", "")
    if chosen is True:
        if named.lower() == "off":
            return None
        chosen = named or cache_folder() / "results"
    given = os.environ.get("QCOMPILER_CACHE_LIMIT", "")
    if given and not given.isdigit():
        raise UsageError(f"QCOMPILER_CACHE_LIMIT is '{given}'", hint="it has to be a number of bytes")
    return ResultCache(Path(chosen), int(given) if given else DEFAULT_LIMIT)


@dataclass(frozen=True)
class Entry:
    """One result: its files, and the digest of each."""

    folder: Path
    files: dict[str, str]

    def damage(self) -> str:
        """What is wrong with it; empty when it is whole."""
        for name, wanted in self.files.items():
            try:
                found = digest(self.folder / name)
            except OSError as error:
                return f"{name} cannot be read: {error.strerror or error}"
            if found != wanted:
                return f"{name} is not what was written"
        return ""

    def text(self, name: str) -> str:
        """A text file of it."""
        return (self.folder / name).read_text(encoding="utf-8")

    def copy(self, to: Path, leave: frozenset[str] = frozenset()) -> None:
        """Its files but for those to ``leave``, into the folder ``to``. Raises OutputError where it is damaged."""
        for name, wanted in self.files.items():
            if name in leave:
                continue
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(self.folder / name, to / name)
                shutil.copymode(self.folder / name, to / name)
            except FileNotFoundError:
                raise _gone(self.folder) from None
            if digest(to / name) != wanted:
                raise _gone(self.folder)


class ResultCache:
    """Entries in ``folder``, which together hold at most ``limit`` bytes but for the newest."""

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.folder, self.limit = folder, limit

    @contextlib.contextmanager
    def claimed(self, key: str, tell: Callable[[str], None]) -> Iterator[bool]:
        """Nobody else makes or reads the entry ``key`` meanwhile. False: locks cannot be had here, do without.

        Whoever dies lets go of it.
        """
        lock = self._lock(key)
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                tell("waiting for another process that compiles the same")
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            tell(f"the cache {self.folder} cannot be used: {error}")
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def find(self, key: str, tell: Callable[[str], None]) -> Entry | None:
        """The entry ``key``, whole; a damaged one is removed, and told."""
        folder = self._entries() / key
        if not folder.is_dir():
            return None
        entry = _read(folder)
        damage = "its list of files is damaged" if entry is None else entry.damage()
        if entry is None or damage:
            tell(f"the cached result {folder} is damaged ({damage}): compiling again")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(folder / _ENTRY)  # it was used
        return entry

    def put(self, key: str, write: Callable[[Path], Any], tell: Callable[[str], None]) -> Entry | None:
        """What ``write`` writes into a folder becomes the entry ``key``; None where the disk refuses."""
        folder = self._entries() / key
        try:
            with replaced_directory(folder) as made:
                write(made)
                files = sorted(path for path in made.rglob("*") if path.is_file())
                digests = {path.relative_to(made).as_posix(): digest(path) for path in files}
                document = {"schema": _SCHEMA, "files": digests}
                (made / _ENTRY).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        except (OSError, QCompilerError) as error:
            tell(f"the result was not kept in the cache: {error}")
            return None
        self.trim(keep=key)
        return Entry(folder, digests)

    def trim(self, keep: str = "") -> None:
        """Remove what was not used for longest until the rest is within the limit; ``keep`` stays."""
        aged = []
        for folder in self._folders():
            with contextlib.suppress(OSError):
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                aged.append(((folder / _ENTRY).stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in aged)
        for _, size, folder in sorted(aged):
            if total <= self.limit:
                return
            if folder.name != keep and self._removed(folder.name):
                total -= size

    def clear(self) -> tuple[int, int]:
        """Remove every entry that nobody uses: how many went, and how many bytes."""
        count = freed = 0
        for folder in self._folders():
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            if self._removed(folder.name):
                count, freed = count + 1, freed + size
        return count, freed

    def statistics(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        folders = self._folders()
        return len(folders), sum(path.stat().st_size for each in folders for path in each.rglob("*") if path.is_file())

    def _entries(self) -> Path:
        return self.folder / "entries"

    def _folders(self) -> list[Path]:
        entries = self._entries()
        return [path for path in entries.iterdir() if not path.name.startswith(".")] if entries.is_dir() else []

    def _lock(self, key: str) -> filelock.FileLock:
        return filelock.FileLock(self.folder / "locks" / f"{key}.lock", thread_local=False)

    def _removed(self, key: str) -> bool:
        """Remove an entry; False where somebody uses it."""
        try:
            with self._lock(key).acquire(timeout=0):
                shutil.rmtree(self._entries() / key)
        except (OSError, filelock.Timeout):
            return False
        return True


def _read(folder: Path) -> Entry | None:
    try:
        document = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        files = document["files"]
        if document["schema"] != _SCHEMA or not all(isinstance(item, str) for item in files.values()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Entry(folder, files)


def _gone(folder: Path) -> OutputError:
    return OutputError(f"the cached result {folder} was removed or damaged meanwhile", hint="compile again")
