"""What the kernels can take: groups around products, and what may stay in integers between them."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.kernels import LONGEST_SUM
from qcompiler.lower.cuda.clustered import clustered_of
from qcompiler.lower.cuda.epilogues import activation, chain_of
from qcompiler.lower.ort_legality import is_table, table_group, weight_axis
from qcompiler.lower.target import Group
from qcompiler.ops import info

__all__ = [
    "VIEWS",
    "between",
    "data_of",
    "explicit_pads",
    "find_groups",
    "glue_nodes",
    "group_around",
    "keeps_range",
    "upsampling",
]

VIEWS = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that give the elements that they read, in the same or another order."""

_FINE = 0.06  # steps of the logits up to which a power is off by no more than int8 makes it: half a step, 3 percent
_TOO_LONG = "its sums may not fit 32 bits"


def find_groups(model: Model) -> tuple[list[Group], dict[Node, str]]:
    """The groups of the main graph in order, and why other nodes that multiply stay float."""
    groups: list[Group] = []
    refused: dict[Node, str] = {}
    for graph in model.graphs():
        for node in graph:
            if graph is model.graph and is_table(node):
                groups.append(table_group(node))
            known = info(node)
            if known is None or known.role != "compute":
                continue
            reason = _objection(node, model) if graph is model.graph else "it stands in a branch, loop or function"
            if reason:
                refused[node] = reason
            else:
                groups.append(group_around(node))
    return groups, refused


def group_around(node: Node) -> Group:
    """The group of what a kernel can do around ``node``."""
    chain = chain_of(node)
    clustered = clustered_of(node) is not None
    fixed = node.input(1) is not None and node.inputs[1].constant is not None  # type: ignore[union-attr]
    data = node.inputs[:1] if fixed or clustered else node.inputs[:2]
    return Group(
        node.name or node.output.name,
        node,
        chain.nodes,
        tuple(value for value in data if value is not None),
        node.input(1) if fixed else None,
        chain.bias,
        weight_axis(node),
        chain.nodes[-1].output,
        requantizes=False,
    )


def _objection(node: Node, model: Model) -> str:
    """Why no kernel can take ``node``; empty where one can."""
    if model.opset < 17:
        return f"operator set {model.opset} is older than the kernels' (17)"
    if any(value.dtype is not DType.FLOAT for value in node.inputs if value is not None):
        kinds = sorted({value.dtype.name.lower() if value.dtype else "unknown" for value in node.inputs if value})
        return f"its inputs are {', '.join(kinds)}, not float"
    if node.inputs[0] is None or node.inputs[0].const is not None:
        return "what it reads is a constant"
    bias = node.input(2)
    if bias is not None and bias.constant is None:
        return "its bias is computed at run time or can be overridden"
    weight = node.inputs[1]
    assert weight is not None
    held = weight.constant
    if node.is_op("Conv", "ConvTranspose"):
        return _convolution(node, weight)
    if node.is_op("Gemm"):
        if held is None and clustered_of(node) is None:
            return "its weights are computed at run time or can be overridden"
        if node.attr("transA", 0) or node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0:
            return "a scaled or transposed Gemm has no kernel"
        channels = None if weight.shape is None else weight.shape[weight_axis(node)]
        if bias is not None and bias.constant is not None and bias.constant.shape not in ((channels,), (1, channels)):
            return "its bias is not one number per output channel"
    clustered = clustered_of(node) if held is None else None
    shape = held.shape if held is not None else None if clustered is None else clustered.indices.shape[::-1]
    if shape is None:
        return _two_activations(node)
    if math.prod(shape) < 16:
        return "its weights are a handful of numbers"
    if node.is_op("MatMul") and len(shape) != 2:
        return f"its weights have {len(shape)} axes"
    if (node.inputs[0].rank or 0) < 2:
        return "the rank of its input is not known or below 2"
    inner = shape[0] if held is None else held.size // held.shape[weight_axis(node)]
    return "" if inner <= LONGEST_SUM else _TOO_LONG


def _convolution(node: Node, weight: Value) -> str:
    held = weight.constant
    if held is None:
        return "its weights are computed at run time or can be overridden"
    if len(held.shape) != 4:
        return f"its kernel has {len(held.shape) - 2} axes; the kernels are for pictures"
    if held.size < 16:
        return "its weights are a handful of numbers"
    data = node.inputs[0]
    if data is None or data.rank != 4:
        return "the rank of its input is not known"
    if explicit_pads(node) is None:
        return f"auto_pad {node.attr('auto_pad')} depends on sizes that are not known"
    if node.is_op("ConvTranspose") and "output_shape" in node.attrs:
        return "its padding follows from output_shape"
    return "" if held.size // held.shape[weight_axis(node)] <= LONGEST_SUM else _TOO_LONG


def _two_activations(node: Node) -> str:
    """A product of two activations: one matrix of each for every combination of the axes before."""
    a, b = node.inputs[:2]
    assert a is not None and b is not None
    if b.const is not None:
        return "its weights can be overridden"
    if a.shape is None or b.shape is None or len(a.shape) < 3 or len(a.shape) != len(b.shape):
        return "the ranks of its factors differ or are not known"
    if a.shape[:-2] != b.shape[:-2]:
        return "its factors have other axes before the matrices"
    inner = a.shape[-1]
    return _TOO_LONG if isinstance(inner, int) and inner > LONGEST_SUM // 2 else ""


