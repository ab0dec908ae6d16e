"""How long a node takes in an engine that is not here: the roofline of the card, with TensorRT's fusions.

A product takes the longer of its arithmetic and its memory traffic, and the time of a launch (Williams et al., 2009).
What computes element by element joins what gives its input and costs only what else it reads. Nodes of an engine are
launched together as a graph, which is cheaper than one by one.
"""

from __future__ import annotations

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.kernels import Card
from qcompiler.lower.roofline import BANDWIDTH, PEAK, bytes_of, elements_of
from qcompiler.ops import macs

__all__ = ["EIGHT_BIT_KINDS", "eight_bits", "node_seconds", "runs_as"]

_LAUNCH = 0.5  # of a launch by itself
_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Constant", "ConstantOfShape",
                   "Size", "DequantizeLinear"})  # fmt: skip
_JOINS = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "HardSigmoid", "HardSwish", "LayerNormalization", "LeakyRelu", "Less", "Log", "Max", "Min", "Mish", "Mul", "Neg",
    "Not", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "ReduceMean", "Relu", "Resize", "Round", "Selu", "Sigmoid",
    "Sign", "Slice", "Softplus", "Softmax", "Split", "Sqrt", "Sub", "Tanh", "Transpose", "Where", "Concat",
})  # fmt: skip
"""Operators that become part of the launch that gives what they read."""

_NAMES = {DType.INT8: "int8", DType.UINT8: "int8", DType.FLOAT8E4M3FN: "float8"}

EIGHT_BIT_KINDS = frozenset(f"{bits} {kind}" for kind in _PRODUCTS for bits in _NAMES.values())
"""What a product in 8 bits is called."""


def eight_bits(node: Node) -> str:
    """int8 or float8 for a product of which both factors come straight from a DequantizeLinear of it; else empty."""
    if not node.is_op(*_PRODUCTS):
        return ""
    kinds = {_from_pair(value) for value in node.inputs[:2]}
    return kinds.pop() if len(kinds) == 1 else ""


def _from_pair(value: Value | None) -> str:
    maker = None if value is None else value.producer
    if maker is None or not maker.is_op("DequantizeLinear") or maker.attr("block_size", 0):
        return ""
    read = maker.inputs[0]
    return "" if read is None or read.dtype is None else _NAMES.get(read.dtype, "")


def runs_as(node: Node) -> str:
    """The operator of ``node``, and whether it multiplies in 8 bits."""
    return f"{eight_bits(node)} {node.op_type}".strip()


def node_seconds(model: Model, card: Card) -> dict[str, float]:
    """Seconds of the nodes of the main graph by their names."""
    found: dict[str, float] = {}
    launches: dict[Value, int] = {}  # by which launch a value is made, for nodes that could join it
    fixed: set[Value] = set()  # computed when the engine is built
    for count, node in enumerate(model.graph):
        read = [value for value in dict.fromkeys(node.inputs) if value is not None]
        if all(value.constant is not None or value in fixed for value in read):
            found[node.name] = 0.0
            fixed.update(node.outputs)
            continue
        last = max((launches[value] for value in read if value in launches), default=None)
        joined = last is not None and node.is_op(*_JOINS)
        if joined:
            others = sum(_bytes(value) for value in read if launches.get(value) != last)
            seconds = others / (card.bandwidth * BANDWIDTH)
        else:
            seconds = _seconds(node, read, card)
        found[node.name] = found.get(node.name, 0.0) + seconds
        if joined or node.is_op("DequantizeLinear"):
            launches.update(dict.fromkeys(node.outputs, last) if last is not None else {})
        elif node.is_op(*_PRODUCTS, *_JOINS):
            launches.update(dict.fromkeys(node.outputs, count))
    return found


def _seconds(node: Node, read: list[Value], card: Card) -> float:
    """Of a node that is a launch of its own."""
    if node.is_op(*_FREE):
        return 0.0
    traffic = sum(_bytes(value) for value in read) + sum(_written(value) for value in node.outputs)
    peak = card.int8 if eight_bits(node) else card.half
    busy = max(2 * macs(node) / (peak * PEAK), traffic / (card.bandwidth * BANDWIDTH))
    launches = 1
    if node.is_op(*_PRODUCTS) and read[0].is_input and read[0].dtype is DType.FLOAT:
        launches = 2  # float32 from outside is first made what the product reads, as a Q would do
        busy += 1.5 * _bytes(read[0]) / (card.bandwidth * BANDWIDTH)
    return busy + launches * _LAUNCH * card.launch


def _written(value: Value) -> float:
    """Bytes that a launch writes for ``value``: one an element where everybody reads it quantized in the end."""
    seen, waiting = {value}, [value]
    while waiting:
        item = waiting.pop()
        if item.output_uses:
            return _bytes(value)
        for user in item.users():
            if user.is_op("QuantizeLinear"):
                continue
            if not user.is_op(*_JOINS) or len(seen) > 8:
                return _bytes(value)
            for made in user.outputs:
                if made not in seen:
                    seen.add(made)
                    waiting.append(made)
    return float(elements_of(value))


def _bytes(value: Value) -> float:
    """Bytes of a value as it lies in memory: behind a DequantizeLinear the integers do; floats are stored in two."""
    maker = value.producer
    if maker is not None and maker.is_op("DequantizeLinear") and maker.inputs[0] is not None:
        return bytes_of(maker.inputs[0])
    return bytes_of(value)
