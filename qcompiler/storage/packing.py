"""A folder packed into one file and back: every byte of it, chunk by chunk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from qcompiler.errors import ImportFailure, OutputError
from qcompiler.storage.codecs import decoded, encoded, need_libraries
from qcompiler.storage.container import CHUNK, END, FILE, FILE_END, Reader, Writer
from qcompiler.storage.segments import Segment, tensors_of

__all__ = ["Packed", "pack", "unpack"]

_CHUNK = 1 << 22  # bytes of a file that are coded at once
_LARGE = 1 << 27  # bytes of all files beyond which speed counts more than the last percent
_SIZE = struct.Struct("<I")  # of a chunk, in front of its code


@dataclass(frozen=True)
class Packed:
    """What was packed or unpacked: files, and bytes outside and inside of the container."""

    files: int
    bytes: int
    packed_bytes: int

    @property
    def ratio(self) -> float:
        """Bytes outside to bytes inside."""
        return self.bytes / self.packed_bytes if self.packed_bytes else 0.0

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"ratio": self.ratio}


def pack(source: str | Path, target: str | Path, *, progress: Callable[[str], None] = lambda _: None) -> Packed:
    """Pack the folder ``source``, or one model and its external data, into the file ``target``.

    Tensors of ONNX files are coded by their element type; everything else by zstandard. The result takes the place of
    ``target`` when it is whole. Memory is bounded by a chunk of 4 MiB. Raises ImportFailure when there is nothing to
    pack, OutputError when the disk refuses, UsageError without the extra ``pack``.
    """
    need_libraries()
    source, target = Path(source), Path(target)
    if not source.exists():
        raise ImportFailure(f"there is no file or folder {source}", hint="give a folder that `qcompiler compile` made")
    files, segments = _files(source, target)
    base = source if source.is_dir() else source.parent
    names = {path: path.relative_to(base).as_posix() for path in files}
    for name in names.values():
        if not _is_inside(name):
            raise ImportFailure(f"{name!r} is no name that a container may hold", hint="rename the file")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    thorough = sum(path.stat().st_size for path in files) <= _LARGE
    total = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            writer = Writer(out)
            for path in files:
                name, size = names[path], path.stat().st_size
                progress(f"packing {name}")
                writer.record(FILE, json.dumps({"name": name, "size": size}).encode())
                digest = hashlib.sha256()
                for data, bits in _chunks(path, size, segments.get(path, [])):
                    digest.update(data)
                    writer.record(CHUNK, _SIZE.pack(len(data)) + encoded(data, bits, thorough=thorough))
                writer.record(FILE_END, digest.digest())
                total += size
            writer.record(END, b"")
        os.replace(partial, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return Packed(len(files), total, target.stat().st_size)


def _files(source: Path, target: Path) -> tuple[list[Path], dict[Path, list[Segment]]]:
    """The files to pack in the order of their names, and where tensors lie in them. Raises ImportFailure."""
    segments: dict[Path, list[Segment]] = {}
    if not source.is_dir():
        try:
            found = tensors_of(source)
        except ValueError:
            raise ImportFailure(f"{source} is no ONNX file", hint="give a folder, or a model") from None
        home = source.resolve().parent
        for path in sorted(found.external):
            if not path.is_file() or not path.resolve().is_relative_to(home):
                raise ImportFailure(f"{source} has weights in {path}, which is not beside it")
        return [source, *sorted(found.external)], found.segments
    there = sorted(path for path in source.rglob("*") if path.is_file() or path.is_symlink())
    odd = next((path for path in there if path.is_symlink()), None)
    if odd is not None:
        raise ImportFailure(f"{odd} is a link, which is not packed", hint="put the file itself there")
    files = [path for path in there if path.resolve() != target.resolve()]
    if not files:
        raise ImportFailure(f"{source} holds no files", hint="give a folder that `qcompiler compile` made")
    for model in (path for path in files if path.suffix == ".onnx"):
        with contextlib.suppress(ValueError):  # then it is coded as any other file
            for path, found_there in tensors_of(model).segments.items():
                segments.setdefault(path, found_there)
    return files, segments


def _chunks(path: Path, size: int, segments: list[Segment]) -> Iterator[tuple[bytes, int]]:
    """All bytes of a file in order, in chunks of one kind, with the bits of an element or 0."""
    with path.open("rb") as file:
        at = 0
        for segment in segments:
            if segment.start + segment.size > size:
                break
            yield from _cut(file, segment.start - at, 0)
            yield from _cut(file, segment.size, segment.dtype.bits)
            at = segment.start + segment.size
        yield from _cut(file, size - at, 0)


def _cut(file: Any, size: int, bits: int) -> Iterator[tuple[bytes, int]]:
    while size > 0:
        data = file.read(min(size, _CHUNK))
        if not data:
            raise OSError("the file grew shorter while it was read")
        yield data, bits
        size -= len(data)


def unpack(source: str | Path, folder: Path, *, progress: Callable[[str], None] = lambda _: None) -> Packed:
    """Unpack the container ``source`` into ``folder``, which has to be there and empty.

    Every record is checked before its bytes are written. Raises ImportFailure for a container that is damaged, of a
    newer version, or that names files outside of the folder; OutputError when the disk refuses; UsageError without the
    extra ``pack``.
    """
    need_libraries()
    source = Path(source)
    total = files = 0
    try:
        held = source.open("rb")
    except OSError as error:
        raise ImportFailure(f"{source} cannot be read: {error.strerror or error}") from None
    with held:
        reader = Reader(held, str(source))
        records = reader.records()
        for kind, payload in records:
            if kind != FILE:
                raise reader.broken("a file has no name")
            name, size = _named(reader, payload)
            progress(f"unpacking {name}")
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as out:
                    for data in _contents(reader, records, size):
                        out.write(data)
            except FileExistsError:
                raise reader.broken(f"it holds {name} twice") from None
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None
            total, files = total + size, files + 1
    if not files:
        raise reader.broken("it holds no files")
    return Packed(files, total, source.stat().st_size)


def _named(reader: Reader, payload: bytes) -> tuple[str, int]:
    try:
        found = json.loads(payload)
        name, size = found["name"], found["size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise reader.broken("a file has no name") from None
    if type(name) is not str or type(size) is not int or size < 0:
        raise reader.broken("a file has no name or size")
    if not _is_inside(name):
        raise ImportFailure(f"{reader.name} names a file outside of its folder: {name!r}", hint="do not trust it")
    return name, size


def _is_inside(name: str) -> bool:
    """True for a relative path that stays in its folder on every system."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts and not set(name) & set("\\:\0")


def _contents(reader: Reader, records: Iterator[tuple[bytes, bytes]], size: int) -> Iterator[bytes]:
    """The bytes of one file; what follows in ``records`` is behind its end."""
    digest, left = hashlib.sha256(), size
    for kind, payload in records:
        if kind == FILE_END:
            if left or payload != digest.digest():
                raise reader.broken("a file is not what it was")
            return
        if kind != CHUNK or len(payload) <= _SIZE.size:
            raise reader.broken("a record stands where it should not")
        (length,) = _SIZE.unpack_from(payload)
        if length > left or length > _CHUNK:
            raise reader.broken("a chunk is too long")
        try:
            data = decoded(payload[_SIZE.size :], length)
        except (ValueError, IndexError, struct.error) as error:
            raise reader.broken(str(error)) from None
        digest.update(data)
        left -= length
        yield data
    raise reader.broken("it ends too early")
