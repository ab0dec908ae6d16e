"""Values in the forms that kernels take them in: float or int8, in the model's layout or with the channels last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Graph, Model, Node, Quantization, Shape, TensorType, Value, tensor
from qcompiler.lower.cuda.legality import data_of, keeps_range
from qcompiler.lower.cuda.nodes import EDGE, kernel_node

__all__ = ["FLOAT", "FLOAT_LAST", "INT8", "INT8_LAST", "TO_LAST", "Forms", "permuted"]

Array = np.ndarray[Any, np.dtype[Any]]

FLOAT, FLOAT_LAST, INT8, INT8_LAST = "float", "float_last", "int8", "int8_last"
TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


class Forms:
    """The values of a model in its ``copy``, each in every form that somebody asked for.

    ``mapping`` leads from the model's values to the copy's. What ``glue`` only selects or moves keeps the scale and
    zero point of what it reads.
    """

    def __init__(self, copy: Model, mapping: Mapping[Value, Value], glue: Collection[Node]) -> None:
        self.copy, self.mapping = copy, mapping
        self.graph: Graph = copy.graph
        self._forms: dict[Value, dict[str, Value]] = {}
        self._held: dict[tuple[Any, ...], Value] = {}
        self._shared: dict[Value, Quantization] = {}
        for node in glue:
            if keeps_range(node):
                source = data_of(node)[0]
                quant = self._shared.get(source, source.quant)
                if quant is not None:
                    self._shared[node.output] = quant

    def twin(self, node: Node) -> Node:
        """The node of the copy."""
        twin = self.mapping[node.output].producer
        assert twin is not None
        return twin

    def arises(self, value: Value, form: str, made: Value) -> None:
        """``value`` of the model is ``made`` now, in ``form``."""
        made.quant = value.quant
        self._forms[value] = {form: made}

    def is_there(self, value: Value, *forms: str) -> bool:
        """True when ``value`` is there in one of ``forms`` already."""
        return bool(self._forms.get(value, {}).keys() & set(forms))

    def arises_in_int8(self, value: Value) -> bool:
        """True when a kernel gives ``value`` in int8, so that no float of it exists that would be more exact."""
        return next(iter(self._forms.get(value, {FLOAT: None}))) in (INT8, INT8_LAST)

    def quant(self, value: Value) -> Quantization:
        """Scale and zero point of ``value``. Raises LoweringError where it has none, or for another type than int8."""
        quant = self._shared.get(value, value.quant)
        if quant is None:
            raise LoweringError(f"{value!r} has no calibrated range", hint="run a calibrating pass before lowering")
        if quant.spec.dtype is not DType.INT8:
            name = quant.spec.dtype.name.lower()
            raise LoweringError(f"{value!r} is quantized to {name}, and the kernels take int8")
        return quant

    def get(self, value: Value, form: str) -> Value:
        """``value`` of the model in ``form``, converted right behind where it arises, once."""
        there = self._forms.setdefault(value, {})
        if not there:
            there[FLOAT] = self.mapping[value]
        if form in there:
            return there[form]
        if form == FLOAT:
            if FLOAT_LAST in there:
                made = self._transposed(there[FLOAT_LAST], _FROM_LAST)
            elif INT8_LAST in there:
                made = self._edge("Dequantize", there[INT8_LAST], value, {"first": 1}, _FROM_LAST)
            else:
                made = self._edge("Dequantize", there[INT8], value, {})
        elif form == FLOAT_LAST:
            made = self._transposed(self.get(value, FLOAT), TO_LAST)
        elif form == INT8:
            if INT8_LAST in there:
                made = self._transposed(there[INT8_LAST], _FROM_LAST)
            else:
                made = self._edge("Quantize", self.get(value, FLOAT), value, {})
        elif INT8 in there:
            made = self._transposed(there[INT8], TO_LAST)
        elif FLOAT_LAST in there:
            made = self._edge("Quantize", there[FLOAT_LAST], value, {})
        else:
            made = self._edge("Quantize", self.get(value, FLOAT), value, {"last": 1}, TO_LAST)
        if not made.name:
            made.name = f"{value.name}_{form}"
        made.quant = value.quant
        there[form] = made
        return made

    def behind(self, source: Value, node: Node) -> Value:
        """``node`` put right behind what gives ``source``; its output."""
        self.graph.insert_after(source.producer, node)
        return node.output

    def _transposed(self, source: Value, axes: tuple[int, ...]) -> Value:
        node = Node("Transpose", [source], {"perm": axes}, name=f"{source.name}{EDGE}")
        assert source.dtype is not None
        node.output.type = TensorType(source.dtype, permuted(source.shape, axes))
        return self.behind(source, node)

    def _edge(
        self, op: str, source: Value, value: Value, attributes: dict[str, Any], axes: tuple[int, ...] | None = None
    ) -> Value:
        """``source``, which is ``value`` in another form, to integers or back, by its scale."""
        shape = source.shape if axes is None else permuted(source.shape, axes)
        inputs = [source, *self.parameters(value)]
        name = f"{value.name}/{op.lower()}"
        return self.behind(source, kernel_node(self.copy, op, inputs, attributes, shape=shape, name=name))

    def parameters(self, value: Value) -> tuple[Value, Value]:
        """Scale and zero point of ``value`` as constants of no axes."""
        quant = self.quant(value)
        return (
            self.constant(quant.scale.reshape(()), f"{value.name}_scale"),
            self.constant(quant.zero_point.reshape(()), f"{value.name}_zero_point"),
        )

    def constant(self, array: Array, name: str) -> Value:
        """A constant; equal small ones are one."""
        made = np.asarray(array, order="C")
        if made.nbytes > 64:
            return self.graph.add_constant(tensor(made), name)
        key = (made.dtype.str, made.shape, made.tobytes())
        if key not in self._held:
            self._held[key] = self.graph.add_constant(tensor(made), name)
        return self._held[key]

    def shared_constant(self, key: tuple[Any, ...], array: Array, name: str) -> Value:
        """The constant that was made for ``key``, or ``array`` as one."""
        if key not in self._held:
            self._held[key] = self.graph.add_constant(tensor(np.ascontiguousarray(array)), name)
        return self._held[key]


def permuted(shape: Shape | None, axes: tuple[int, ...]) -> Shape | None:
    """``shape`` with its axes in that order."""
    return None if shape is None else tuple(shape[axis] for axis in axes)
