"""Results that were made before: folders by the digest of everything that went into them, safe under concurrent runs.

    FOLDER/entries/KEY/              what ``Result.save`` wrote, and entry.json: the SHA-256 of each of its files
    FOLDER/locks/KEY.lock            held by whoever makes or reads the entry; who comes second waits, then reads
    FOLDER/held/                     links to files of entries that results of running processes need

An entry appears whole or not at all. One whose files do not have their digests is thrown away and made anew. When all
together are larger than the limit, those that were not used for longest go; who holds one keeps it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
_LEFT_FOR = 86_400.0  # seconds after which what a killed process left is nobody's
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


class _Room:
    """A new folder in ``rooms`` that goes with whoever holds it, at the latest when the process ends. A lock beside it
    says that it is held: of a process that was killed it is free."""

    def __init__(self, rooms: Path) -> None:
        rooms.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(dir=rooms))
        self.lock = _lock_of(self.path)
        self.lock.acquire(timeout=0)
        weakref.finalize(self, _leave, self.path, self.lock, os.getpid())


def _lock_of(room: Path) -> filelock.FileLock:
    return filelock.FileLock(room.with_name(f"{room.name}.lock"), thread_local=False)


def _leave(room: Path, lock: filelock.BaseFileLock, owner: int) -> None:
    if os.getpid() == owner:  # a child that was forked has the object too
        shutil.rmtree(room, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


@dataclass(frozen=True)
class Entry:
    """One result: its files, and the digest of each. ``room`` is what keeps them in place."""

    folder: Path
    files: dict[str, str]
    room: _Room | None = field(default=None, repr=False, compare=False)

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

    def held(self, rooms: Path) -> Entry:
        """The same files in a folder of their own in ``rooms``, by links, where nobody removes them meanwhile."""
        room = _Room(rooms)
        for name in self.files:
            place = room.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.folder / name, place)
            except OSError:  # a file system without links
                shutil.copy2(self.folder / name, place)
        return Entry(room.path, self.files, room)

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
                raise OutputError(f"{self.folder / name} was removed", hint="compile with --no-cache") from None
            if digest(to / name) != wanted:
                raise OutputError(f"{self.folder / name} is not what was written", hint="compile with --no-cache")


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
        """The entry ``key``, whole, and held; a damaged one is removed, and told."""
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
        try:
            return entry.held(self.folder / "held")
        except OSError as error:
            tell(f"the cached result {folder} cannot be used: {error}")
            return None

    def put(self, key: str, write: Callable[[Path], Any], tell: Callable[[str], None]) -> Entry | None:
        """What ``write`` writes into a folder becomes the entry ``key``, held; None where the disk refuses."""
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
        with contextlib.suppress(OSError):
            return Entry(folder, digests).held(self.folder / "held")
        return None  # it is kept all the same, for others

    def trim(self, keep: str = "") -> None:
        """Remove what was not used for longest until the rest is within the limit; ``keep`` stays. What processes left
        that were killed goes after a day."""
        self._sweep()
        aged = [(_age(folder), _size(folder), folder) for folder in self._folders()]
        total = sum(size for _, size, _ in aged)
        for _, size, folder in sorted(aged):
            if total <= self.limit:
                return
            if folder.name != keep and (self._removed(folder.name) or not folder.exists()):
                total -= size

    def clear(self) -> tuple[int, int]:
        """Remove every entry that nobody makes or reads: how many went, and how many bytes."""
        self._sweep()
        count = freed = 0
        for folder in self._folders():
            size = _size(folder)
            if self._removed(folder.name):
                count, freed = count + 1, freed + size
        return count, freed

    def statistics(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        folders = self._folders()
        return len(folders), sum(map(_size, folders))

    def _entries(self) -> Path:
        return self.folder / "entries"

    def _folders(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return [path for path in self._entries().iterdir() if not path.name.startswith(".")]
        return []

    def _lock(self, key: str) -> filelock.FileLock:
        return filelock.FileLock(self.folder / "locks" / f"{key}.lock", thread_local=False)

    def _removed(self, key: str) -> bool:
        """Remove an entry; False where somebody uses it."""
        folder = self._entries() / key
        aside = folder.with_name(f".{key}.{os.getpid()}.{time.monotonic_ns()}.gone")
        try:
            with self._lock(key).acquire(timeout=0):
                folder.rename(aside)  # at once: nobody shall see half of it
                shutil.rmtree(aside, ignore_errors=True)
        except (OSError, NotImplementedError, filelock.Timeout):
            return False
        return True

    def _sweep(self) -> None:
        for left in self._entries().glob(".*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _LEFT_FOR:
                    shutil.rmtree(left, ignore_errors=True)
        for room in (path for path in (self.folder / "held").glob("*") if path.is_dir()):
            with contextlib.suppress(OSError, NotImplementedError, filelock.Timeout), _lock_of(room).acquire(timeout=0):
                if time.time() - room.stat().st_mtime > _LEFT_FOR:  # else it may be one that is not locked yet
                    shutil.rmtree(room, ignore_errors=True)
                    Path(_lock_of(room).lock_file).unlink(missing_ok=True)


def _age(folder: Path) -> float:
    """When it was used last; one that is not whole counts as the oldest."""
    try:
        return (folder / _ENTRY).stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # somebody removes it
            total += path.stat().st_size if path.is_file() else 0
    return total


def _read(folder: Path) -> Entry | None:
    try:
        document = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        files = document["files"]
        if document["schema"] != _SCHEMA or not all(isinstance(item, str) for item in files.values()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Entry(folder, files)