def explicit_pads(node: Node) -> tuple[int, ...] | None:
    """Top, left, bottom and right padding of a convolution or pooling; None where it depends on unknown sizes."""
    auto = node.attr("auto_pad", "NOTSET")
    if auto in ("NOTSET", "", "VALID"):
        return tuple(node.attr("pads", (0, 0, 0, 0))) if auto != "VALID" else (0, 0, 0, 0)
    data = node.inputs[0]
    shape = None if data is None else data.shape
    weight = node.input(1)
    kernel = node.attr("kernel_shape") or (weight.shape[2:] if weight is not None and weight.shape else None)
    if node.is_op("ConvTranspose") or shape is None or kernel is None:
        return None
    strides, dilations = node.attr("strides", (1, 1)), node.attr("dilations", (1, 1))
    before, behind = [], []
    for axis in (0, 1):
        size, window = shape[2 + axis], kernel[axis]
        if not isinstance(size, int) or not isinstance(window, int):
            return None
        reach = (window - 1) * dilations[axis] + 1
        total = max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
        less, more = total // 2, total - total // 2
        before.append(more if auto == "SAME_LOWER" else less)
        behind.append(less if auto == "SAME_LOWER" else more)
    return (*before, *behind)


def glue_nodes(model: Model, static: Collection[Group], others: Collection[Group]) -> list[Node]:
    """Nodes between groups that run on integers too, so that no value has to be made float in between.

    ``static`` groups read integers, and like ``others`` (dynamic ones, which read floats) can give them. A node is
    taken when everything it reads is there in integers, and everybody reads integers of what it gives.
    """
    active = {node for group in static for node in group.nodes}
    taken = active | {node for group in others for node in group.nodes}
    there = {group.output for group in (*static, *others) if group.output.quant is not None}
    candidates: list[Node] = []
    for node in filter(_is_glue, model.graph):
        if node in taken or (node.output.quant is None and not keeps_range(node)):
            continue
        if all(value in there for value in data_of(node)):
            candidates.append(node)
            there.add(node.output)
    kept: set[Node] = set()
    for node in reversed(candidates):
        users = node.output.users()
        if users and not node.output.is_output and all(user in active or user in kept for user in users):
            kept.add(node)
    return [node for node in candidates if node in kept]


def keeps_range(node: Node) -> bool:
    """True for what gives a selection of the elements that it reads, so that scale and zero point stay."""
    return node.is_op("MaxPool", "Resize", *VIEWS)


def data_of(node: Node) -> list[Value]:
    """The activations that a node between groups reads."""
    places = range(len(node.inputs)) if node.is_op("Concat", "Add", "Mul") else range(1)
    return [value for place in places if (value := node.input(place)) is not None]


def between(node: Node) -> bool:
    """True for operators of which some run in integers between groups."""
    kinds = ("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Concat", "Add", "Mul", "Softmax")
    return node.is_op(*kinds, *VIEWS) or activation(node) is not None


def _is_glue(node: Node) -> bool:
    value = node.output
    if len(node.outputs) != 1 or value.dtype is not DType.FLOAT or not data_of(node):
        return False
    if any(item.const is not None or item.dtype is not DType.FLOAT for item in data_of(node)):
        return False
    if node.is_op(*VIEWS):
        return True
    if activation(node) is not None and not node.is_op("Clip"):
        return True
    if node.is_op("Softmax"):
        quant, rank = _root(data_of(node)[0]).quant, value.rank
        fine = quant is not None and float(np.max(quant.scale)) <= _FINE
        return fine and rank is not None and node.attr("axis", -1) in (-1, rank - 1)
    ranks = {item.rank for item in (*data_of(node), value)}
    if ranks != {4}:
        return False
    if node.is_op("MaxPool", "AveragePool"):
        return explicit_pads(node) is not None and not (node.attr("ceil_mode", 0) and node.attr("count_include_pad", 0))
    if node.is_op("Resize"):
        return upsampling(node) is not None
    return node.is_op("GlobalAveragePool", "Concat") or (node.is_op("Add", "Mul") and _alike(node))


def _root(value: Value) -> Value:
    """Where the scale of ``value`` comes from: views and selections have that of what they read."""
    while value.producer is not None and keeps_range(value.producer):
        value = data_of(value.producer)[0]
    return value


def _alike(node: Node) -> bool:
    """True when one factor has the output's shape and the other spreads in a way that the kernel knows."""
    whole = node.output.shape
    first, second = (value.shape for value in data_of(node))
    if whole is None or None in (first, second) or len(data_of(node)) != 2:
        return False
    return whole in (first, second)


def upsampling(node: Node) -> tuple[int, int] | None:
    """Whole factors by which a Resize repeats pixels down and across; None for any other."""
    if node.attr("mode", "nearest") != "nearest" or "axes" in node.attrs:
        return None
    place = node.attr("coordinate_transformation_mode", "half_pixel")
    rounding = node.attr("nearest_mode", "round_prefer_floor")
    if not (place == "asymmetric" and rounding == "floor") and not (
        place == "half_pixel" and rounding.startswith("round")
    ):
        return None
    scales = node.input(2)
    held = None if scales is None else scales.constant
    if held is not None and held.size == 4:
        factors = [float(item) for item in held.numpy()]
    else:
        given, made = (None if value is None else value.shape for value in (node.inputs[0], node.output))
        if given is None or made is None or not all(isinstance(size, int) and size for size in (*given[1:], *made[1:])):
            return None
        factors = [1.0, *(there / here for there, here in zip(made[1:], given[1:], strict=True))]  # type: ignore[operator]
    if factors[:2] != [1.0, 1.0] or any(item != int(item) or item < 1 for item in factors):
        return None
    return int(factors[2]), int(factors[3])
