"""QuantizeLinear and DequantizeLinear around values, and constants that stand for others: what Q/DQ rules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Node, Quantization, TensorType, Value, tensor
from qcompiler.lower.target import Group
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["Pairs", "dequantized", "put_bias"]

Array = np.ndarray[Any, np.dtype[Any]]


class Pairs:
    """Pairs in the graphs of one model. Equal scales and zero points are one constant of its main graph."""

    def __init__(self, main: Graph) -> None:
        self.main = main
        self._parameters: dict[tuple[bytes, bytes], tuple[Value, Value]] = {}

    def around(self, name: str, source: Value, quant: Quantization, graph: Graph) -> Value:
        """``source`` quantized and made float again in ``graph``; the nodes are called after ``name``."""
        scale, zero = self._scale_and_zero(quant, name)
        to = Node("QuantizeLinear", [source, scale, zero], name=f"{name}/quantize")
        back = Node("DequantizeLinear", [to.output, scale, zero], name=f"{name}/dequantize")
        to.output.type = TensorType(quant.spec.dtype, source.shape)
        back.output.type = TensorType(DType.FLOAT, source.shape)
        to.output.name, back.output.name = f"{name}_quantized", f"{name}_dequantized"
        graph.insert_after(source.producer if source.home is graph else None, to)
        graph.insert_after(to, back)
        return back.output

    def _scale_and_zero(self, quant: Quantization, name: str) -> tuple[Value, Value]:
        key = (quant.scale.tobytes(), quant.zero_point.tobytes())
        if key not in self._parameters:
            self._parameters[key] = (
                self.main.add_constant(tensor(quant.scale), f"{name}_scale"),
                self.main.add_constant(tensor(quant.zero_point), f"{name}_zero_point"),
            )
        return self._parameters[key]


def dequantized(
    before: Node, name: str, held: Value, scale: Array, zero: Array, dtype: DType, **attributes: int
) -> Value:
    """``held``, integers of ``dtype``, behind a DequantizeLinear called after ``name`` that stands before ``before``.

    ``scale`` (float32) and ``zero`` are constants of its graph then; ``attributes`` are those of the operator.
    """
    graph = before.graph
    assert graph is not None
    scales = graph.add_constant(tensor(scale), f"{name}_scale")
    zeros = graph.add_constant(tensor(zero, dtype), f"{name}_zero_point")
    node = Node("DequantizeLinear", [held, scales, zeros], attributes, name=f"{name}/dequantize")
    node.output.name, node.output.type = f"{name}_dequantized", TensorType(DType.FLOAT, held.shape)
    graph.insert_before(before, node)
    return node.output


def put_bias(mapping: Mapping[Value, Value], group: Group, product: Node, bias: Array) -> None:
    """Let ``bias`` (float32 [channels]) be what is added to ``product``, the copy of a group's MatMul, by the group's
    own Add or by a new one."""
    graph = product.graph
    assert graph is not None
    made = graph.add_constant(tensor(bias), f"{group.name}_corrected_bias")
    if group.bias is not None:
        add = mapping[group.nodes[-1].output].producer
        assert add is not None
        add.set_input(1 if add.inputs[0] is product.output else 0, made)
        drop_constant_if_unused(mapping[group.bias])
        return
    whole = product.output
    product_type, name = whole.type, whole.name
    add = Node("Add", [None, made], name=f"{product.name}/bias")
    graph.insert_after(product, add)
    whole.replace_uses(add.output)
    add.set_input(0, whole)
    add.output.type, add.output.name, whole.name = product_type, name, f"{name}_product"
    add.output.quant = whole.quant
