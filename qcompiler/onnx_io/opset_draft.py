"""The plan for one node on its way to a newer opset. A graph changes only when there is a plan for every node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Attr, Node, Tensor, TensorType, Value, as_attr, tensor

__all__ = ["Draft", "Refusal"]

_NEEDED = object()


class Refusal(Exception):
    """Why a node cannot be taken to a newer version of its operator."""


class Draft:
    """What a node shall become: another type, other inputs and attributes, and nodes right before it.

    ``types`` tells the type of a value, None where it is unknown. Nothing is changed before :meth:`apply`.
    """

    def __init__(self, node: Node, version: int, types: Callable[[Value], TensorType | None]) -> None:
        """``version`` is the opset at which the work will end; whatever is inserted must be valid there."""
        self.node = node
        self.version = version
        self.name = node.name
        self.op_type = node.op_type
        self.inputs: list[Value | None] = list(node.inputs)
        self.attrs: dict[str, Attr] = dict(node.attrs)
        self.retyped: dict[Value, TensorType] = {}
        self.enlarges = False  # it was an Upsample: no scale is below 1
        self._types = types
        self._constants: list[Value] = []
        self._before: list[Node] = []

    def get(self, name: str, default: Any = _NEEDED) -> Any:
        """The plain value of an attribute.

        Raises Refusal when it is missing and there is no ``default``, or when only the call of a function tells it.
        """
        attr = self.attrs.get(name)
        if attr is None:
            if default is _NEEDED:
                raise Refusal(f"attribute {name} is missing")
            return default
        if attr.ref:
            raise Refusal(f"attribute {name} is given by the caller of the function")
        return attr.value

    def take(self, name: str, default: Any = _NEEDED) -> Any:
        """As :meth:`get`, and the attribute is gone."""
        value = self.get(name, default)
        self.attrs.pop(name, None)
        return value

    def set(self, name: str, value: Any) -> None:
        """Give an attribute a plain value."""
        self.attrs[name] = as_attr(value)

    def has(self, position: int) -> bool:
        """True when there is an input at ``position``."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def put(self, position: int, value: Value | None) -> None:
        """Take ``value`` at ``position``, beyond the present end too."""
        self.inputs.extend([None] * (position + 1 - len(self.inputs)))
        self.inputs[position] = value

    def constant(self, data: Any, dtype: DType, role: str) -> Value:
        """A new constant; ``role`` becomes part of its name."""
        with np.errstate(over="ignore"):  # a bound of float32 is infinite in float16
            held = tensor(np.asarray(data, dtype.numpy), dtype)
        made = Value(f"{self.node.output.name or self.node.op_type}/{role}", TensorType(dtype, held.shape), held)
        self._constants.append(made)
        return made

    def insert(self, op_type: str, inputs: Iterable[Value | None], name: str = "", **attrs: Any) -> Value:
        """The output of a new node that will stand right before this one."""
        made = Node(op_type, inputs, attrs, name=name)
        self._before.append(made)
        return made.output

    def known(self, position: int) -> Tensor | None:
        """The elements of an input, when it is a constant."""
        value = self.inputs[position] if self.has(position) else None
        return None if value is None else value.constant

    def shape(self, position: int) -> tuple[int | str | None, ...] | None:
        """The shape of an input, None when not even the rank is known."""
        found = self._type(position)
        return None if found is None else found.shape

    def rank(self, position: int) -> int:
        """The rank of an input. Raises Refusal when it is unknown."""
        shape = self.shape(position)
        if shape is None:
            raise Refusal(f"the rank of input {position} is not known")
        return len(shape)

    def dtype(self, position: int) -> DType:
        """The element type of an input. Raises Refusal when it is unknown."""
        found = self._type(position)
        if found is None or found.dtype is None:
            raise Refusal(f"the element type of input {position} is not known")
        return found.dtype

    def _type(self, position: int) -> TensorType | None:
        value = self.inputs[position] if self.has(position) else None
        return None if value is None else self._types(value)

    def apply(self) -> None:
        """Make it so. The node stays the same object and keeps its outputs."""
        node, graph = self.node, self.node.graph
        if graph is None:
            raise ValueError(f"{node!r} stands in no graph")
        for value in self._constants:
            graph.add_constant(value)
        for each in self._before:
            graph.insert_before(node, each)
        node.op_type, node.name, node.attrs = self.op_type, self.name, self.attrs
        if tuple(self.inputs) != node.inputs:
            node.resize_inputs(self.inputs)
        for output, type in self.retyped.items():
            output.type = type
