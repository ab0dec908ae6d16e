"""Products of integer matrices with a float result: onnxruntime's MatMulIntegerToFloat, static and dynamic.

y = (q - zero point) (w - weight zero point) * scale * weight scale + bias, summed up exactly in 32 bits.
"""

from __future__ import annotations

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor
from qcompiler.lower.replacing import put_instead
from qcompiler.lower.target import DYNAMIC, STATIC, Form, Group, Plan

__all__ = ["emit_integer_products", "is_integer_product"]


def is_integer_product(group: Group, form: Form) -> bool:
    """True where ``form`` of ``group`` is written so: dynamic ones, and a static MatMul of 8-bit activations."""
    quant = group.data[0].quant if group.data else None
    narrow = quant is not None and quant.spec.dtype.bits <= 8
    return form.kind == DYNAMIC or (form.kind == STATIC and group.anchor.is_op("MatMul") and narrow)


def emit_integer_products(copy: Model, mapping: dict[Value, Value], plan: Plan) -> None:
    """Write the integer products of ``plan`` into ``copy``, where the Q/DQ pairs of static ones' inputs stand already.

    An input that several groups read is quantized once.
    """
    weights: dict[tuple[Graph, Value, Form], tuple[Value, Value, Value]] = {}
    ranged: dict[Value, tuple[Value | None, ...]] = {}
    for group, form in plan.items():
        if not is_integer_product(group, form):
            continue
        dynamic = form.kind == DYNAMIC
        anchor = mapping[group.anchor.output].producer
        assert anchor is not None and anchor.graph is not None and group.weight is not None
        graph, data = anchor.graph, anchor.inputs[0]
        assert data is not None
        if dynamic and data not in ranged:
            ranged[data] = _ranged(data)
        maker = data.producer
        quantized, scale, zero = ranged[data] if dynamic else (maker.inputs if maker is not None else (None,) * 3)
        if (graph, group.weight, form) not in weights:
            weights[graph, group.weight, form] = _weights(graph, group, form)
        stored, scales, zeros = weights[graph, group.weight, form]
        inputs = [quantized, stored, scale, scales, zero, zeros]
        bias = mapping.get(group.bias) if group.bias is not None else None
        if form.stored is not None and form.stored.bias is not None:
            inputs.append(graph.add_constant(tensor(form.stored.bias), f"{group.name}_corrected_bias"))
        elif bias is not None:
            held = bias.constant
            assert held is not None
            if len(held.shape) != 1:
                bias = graph.add_constant(tensor(np.reshape(held.numpy(), -1)), f"{bias.name}_row")
            inputs.append(bias)
        made = Node("MatMulIntegerToFloat", inputs, domain="com.microsoft", name=anchor.name)
        put_instead(graph, made, _covered(group, mapping))
        if not dynamic and maker is not None and not maker.output.uses and not maker.output.is_output:
            graph.remove(maker)
        copy.opsets.setdefault("com.microsoft", 1)


def _covered(group: Group, mapping: dict[Value, Value]) -> list[Node]:
    """The nodes of the copy that the product stands for: a Relu that the group absorbed is not among them."""
    twins = [mapping[node.output].producer for node in group.nodes if node is group.anchor or node.is_op("Add")]
    return [twin for twin in twins if twin is not None]


def _ranged(data: Value) -> tuple[Value | None, ...]:
    """``data`` in integers, with the scale and zero point that every run finds anew."""
    node = Node("DynamicQuantizeLinear", [data], outputs=3, name=f"{data.name}/quantize")
    quantized, scale, zero = node.outputs
    quantized.name, scale.name, zero.name = (f"{data.name}_{end}" for end in ("quantized", "scale", "zero_point"))
    quantized.type = TensorType(DType.UINT8, data.shape)
    scale.type, zero.type = TensorType(DType.FLOAT, ()), TensorType(DType.UINT8, ())
    assert data.home is not None
    data.home.insert_after(data.producer, node)
    return quantized, scale, zero


def _weights(graph: Graph, group: Group, form: Form) -> tuple[Value, Value, Value]:
    """Weights [inner, outer], scales [outer] and zero points [outer]."""
    assert group.weight is not None and group.weight.constant is not None
    levels, scale, zero = form.levels(np.asarray(group.weight.constant.numpy(), np.float32))
    if group.anchor.is_op("Gemm") and group.anchor.attr("transB", 0):
        levels = np.ascontiguousarray(levels.T)
    name = group.weight.name
    return (
        graph.add_constant(tensor(levels), f"{name}_quantized"),
        graph.add_constant(tensor(scale), f"{name}_scale"),
        graph.add_constant(tensor(zero), f"{name}_zero_point"),
    )
