"""What TensorRT runs in 8 bits when it is told by Q/DQ: products, and what int8 passes through between them.

From NVIDIA's guide to explicit quantization ("Working with Quantized Types"), and from engines that were built.
"""

from __future__ import annotations

from dataclasses import replace

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.lower.ort_legality import group_of, objection
from qcompiler.lower.target import Group
from qcompiler.ops import info

__all__ = ["carried", "carries", "find_groups", "passes_int8"]

_SELECTS = frozenset({"Concat", "Flatten", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})


def find_groups(model: Model, transposed: bool) -> tuple[list[Group], dict[Node, str]]:
    """The groups of the main graph in order, and why other nodes that multiply stay float.

    ``transposed`` lets transposed convolutions be quantized.
    """
    groups: list[Group] = []
    refused: dict[Node, str] = {}
    for graph in model.graphs():
        for node in graph:
            known = info(node)
            if known is None or known.role != "compute":
                continue
            reason = _objection(node, model, transposed)
            if graph is not model.graph:
                reason = "it stands in a branch, loop or function"
            if reason:
                refused[node] = reason
            elif node.inputs[1] is not None and node.inputs[1].constant is None:
                groups.append(_of_two(node))
            else:
                groups.append(replace(group_of(node), requantizes=False))
    return groups, refused


def _objection(node: Node, model: Model, transposed: bool) -> str:
    """Why ``node`` cannot run in 8 bits; empty where it can."""
    if node.inputs[0] is None or node.inputs[0].const is not None:
        return "what it reads is a constant"
    if node.is_op("ConvTranspose"):
        if not transposed:
            return "TensorRT for RTX has no integer ConvTranspose (`--set tensorrt.transposed=true` for others)"
        if node.attr("group", 1) != 1:
            return "the channels of a transposed convolution in groups are on no one axis of its weights"
    weight = node.inputs[1]
    assert weight is not None
    if node.is_op("MatMul") and weight.constant is None:
        return _two_activations(node, model)
    reason = objection(node, model)
    if not reason and node.is_op("Conv", "ConvTranspose") and weight.rank not in (3, 4, 5):
        reason = f"TensorRT has no convolution with {weight.rank} axes"
    return reason


def _two_activations(node: Node, model: Model) -> str:
    """A product of two activations, such as attention's: one matrix of each for every combination of axes before."""
    a, b = node.inputs
    assert a is not None and b is not None
    if model.opset < 13:
        return f"operator set {model.opset} has no quantization per channel"
    if b.const is not None:
        return "its weights can be overridden"
    if a.dtype is not DType.FLOAT or b.dtype is not DType.FLOAT:
        return "its inputs are not float"
    if a.rank is None or b.rank is None or a.rank != b.rank or a.rank < 2:
        return "the ranks of its factors differ or are not known"
    return ""


def _of_two(node: Node) -> Group:
    data = tuple(value for value in node.inputs[:2] if value is not None)
    return Group(node.name or node.output.name, node, (node,), data, None, None, 1, node.output, requantizes=False)


def passes_int8(node: Node) -> bool:
    """True for what gives a selection of the elements that it reads, and in any order: int8 goes through unchanged."""
    if node.is_op("Resize"):
        return bool(node.attr("mode", "nearest") == "nearest" and node.attr("extrapolation_value", 0.0) == 0.0)
    if node.op_type == "MaxPool" and (len(node.outputs) > 1 or node.attr("storage_order", 0)):
        return False
    return not node.domain and node.op_type in _SELECTS


def carries(node: Node, place: int) -> bool:
    """True when what ``node`` reads at ``place`` is data that goes through it."""
    return place == 0 or node.is_op("Concat")


def carried(node: Node) -> list[tuple[int, Value]]:
    """The data that goes through ``node``: places and values."""
    return [(place, value) for place, value in enumerate(node.inputs) if value is not None and carries(node, place)]
