"""Q/DQ pairs and int8 weights written into a model, by the placement that TensorRT needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Model, Node, Quantization, TensorType, Value, quantize, tensor
from qcompiler.lower.pairs import Pairs, dequantized, put_bias
from qcompiler.lower.target import Form, Group, Plan
from qcompiler.lower.tensorrt.placement import Placement
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["emit_pairs", "emit_weights"]

Array = np.ndarray[Any, np.dtype[Any]]

_LEAST = np.float32(2.0**-14)  # float16's smallest number with all digits


def emit_pairs(copy: Model, mapping: Mapping[Value, Value], placement: Placement, half: np.dtype[Any] | None) -> None:
    """Put the pairs of ``placement`` into ``copy``.

    With ``half`` scales are rounded to what that type can hold, so that both nodes of a pair have the same grid
    whatever type they end up in.
    """
    pairs = Pairs(copy.graph)
    for value in sorted(placement, key=_order):
        for count, (quant, readers) in enumerate(placement[value]):
            name = f"{value.name}_{count}" if count else value.name
            back = pairs.around(name, mapping[value], rounded(quant, half), copy.graph)
            back.quant = quant
            for node, at in readers:
                _twin(mapping, node).set_input(at, back)


def rounded(quant: Quantization, half: np.dtype[Any] | None) -> Quantization:
    """``quant`` with a scale that ``half`` can hold."""
    return quant if half is None else replace(quant, scale=round_scale(quant.scale, half))


def round_scale(scale: Array, half: np.dtype[Any]) -> Array:
    """``scale`` (float32) rounded to ``half`` where that is off by less than a hundredth; elsewhere as it is."""
    with np.errstate(over="ignore", under="ignore"):
        near = scale.astype(half).astype(np.float32)
    good = np.isfinite(near) & (np.abs(near - scale) <= np.abs(scale) * 2.0**-7) & (scale >= _LEAST)
    return np.where(good, near, scale).astype(np.float32)


def emit_weights(
    copy: Model, mapping: Mapping[Value, Value], plan: Plan, groups: Collection[Group], as_float: bool,
    half: np.dtype[Any] | None,
) -> None:  # fmt: skip
    """Weights of ``groups`` behind a DequantizeLinear, one scale an output channel; biases stay float.

    They are stored in int8, or with ``as_float`` in float32 behind a QuantizeLinear.
    """
    made: dict[tuple[Value, int, bytes], Value] = {}
    forms_of: Counter[Value] = Counter()
    for group in groups:
        form = plan[group]
        if group.weight is None or group.weight.constant is None:
            continue
        node = _twin(mapping, group.anchor)
        levels, scale = _levels(group, form, half)
        key = (group.weight, group.weight_axis, scale.tobytes() + levels.tobytes())
        if key not in made:
            count = forms_of[group.weight]
            forms_of[group.weight] += 1
            name = f"{group.weight.name}_{count}" if count else group.weight.name
            made[key] = _dequantized(copy, node, group, name, levels, scale, as_float)
        elif (maker := made[key].producer) is not None and not maker.before(node):
            for item in (maker.inputs[0].producer if maker.inputs[0] is not None else None, maker):
                if item is not None:
                    copy.graph.move_before(node, item)
        node.set_input(1, made[key])
        drop_constant_if_unused(mapping[group.weight])
        if form.stored is not None and form.stored.bias is not None:
            _biased(copy, mapping, group, node, np.asarray(form.stored.bias, np.float32).reshape(-1))


def _levels(group: Group, form: Form, half: np.dtype[Any] | None) -> tuple[Array, Array]:
    """Levels and scales that ``half`` can hold."""
    assert group.weight is not None and group.weight.constant is not None
    array = np.asarray(group.weight.constant.numpy(), np.float32)
    levels, scale, zero = form.levels(array)
    if form.weight.dtype not in (DType.INT8, DType.FLOAT8E4M3FN) or np.any(zero):
        raise LoweringError(f"weights of '{group.name}' are not 8 bits around zero, which TensorRT takes alone")
    if half is not None:
        exact = scale
        if form.weight.dtype is DType.FLOAT8E4M3FN:  # its digits are as many where numbers are smaller
            scale = np.where(scale * 448 >= _LEAST, np.maximum(scale, _LEAST), scale).astype(np.float32)
        scale = round_scale(scale, half)
        if form.stored is None and (scale != exact).any():  # integers that were chosen stay what they are
            levels = quantize(array, scale, zero, form.weight)
    return levels, scale


def _dequantized(
    copy: Model, node: Node, group: Group, name: str, levels: Array, scale: Array, as_float: bool
) -> Value:
    """The weight of ``group`` behind a DequantizeLinear that is called after ``name``."""
    graph, dtype = copy.graph, DType.of(levels.dtype)
    zero = np.zeros(scale.shape, levels.dtype)
    if not as_float:
        held = graph.add_constant(tensor(levels), f"{name}_quantized")
        return dequantized(node, name, held, scale, zero, dtype, axis=group.weight_axis)
    shape = [1] * levels.ndim
    shape[group.weight_axis] = -1
    floats = graph.add_constant(tensor(levels.astype(np.float32) * scale.reshape(shape)), f"{name}_rounded")
    to = Node("QuantizeLinear", [floats, None, None], {"axis": group.weight_axis}, name=f"{name}/quantize")
    to.output.name, to.output.type = f"{name}_quantized", TensorType(dtype, levels.shape)
    graph.insert_before(node, to)
    back = dequantized(node, name, to.output, scale, zero, dtype, axis=group.weight_axis)
    assert back.producer is not None
    for place in (1, 2):  # both nodes have the same constants
        to.set_input(place, back.producer.inputs[place])
    return back


def _biased(copy: Model, mapping: Mapping[Value, Value], group: Group, node: Node, bias: Array) -> None:
    """``bias`` for the group's own."""
    if node.is_op("MatMul"):
        put_bias(mapping, group, node, bias)
        return
    old = node.input(2)
    held = copy.graph.add_constant(tensor(bias), f"{group.name}_corrected_bias")
    node.resize_inputs((*node.inputs[:2], held))
    if old is not None:
        drop_constant_if_unused(old)


def _twin(mapping: Mapping[Value, Value], node: Node) -> Node:
    twin = mapping[node.outputs[0]].producer
    assert twin is not None
    return twin


def _order(value: Value) -> tuple[int, int]:
    return (value.producer.order if value.producer is not None else -1, value.index)
