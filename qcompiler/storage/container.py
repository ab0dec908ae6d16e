"""The container: a head, records with a checksum each, and an end: whatever is missing or changed is noticed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from qcompiler.errors import ImportFailure

__all__ = ["CHUNK", "END", "FILE", "FILE_END", "VERSION", "Reader", "Writer"]

MAGIC = b"\x89QCZ\r\n\x1a\n"
"""Not text, and spoiled by whatever turns line ends around (as PNG's)."""

VERSION = 1

FILE, CHUNK, FILE_END, END = b"F", b"C", b"S", b"Z"
"""Kinds of records: a file's name and size, some of its bytes, its SHA-256, and the end of the container."""

_MOST = (1 << 22) + (1 << 16)  # bytes of one record: a length beyond is no length
_HEAD = struct.Struct("<8sHH")  # magic, version, nothing
_RECORD = struct.Struct("<cI")  # kind, length
_SUM = struct.Struct("<I")  # CRC-32 of kind, length and payload, and of all records before


class Writer:
    """Appends records to ``file``."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        head = _HEAD.pack(MAGIC, VERSION, 0)
        self.sum = zlib.crc32(head)
        self.written = file.write(head)

    def record(self, kind: bytes, payload: bytes) -> None:
        """One record. The checksum goes on from the one before, so that none may be moved or left out."""
        head = _RECORD.pack(kind, len(payload))
        self.sum = zlib.crc32(payload, zlib.crc32(head, self.sum))
        self.written += self.file.write(head + payload + _SUM.pack(self.sum))


class Reader:
    """Reads what :class:`Writer` wrote. ``name`` is for errors. Raises ImportFailure for what is none of it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        head = file.read(_HEAD.size)
        if head[: len(MAGIC)] != MAGIC[: len(head)] or not head:
            raise ImportFailure(f"{name} is no .qcz container", hint="`qcompiler pack` makes one")
        if len(head) < _HEAD.size:
            raise self.broken("it ends in its head")
        _, version, nothing = _HEAD.unpack(head)
        if version != VERSION or nothing:
            raise ImportFailure(
                f"{name} is of version {version} of the format, of which this qcompiler knows {VERSION}",
                hint="unpack it with a newer qcompiler, or pack it again if the file was damaged",
            )
        self.sum = zlib.crc32(head)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and payload of each record, each checked before it is given, up to and without the end."""
        while True:
            head = self._read(_RECORD.size)
            kind, size = _RECORD.unpack(head)
            if size > _MOST:
                raise self.broken("a record is too long")
            payload = self._read(size)
            self.sum = zlib.crc32(payload, zlib.crc32(head, self.sum))
            if _SUM.unpack(self._read(_SUM.size)) != (self.sum,):
                raise self.broken("a checksum differs")
            if kind == END:
                if self.file.read(1):
                    raise self.broken("something stands behind its end")
                return
            yield kind, payload

    def broken(self, how: str) -> ImportFailure:
        """The error to raise for a damaged container."""
        return ImportFailure(f"{self.name} is damaged: {how}", hint="copy it again from where it came")

    def _read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise self.broken("it ends too early")
        return data
