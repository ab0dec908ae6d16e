"""Where tensors lie in the files of an ONNX model, read off the wire format without loading anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qcompiler.dtypes import DType

__all__ = ["Segment", "segments_of"]

_SMALL = 256  # bytes below which a tensor is not worth a treatment of its own

# Fields of ONNX messages that hold other messages, by kind: onnx.proto3.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
_DATA_TYPE, _FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL = 2, 4, 9, 10, 13
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, order=True)
class Segment:
    """``size`` bytes from ``start`` on, which are elements of type ``dtype``."""

    start: int
    size: int
    dtype: DType


def segments_of(path: Path) -> dict[Path, list[Segment]]:
    """The tensors of the ONNX model at ``path`` by the file in which they lie, in order and without overlaps.

    Tensors of few bytes are left out. What is no ONNX file has none.
    """
    found: dict[Path, set[Segment]] = {}
    try:
        with path.open("rb") as file:
            for where, segment in _tensors(file, path.stat().st_size):
                found.setdefault(path if not where else path.parent / where, set()).add(segment)
    except (ValueError, EOFError):
        return {}
    return {place: _apart(sorted(segments)) for place, segments in found.items()}


def _apart(segments: list[Segment]) -> list[Segment]:
    kept: list[Segment] = []
    for segment in segments:
        if not kept or segment.start >= kept[-1].start + kept[-1].size:
            kept.append(segment)
    return kept


def _tensors(file: BinaryIO, size: int) -> Iterator[tuple[str, Segment]]:
    """Each tensor, with the name of the external file in which it lies, or nothing."""
    waiting = [("model", 0, size)]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "tensor":
            yield from _tensor(file, start, end)
            continue
        for number, wire, at, length in _fields(file, start, end):
            inside = _INSIDE[kind].get(number)
            # What is short holds no large tensor, but a tensor that lies elsewhere is short itself.
            if inside is not None and wire == _BYTES and (length >= _SMALL or inside == "tensor"):
                waiting.append((inside, at, at + length))


def _tensor(file: BinaryIO, start: int, end: int) -> Iterator[tuple[str, Segment]]:
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
    try:
        kind = DType(dtype)
    except ValueError:
        return
    if raw[1] >= _SMALL:
        yield "", Segment(*raw, kind)
    if external.get("location") and int(external.get("length", 0)) >= _SMALL:
        yield external["location"], Segment(int(external.get("offset", 0)), int(external["length"]), kind)


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
