"""Weights in few bits that are made float again when they are used: smaller files, activations untouched."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.dtypes import DType, pack
from qcompiler.errors import LoweringError
from qcompiler.ir import Graph, Model, Node, QuantSpec, TensorType, Value, tensor
from qcompiler.lower.pairs import dequantized
from qcompiler.lower.replacing import put_instead
from qcompiler.lower.target import HALVES, WEIGHTS, Form, Group, Plan
from qcompiler.onnx_io import upgrade_opset
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["emit_weight_only", "needed_opset"]

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCKED_SINCE = 21  # operator set in which DequantizeLinear knows blocks and 4 bits
_TWO_BITS_SINCE = 25


def emit_weight_only(copy: Model, mapping: dict[Value, Value], plan: Plan) -> None:
    """Write the groups of ``plan`` that only store their weights in integers into ``copy``.

    Blocks go to onnxruntime's MatMulNBits and GatherBlockQuantized, whose kernels read the packed weights;
    convolutions, weights per channel and ``portable`` forms to DequantizeLinear.
    Raises LoweringError where the operator set cannot say it and cannot be raised.
    """
    made: dict[tuple[Graph, Value, QuantSpec], Value] = {}
    for group, form in plan.items():
        if form.kind != WEIGHTS:
            continue
        anchor = mapping[group.anchor.output].producer
        assert anchor is not None and anchor.graph is not None and group.weight is not None
        graph = anchor.graph
        if form.weight.block is not None and not form.portable and anchor.is_op("MatMul", "Gather"):
            build = _product if anchor.is_op("MatMul") else _rows
            put_instead(graph, build(graph, group, form, anchor), [anchor])
            copy.opsets.setdefault("com.microsoft", 1)
            continue
        since = needed_opset({group: form})
        if since > copy.opset and (reason := upgrade_opset(copy, since)):
            raise LoweringError(f"weights in blocks or less than 8 bits need operator set {since}: {reason}")
        place = 0 if anchor.is_op("Gather") else 1
        key = (graph, group.weight, form.weight)
        if key not in made:
            build_one = _halved if form.weight.dtype in HALVES else _dequantized
            made[key] = build_one(graph, group, form, anchor)
        elif (maker := made[key].producer) is not None and not maker.before(anchor):
            graph.move_before(anchor, maker)
        anchor.set_input(place, made[key])
        drop_constant_if_unused(mapping[group.weight])


def needed_opset(plan: Plan) -> int:
    """The operator set that the weight-only forms of ``plan`` need; 0 where any will do."""
    narrow = [
        form
        for group, form in plan.items()
        if form.kind == WEIGHTS and (form.weight.block is not None or form.weight.dtype.bits < 8)
        if form.weight.block is None or form.portable or not group.anchor.is_op("MatMul", "Gather")
    ]
    if not narrow:
        return 0
    return _TWO_BITS_SINCE if min(form.weight.dtype.bits for form in narrow) < 4 else _BLOCKED_SINCE


def _halved(graph: Graph, group: Group, form: Form, anchor: Node) -> Value:
    """The weight in half the bytes, rounded to the nearest, and a Cast behind it."""
    assert group.weight is not None and group.weight.constant is not None
    with np.errstate(over="ignore"):
        half = group.weight.constant.numpy().astype(form.weight.dtype.numpy)
    if not np.isfinite(half.astype(np.float32)).all():
        raise LoweringError(
            f"weight '{group.weight.name}' holds numbers too large for {form.weight.dtype.name.lower()}"
        )
    held = graph.add_constant(tensor(half, form.weight.dtype), f"{group.weight.name}_{form.weight.dtype.name.lower()}")
    node = Node("Cast", [held], {"to": int(DType.FLOAT)}, name=f"{group.weight.name}/cast")
    node.output.name, node.output.type = f"{group.weight.name}_float", TensorType(DType.FLOAT, half.shape)
    graph.insert_before(anchor, node)
    return node.output


def _dequantized(graph: Graph, group: Group, form: Form, anchor: Node) -> Value:
    assert group.weight is not None
    levels, scale, zero = _quantized(group, form)
    name = group.weight.name
    assert form.weight.axis is not None
    held = graph.add_constant(tensor(levels, form.weight.dtype), f"{name}_quantized")
    blocks = {} if form.weight.block is None else {"block_size": form.weight.block}
    return dequantized(anchor, name, held, scale, zero, form.weight.dtype, axis=form.weight.axis, **blocks)


def _product(graph: Graph, group: Group, form: Form, anchor: Node) -> Node:
    """MatMulNBits: weights [outer, blocks, packed block], scales and zero points [outer, blocks]."""
    assert group.weight is not None and form.weight.block is not None
    levels, scale, zero = _quantized(group, form)
    inner, outer = levels.shape
    bits, block = form.weight.dtype.bits, form.weight.block
    blocks = scale.shape[0]
    middle = 0 if form.weight.dtype.name.startswith("U") else 1 << (bits - 1)  # the operator's integers are unsigned
    padded = np.full((blocks * block, outer), middle, np.uint8)
    padded[:inner] = levels.astype(np.int16) + middle
    if inner < blocks * block:
        padded[inner:] = (zero.astype(np.int16) + middle)[-1]
    rows = padded.T.reshape(outer, blocks, block)
    inputs: list[Value | None] = [
        anchor.inputs[0],
        graph.add_constant(tensor(_packed(rows, bits)), f"{group.weight.name}_quantized"),
        graph.add_constant(tensor(np.ascontiguousarray(scale.T)), f"{group.weight.name}_scale"),
    ]
    offsets = zero.T.astype(np.int16) + middle
    if (offsets != 1 << (bits - 1)).any():
        odd = np.pad(offsets, ((0, 0), (0, -blocks % (8 // bits)))).astype(np.uint8)
        inputs.append(graph.add_constant(tensor(_packed(odd, bits)), f"{group.weight.name}_zero_point"))
    attrs = {"K": inner, "N": outer, "bits": bits, "block_size": block}
    if form.integer_products:
        attrs["accuracy_level"] = 4
    return Node("MatMulNBits", inputs, attrs, domain="com.microsoft", name=anchor.name)


def _rows(graph: Graph, group: Group, form: Form, anchor: Node) -> Node:
    """GatherBlockQuantized: rows of the table, of which only those asked for are made float."""
    assert group.weight is not None and form.weight.block is not None
    levels, scale, _ = _quantized(group, form)
    bits = form.weight.dtype.bits
    stored = tensor(_packed((levels.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8), bits))
    inputs = [
        graph.add_constant(stored, f"{group.weight.name}_quantized"),
        anchor.inputs[1],
        graph.add_constant(tensor(scale), f"{group.weight.name}_scale"),
    ]
    attrs = {"bits": bits, "block_size": form.weight.block, "gather_axis": 0, "quantize_axis": 1}
    return Node("GatherBlockQuantized", inputs, attrs, domain="com.microsoft", name=anchor.name)


def _quantized(group: Group, form: Form) -> tuple[Array, Array, Array]:
    assert group.weight is not None and group.weight.constant is not None
    return form.levels(np.asarray(group.weight.constant.numpy(), np.float32))


def _packed(levels: Array, bits: int) -> Array:
    """Unsigned integers of ``bits`` bits, packed along the last axis, the first in the lowest bits."""
    if bits == 8:
        return levels
    kind = DType.UINT4 if bits == 4 else DType.UINT2
    shape = (*levels.shape[:-1], levels.shape[-1] * bits // 8)
    return np.frombuffer(pack(levels.reshape(-1).astype(kind.numpy), kind), np.uint8).reshape(shape)
