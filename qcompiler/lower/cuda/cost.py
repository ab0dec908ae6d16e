"""How long a node takes on a card that is not here: its roofline.

A node takes the longer of its arithmetic and its memory traffic, and the time of a launch (Williams et al., 2009).
Shares of the peaks are what well-made kernels reach; sizes that are not known count as one.
"""

from __future__ import annotations

import math

from qcompiler.ir import Model, Node
from qcompiler.kernels import Card
from qcompiler.lower.cuda.nodes import kernel_of
from qcompiler.lower.roofline import BANDWIDTH, PEAK, bytes_of, elements_of
from qcompiler.ops import macs

__all__ = ["kernel_products", "node_seconds"]

_SESSION = 3e-6  # seconds more for a node that onnxruntime launches
_FREE = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Constant", "ConstantOfShape", "Size"}
)  # no launch: a view, or computed on the host


def node_seconds(model: Model, card: Card) -> dict[str, float]:
    """Seconds of the nodes of the main graph by their names; float nodes run in float16 there."""
    found: dict[str, float] = {}
    for node in model.graph:
        found[node.name] = found.get(node.name, 0.0) + _seconds(node, card)
    return found


def _seconds(node: Node, card: Card) -> float:
    if node.is_op(*_FREE):
        return 0.0
    ours = kernel_of(node) is not None
    traffic = sum(bytes_of(value) for value in dict.fromkeys((*node.inputs, *node.outputs)) if value is not None)
    products = kernel_products(node) if ours else macs(node)
    peak = card.int8 if ours else card.half
    busy = max(2 * products / (peak * PEAK), traffic / (card.bandwidth * BANDWIDTH))
    return busy + card.launch + (0.0 if ours else _SESSION)


def kernel_products(node: Node) -> int:
    """Multiply-accumulates of a kernel's node; 0 for any other."""
    if kernel_of(node) is None:
        return 0
    result = elements_of(node.output)
    if node.op_type in ("CodebookMatMul", "BlockMatMul"):  # their weights are packed
        inner = node.inputs[0].shape[-1] if node.inputs[0] is not None and node.inputs[0].shape else 1
        return result * (inner if isinstance(inner, int) else 1)
    place = {"Int8Conv": 3, "Int8ConvTranspose": 3, "Int8MatMul": 3, "DynamicMatMul": 1}.get(node.op_type)
    if place is None:
        return 0
    weight = node.inputs[place]
    assert weight is not None and weight.shape is not None
    sizes = [size if isinstance(size, int) else 1 for size in weight.shape]
    if node.op_type == "Int8Conv":
        return result * math.prod(sizes[1:])
    if node.op_type == "Int8ConvTranspose":
        source = node.inputs[0]
        return (
            0 if source is None else elements_of(source) * math.prod(sizes[1:3]) * (sizes[0] // node.attr("group", 1))
        )
    return result * (sizes[-1] if node.attr("transB", 1) else sizes[-2])
