"""Where tensors lie in the files of an ONNX model, read off the wire format without loading anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qcompiler.dtypes import DType

__all__ = ["Segment", "Tensors", "tensors_of"]

_SMALL = 256  # bytes below which a tensor is not worth a treatment of its own
_KNOWN = frozenset(int(kind) for kind in DType)

# Fields of ONNX messages that hold other messages, by kind: onnx.proto3.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DATA_TYPE, _FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL = 2, 4, 9, 10, 13
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, order=True)
class Segment:
    """``size`` bytes from ``start`` on, which are elements of type ``dtype``."""

    start: int
    size: int
    dtype: DType


@dataclass
class Tensors:
    """Where the tensors of a model lie: segments by file, in order and without overlaps, and every external file."""

    segments: dict[Path, list[Segment]]
    external: set[Path]


def tensors_of(path: Path) -> Tensors:
    """The tensors of the ONNX model at ``path``; segments of those of few bytes are left out.

    Paths of external files are normalized, and may lead anywhere. Raises ValueError for what is no ONNX file.
    """
    found: dict[Path, set[Segment]] = {}
    external: set[Path] = set()
    with path.open("rb") as file:
        for where, start, size, dtype in _tensors(file, path.stat().st_size):
            place = path
            if where:
                place = path.parent / os.path.normpath(where)
                external.add(place)
            if size < 0:  # all the rest of an external file
                size = place.stat().st_size - start if place.is_file() else 0
            if size >= _SMALL and start >= 0 and dtype in _KNOWN:
                found.setdefault(place, set()).add(Segment(start, size, DType(dtype)))
    return Tensors({place: _apart(sorted(segments)) for place, segments in found.items()}, external)


def _apart(segments: list[Segment]) -> list[Segment]:
    kept: list[Segment] = []
    for segment in segments:
        if not kept or segment.start >= kept[-1].start + kept[-1].size:
            kept.append(segment)
    return kept


def _tensors(file: BinaryIO, size: int) -> Iterator[tuple[str, int, int, int]]:
    """Each tensor: external file or nothing, place, size (-1: to the end of that file) and element type."""
    waiting = [("model", 0, size)]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "tensor":
            yield from _tensor(file, start, end)
            continue
        for number, wire, at, length in _fields(file, start, end):
            inside = _INSIDE[kind].get(number)
            if inside is not None and wire == _BYTES and (length >= _SMALL or _points_away(file, at, length)):
                waiting.append((inside, at, at + length))


def _points_away(file: BinaryIO, at: int, length: int) -> bool:
    """True when a message too short for a large tensor may name an external file."""
    file.seek(at)
    return b"location" in file.read(length)


def _tensor(file: BinaryIO, start: int, end: int) -> Iterator[tuple[str, int, int, int]]:
    dtype, raw, external = 0, (0, 0), dict[str, str]()
    for number, wire, at, length in _fields(file, start, end):
        if number == _DATA_TYPE and wire == _VARINT:
            dtype = length
        elif number in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and wire == _BYTES:  # packed numbers lie as raw ones do
            raw = (at, length)
        elif number == _EXTERNAL and wire == _BYTES:
            entry = {}
            for inner, _, place, count in _fields(file, at, at + length):
                file.seek(place)
                entry[inner] = file.read(count).decode()
            external[entry.get(1, "")] = entry.get(2, "")
    if raw[1]:
        yield "", *raw, dtype
    if external.get("location"):
        yield external["location"], int(external.get("offset") or 0), int(external.get("length") or -1), dtype


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, place and length of each field of a message; for a number its value instead of the length.

    Raises ValueError for what is no message.
    """
    at = start
    while at < end:
        file.seek(at)
        head = file.read(min(20, end - at))
        tag, used = _varint(head, 0)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, used = _varint(head, used)
            yield number, wire, at + used, length
            at += used + length
        elif wire == _VARINT:
            value, used = _varint(head, used)
            yield number, wire, at, value
            at += used
        elif wire in (_FIXED32, _FIXED64):
            at += used + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {wire}")
        if number == 0 or at > end:
            raise ValueError("no message")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("no number")
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7
