"""What runs in integers between groups: pooling, joining, sums, activations by table, softmax, views."""

from __future__ import annotations

from typing import Any

from qcompiler.dtypes import DType
from qcompiler.ir import Node, TensorType, Value
from qcompiler.kernels import MOST_PARTS, table_of
from qcompiler.lower.cuda.epilogues import activation
from qcompiler.lower.cuda.forms import INT8, INT8_LAST, TO_LAST, Forms, permuted
from qcompiler.lower.cuda.legality import VIEWS, data_of, explicit_pads, upsampling
from qcompiler.lower.cuda.nodes import kernel_node

__all__ = ["emit_between"]

_PICTURES = ("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Concat", "Add", "Mul")


def emit_between(forms: Forms, node: Node) -> None:
    """Write ``node``, which reads what is there in integers and is read in integers."""
    value, twin, data = node.output, forms.twin(node), data_of(node)
    form = INT8
    if node.is_op(*VIEWS):
        source = forms.get(data[0], INT8)
        made = Node(node.op_type, [source, *twin.inputs[1:]], dict(twin.attrs), domain=twin.domain, name=node.name)
        made.output.type = TensorType(DType.INT8, value.shape)
    elif node.is_op(*_PICTURES):
        made, form = _on_pictures(forms, node, data), INT8_LAST
    elif node.is_op("Softmax"):
        made = _softmax(forms, node, data[0])
    else:
        form = INT8_LAST if forms.is_there(data[0], INT8_LAST) else INT8
        made = _function(forms, node, data[0], form)
    made.output.name = f"{value.name}_int8"
    forms.graph.insert_before(twin, made)
    forms.arises(value, form, made.output)


def _function(forms: Forms, node: Node, data: Value, form: str) -> Node:
    """An activation by itself: a table."""
    found = activation(node)
    assert found is not None
    name, low, high = found
    one, two = forms.quant(data), forms.quant(node.output)
    table = table_of(name, one.scale, one.zero_point, two.scale, two.zero_point, low, high)
    source = forms.get(data, form)
    inputs = [source, forms.constant(table, f"{node.output.name}_table")]
    return kernel_node(forms.copy, "Int8Lookup", inputs, {}, shape=source.shape, name=node.name)


def _softmax(forms: Forms, node: Node, data: Value) -> Node:
    source = forms.get(data, INT8)
    inputs = [source, forms.parameters(data)[0], *forms.parameters(node.output)]
    return kernel_node(forms.copy, "Int8Softmax", inputs, {}, shape=source.shape, name=node.name)


def _on_pictures(forms: Forms, node: Node, data: list[Value]) -> Node:
    sources = [forms.get(value, INT8_LAST) for value in data]
    shape = permuted(node.output.shape, TO_LAST)
    options: dict[str, Any] = {"shape": shape, "name": node.name}
    match node.op_type:
        case "MaxPool" | "AveragePool":
            attributes = {
                "kernel_shape": tuple(node.attr("kernel_shape")),
                "strides": tuple(node.attr("strides", (1, 1))),
                "pads": explicit_pads(node),
                "dilations": tuple(node.attr("dilations", (1, 1))),
                "ceil_mode": node.attr("ceil_mode", 0),
            }
            if node.is_op("MaxPool"):
                return kernel_node(forms.copy, "Int8MaxPool", sources, attributes, **options)
            attributes["count_include_pad"] = node.attr("count_include_pad", 0)
            return _averaged(forms, node, sources[0], data[0], attributes, options)
        case "GlobalAveragePool":
            return _averaged(forms, node, sources[0], data[0], {}, options)
        case "Resize":
            factors = upsampling(node)
            return kernel_node(forms.copy, "Int8Upsample", sources, {"factors": factors}, **options)
        case "Concat":
            return _joined(forms, node, sources, data, options)
    if node.output.shape != data[0].shape:
        sources, data = sources[::-1], data[::-1]
    inputs = [
        sources[0], *forms.parameters(data[0]), sources[1], *forms.parameters(data[1]),
        *forms.parameters(node.output),
    ]  # fmt: skip
    return kernel_node(forms.copy, f"Int8{node.op_type}", inputs, {}, **options)


def _averaged(
    forms: Forms, node: Node, source: Value, data: Value, attributes: dict[str, Any], options: dict[str, Any]
) -> Node:
    inputs = [source, *forms.parameters(data), *forms.parameters(node.output)]
    return kernel_node(forms.copy, "Int8AveragePool", inputs, attributes, **options)


def _joined(forms: Forms, node: Node, sources: list[Value], data: list[Value], options: dict[str, Any]) -> Node:
    """Concat; of more parts than a kernel takes, the first ones are joined before."""
    axis = TO_LAST.index(node.attr("axis") % 4)
    whole = forms.parameters(node.output)
    parts: list[Value | None] = []
    count = 0
    for source, value in zip(sources, data, strict=True):
        if len(parts) == 3 * MOST_PARTS:
            head = kernel_node(forms.copy, "Int8Concat", [*whole, *parts], {"axis": axis}, **options)
            first = parts[0]
            assert first is not None
            if head.output.shape == options["shape"]:  # some size is not known
                head.output.type = TensorType(DType.INT8, (None,) * 4)
            count += 1
            head.name, head.output.name = f"{node.name}/part_{count}", f"{node.output.name}_part_{count}"
            forms.graph.insert_before(forms.twin(node), head)
            parts = [head.output, *whole]
        parts += [source, *forms.parameters(value)]
    return kernel_node(forms.copy, "Int8Concat", [*whole, *parts], {"axis": axis}, **options)
