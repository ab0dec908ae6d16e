"""What a value can be: a tensor, or one of the containers that ONNX allows around tensors."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.dtypes import DType

__all__ = ["Dim", "MapType", "OpaqueType", "OptionalType", "SequenceType", "Shape", "TensorType", "Type"]

Dim = int | str | None
"""A size: known (int), symbolic (str) or unknown (None)."""

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense or sparse tensor. ``shape`` is None when not even the rank is known."""

    dtype: DType | None
    shape: Shape | None = None
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A sequence of values of one type."""

    element: Type | None


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be absent."""

    element: Type | None


@dataclass(frozen=True, slots=True)
class MapType:
    """A dictionary from keys of one element type to values of one type."""

    key: DType
    value: Type | None


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A type known only to its domain."""

    domain: str
    name: str


Type = TensorType | SequenceType | OptionalType | MapType | OpaqueType
