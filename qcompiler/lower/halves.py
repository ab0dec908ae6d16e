"""What stays float runs in float16 or bfloat16, where calibration has seen that it fits.

A value whose range was never seen stays float32, and so does a node that the runtime has no such kernel for, whose
constants would lose too much, or whose digits decide something: an index, a comparison, the largest of many. A stretch
of nodes that would need as many casts as it has nodes is left alone. A product and the DequantizeLinear before it are
of one type, so that nothing stands between them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, Quantization, TensorType, Value, tensor
from qcompiler.kernels import DOMAIN
from qcompiler.lower.cuda.nodes import attributes_of, kernel_node
from qcompiler.lower.target import Group
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["CUDA_HALVES", "float_values", "magnitude", "to_halves"]

_LARGEST = 3e4  # half of float16's largest: other samples may go beyond what calibration has seen
_SMALLEST = 1e-2  # of the largest seen: below 6e-5 float16 loses digits, and most elements are smaller than the largest
_LOSS = {DType.FLOAT16: 1e-3, DType.BFLOAT16: 4e-3}  # of a constant's norm

_FLOATS = (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE)

CUDA_HALVES = frozenset({
    "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Elu", "Erf", "Expand", "Flatten", "Gather",
    "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LayerNormalization",
    "LeakyRelu", "MatMul", "MaxPool", "Mul", "Neg", "Pad", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where", "com.microsoft:Gelu", "com.microsoft:FastGelu",
    "com.microsoft:QuickGelu",
})  # fmt: skip
"""Operators with a float16 kernel in onnxruntime's CUDA provider whose result does not hang on more digits."""

_DECIDE = frozenset({
    "ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod",
    "NonMaxSuppression", "Round", "Sign", "TopK", "Unique",
})  # fmt: skip
"""Operators for which a digit may decide; so does a Cast to whole numbers."""

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def float_values(model: Model, groups: Collection[Group]) -> list[Value]:
    """Everything that is float: the values whose ranges decide what may run in halves, those of ``groups`` first."""
    values = dict.fromkeys(value for group in groups for value in (*group.data, group.output))
    values.update(dict.fromkeys(value for node in model.graph for value in node.outputs if value.name))
    return [value for value in values if value.dtype is DType.FLOAT]


def magnitude(quant: Quantization) -> float:
    """The largest that calibration has seen."""
    return max(map(abs, (*quant.observed, float(np.min(quant.low)), float(np.max(quant.high)))))


def to_halves(
    model: Model,
    magnitudes: Mapping[Value, float],
    *,
    operators: frozenset[str] = CUDA_HALVES,
    dtype: DType = DType.FLOAT16,
) -> int:
    """Let nodes of the main graph that are ``operators`` run in ``dtype``, float16 or bfloat16; how many do.

    ``magnitudes`` are the largest seen of values. Inputs and outputs of the model keep their types.
    """
    graph = model.graph
    captured = {value for inner in model.graphs() if inner is not graph for node in inner for value in node.inputs}
    captured |= {value for inner in model.graphs() if inner is not graph for value in inner.outputs}

    held = captured | _deciding(graph)

    def fits(value: Value) -> bool:
        if value in held or value not in magnitudes:
            return False
        return dtype is DType.BFLOAT16 or _SMALLEST <= magnitudes[value] <= _LARGEST

    chosen = {node for node in graph if _able(node, fits, operators, dtype)}
    _match_pairs(graph, chosen)
    chosen -= _not_worth(graph, chosen)
    _match_pairs(graph, chosen)
    _Halver(model, chosen, fits, dtype).run()
    return len(chosen)


def _match_pairs(graph: Graph, chosen: set[Node]) -> None:
    """Take out of ``chosen`` a DequantizeLinear that a product reads which is not in it, and products that read such a
    one.

    What goes out takes others with it, each once: linear in the size of the graph.
    """
    waiting = [node for node in graph if node not in chosen]
    while waiting:
        node = waiting.pop()
        others: list[Node] = []
        if node.is_op("DequantizeLinear"):
            others = [user for user in node.output.users() if user.is_op(*_PRODUCTS)]
        elif node.is_op(*_PRODUCTS):
            makers = (value.producer for value in node.inputs if value is not None)
            others = [maker for maker in makers if maker is not None and maker.is_op("DequantizeLinear")]
        for other in others:
            if other in chosen:
                chosen.discard(other)
                waiting.append(other)


def _deciding(graph: Graph) -> set[Value]:
    """Values whose digits decide something further on. A product or a kernel in between averages them out."""
    found: set[Value] = set()
    for node in reversed(graph):
        decides = node.op_type in _DECIDE or (node.is_op("Cast") and node.output.dtype not in _FLOATS)
        passes_on = not node.domain and not node.is_op(*_PRODUCTS) and any(value in found for value in node.outputs)
        if decides or passes_on:
            found.update(value for value in node.inputs if value is not None and value.dtype is DType.FLOAT)
    return found


def _able(node: Node, fits: Any, operators: frozenset[str], dtype: DType) -> bool:
    """True when ``node`` may run in ``dtype``: everything float that it reads and gives fits."""
    kind = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
    if kind not in operators or not all(fits(value) for value in _given(node)):
        return False
    if any(value is not None and value.dtype is None for value in (*node.inputs, *node.outputs)):
        return False
    floats = [value for _, value in _read(node)]
    if not floats or not (_given(node) or node.is_op("QuantizeLinear")):
        return False
    # A pair keeps its grid: its scale has to be the same number in either type.
    loss = 0.0 if node.is_op("QuantizeLinear", "DequantizeLinear") else _LOSS[dtype]
    return all(_constant_fits(value, dtype, loss) if value.const is not None else fits(value) for value in floats)


