"""Attributes of a node: a value and the kind under which a file stores it.

The kind is kept because it cannot always be told from the value: an empty list may be of integers or of floats.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.ir.tensor import SparseTensor, Tensor
from qcompiler.ir.types import MapType, OpaqueType, OptionalType, SequenceType, TensorType

if TYPE_CHECKING:
    from qcompiler.ir.graph import Graph

__all__ = ["Attr", "AttrKind", "as_attr"]


class AttrKind(enum.IntEnum):
    """The kinds of ONNX attributes, by the number that files use."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE = 13
    TYPES = 14


@dataclass(frozen=True, slots=True, eq=False)
class Attr:
    """A value with its kind. ``ref`` names the attribute of the enclosing function whose value it takes at a call."""

    kind: AttrKind
    value: Any
    ref: str = ""
    doc: str = ""

    def graphs(self) -> Iterator[Graph]:
        """The subgraphs it holds."""
        if self.kind is AttrKind.GRAPH and not self.ref:
            yield self.value
        elif self.kind is AttrKind.GRAPHS and not self.ref:
            yield from self.value


_SINGLE = {bool: AttrKind.INT, int: AttrKind.INT, float: AttrKind.FLOAT, str: AttrKind.STRING, bytes: AttrKind.STRING}
_PLURAL = {
    AttrKind.INT: AttrKind.INTS,
    AttrKind.FLOAT: AttrKind.FLOATS,
    AttrKind.STRING: AttrKind.STRINGS,
    AttrKind.TENSOR: AttrKind.TENSORS,
    AttrKind.GRAPH: AttrKind.GRAPHS,
    AttrKind.SPARSE_TENSOR: AttrKind.SPARSE_TENSORS,
    AttrKind.TYPE: AttrKind.TYPES,
}


def as_attr(value: Any) -> Attr:
    """The attribute that a plain Python value stands for; an :class:`Attr` is returned as it is.

    Raises TypeError for what ONNX cannot store, and for an empty list, whose kind has to be said.
    """
    if isinstance(value, Attr):
        return value
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            raise TypeError("an array of more than one axis is no attribute; wrap it with ir.tensor()")
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        if not value:
            raise TypeError("the kind of an empty list cannot be told; write Attr(AttrKind.INTS, [])")
        items = [as_attr(item) for item in value]
        kinds = {item.kind for item in items}
        if kinds == {AttrKind.INT, AttrKind.FLOAT}:
            return Attr(AttrKind.FLOATS, tuple(float(item.value) for item in items))
        if len(kinds) != 1 or items[0].kind not in _PLURAL:
            raise TypeError(f"a list of mixed kinds is no attribute: {value!r}")
        return Attr(_PLURAL[items[0].kind], tuple(item.value for item in items))
    kind = _SINGLE.get(type(value))
    if kind is not None:
        return Attr(kind, int(value) if kind is AttrKind.INT else value)
    if isinstance(value, Tensor):
        return Attr(AttrKind.TENSOR, value)
    if isinstance(value, SparseTensor):
        return Attr(AttrKind.SPARSE_TENSOR, value)
    if isinstance(value, TensorType | SequenceType | OptionalType | MapType | OpaqueType):
        return Attr(AttrKind.TYPE, value)
    if hasattr(value, "all_nodes"):
        return Attr(AttrKind.GRAPH, value)
    raise TypeError(f"{type(value).__name__} is no attribute: {value!r}")