def _read(node: Node) -> list[tuple[int, Value]]:
    """The float inputs that have to be of the operator's type, with their places: sizes of a Resize stay float32."""
    places = range(1) if node.is_op("Resize") else range(len(node.inputs))
    found = ((place, node.inputs[place]) for place in places)
    return [(place, value) for place, value in found if value is not None and value.dtype is DType.FLOAT]


def _given(node: Node) -> list[Value]:
    """The outputs that such operators give in their own type: of LayerNormalization the first alone."""
    outputs = node.outputs[:1] if node.is_op("LayerNormalization") else node.outputs
    return [value for value in outputs if value.dtype is DType.FLOAT]


def _constant_fits(value: Value, dtype: DType, loss: float) -> bool:
    held = value.constant
    if held is None:
        return False
    array = held.numpy().astype(np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        return False
    if dtype is DType.FLOAT16 and np.abs(array).max() > _LARGEST:
        return False
    lost = np.linalg.norm(array - array.astype(dtype.numpy).astype(np.float64))
    return bool(lost <= loss * np.linalg.norm(array))


def _not_worth(graph: Graph, chosen: set[Node]) -> set[Node]:
    """Nodes of stretches whose casts would eat what they gain: without a product, and at least a cast a node."""
    left: set[Node] = set()
    seen: set[Node] = set()
    for start in graph:
        if start not in chosen or start in seen:
            continue
        stretch, waiting = [start], [start]
        seen.add(start)
        casts: set[tuple[Value, bool]] = set()
        while waiting:
            node = waiting.pop()
            near = [(value.producer, value, True) for value in node.inputs if value is not None and value.const is None]
            near += [(user, value, False) for value in node.outputs for user in value.users()]
            for other, value, incoming in near:
                if value.dtype is not DType.FLOAT:
                    continue
                if other in chosen:
                    if other not in seen and other is not None:
                        seen.add(other)
                        stretch.append(other)
                        waiting.append(other)
                elif other is None or other.domain != DOMAIN:
                    casts.add((value, incoming))
            casts |= {(value, False) for value in node.outputs if value.is_output}
        if len(casts) >= len(stretch) and not any(node.is_op(*_PRODUCTS) for node in stretch):
            left.update(stretch)
    return left


class _Halver:
    def __init__(self, model: Model, chosen: set[Node], fits: Any, dtype: DType) -> None:
        self.model, self.graph, self.chosen, self.fits, self.dtype = model, model.graph, chosen, fits, dtype
        self.declared = [value.shape for value in model.graph.outputs]
        self.halves: dict[Value, Value] = {}
        self.floats: dict[Value, Value] = {}

    def run(self) -> None:
        for node in self.graph:
            if node in self.chosen:
                self._half(node)
            elif node.domain == DOMAIN:
                self._kernel(node)
            else:
                for place, value in enumerate(node.inputs):
                    if value is not None and value in self.floats:
                        node.set_input(place, self._float(value))
        for place, value in enumerate(self.graph.outputs):
            if value in self.floats:
                wide = self._cast(value, DType.FLOAT)
                wide.type = TensorType(DType.FLOAT, self.declared[place])
                wide.name, value.name = value.name, f"{value.name}_half"
                self.graph.set_output(place, wide)

    def _half(self, node: Node) -> None:
        """``node`` on halves."""
        old = [value for value in node.inputs if value is not None and value.const is not None]
        for place, value in _read(node):
            node.set_input(place, self._narrow(value))
        for value in _given(node):
            self._becomes_half(value)
        for value in dict.fromkeys(old):
            drop_constant_if_unused(value)

    def _kernel(self, node: Node) -> None:
        """A kernel reads floats of either kind, and may give float16."""
        if "half" not in node.attrs or node.output.dtype is not DType.FLOAT or not self.fits(node.output):
            return
        if not any(user in self.chosen for user in node.output.users()):
            return
        made = kernel_node(
            self.model, node.op_type, node.inputs, {**attributes_of(node), "half": 1}, shape=node.output.shape,
            name=node.name,
        )  # fmt: skip
        self.graph.insert_before(node, made)
        old, new = node.output, made.output
        new.name, new.quant = old.name, old.quant
        old.replace_uses(new)
        self.graph.remove(node)
        self.floats[new] = new

    def _becomes_half(self, value: Value) -> None:
        value.type = TensorType(self.dtype, value.shape)
        self.floats[value] = value

    def _narrow(self, value: Value) -> Value:
        """``value`` in the type of the halves."""
        if value.dtype is self.dtype:
            return value
        if value not in self.halves:
            if value.constant is not None:
                array = value.constant.numpy().astype(self.dtype.numpy)
                self.halves[value] = self.graph.add_constant(tensor(array, self.dtype), f"{value.name}_half")
            else:
                self.halves[value] = self._cast(value, self.dtype)
        return self.halves[value]

    def _float(self, value: Value) -> Value:
        """A value that became half, in float32 again."""
        if self.floats[value] is value:
            self.floats[value] = self._cast(value, DType.FLOAT)
        return self.floats[value]

    def _cast(self, value: Value, to: DType) -> Value:
        node = Node("Cast", [value], {"to": int(to)}, name=f"{value.name}/{to.name.lower()}")
        node.output.type = TensorType(to, value.shape)
        node.output.name = f"{value.name}_{to.name.lower()}"
        self.graph.insert_after(value.producer, node)
        return node.output
