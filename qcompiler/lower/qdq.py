"""Quantization written as QuantizeLinear and DequantizeLinear around float ops, the form that runtimes fuse."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import (
    Graph,
    Model,
    Node,
    Quantization,
    Value,
    quantize,
    tensor,
)
from qcompiler.lower.integer_products import is_integer_product
from qcompiler.lower.pairs import Pairs, dequantized, put_bias
from qcompiler.lower.target import Group, Plan, Target
from qcompiler.ops import info
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["insert_qdq"]

_BIAS_LIMIT = 2.0**30  # int32 with room for the products that are added to it
_KEEPS_RANGE = ("movement", "monotone")


def insert_qdq(copy: Model, mapping: dict[Value, Value], plan: Plan, glue: Collection[Node], target: Target) -> None:
    """Put the groups of ``plan`` and ``glue`` of a model between Q/DQ pairs in its ``copy``, weights in integers too.

    ``mapping`` leads from the model's values to the copy's. A value that integer ops give is read in its integer form
    by everyone, so that the op can be fused with its output's Q; any other value is converted only for the integer ops
    that read it. What is an integer product gets its input in integers only: the rest of it is not written in Q/DQ.
    Raises LoweringError for a value without a range.
    """
    _Emitter(copy, mapping, plan, glue, target).run()


class _Emitter:
    def __init__(
        self,
        copy: Model,
        mapping: dict[Value, Value],
        plan: Plan,
        glue: Collection[Node],
        target: Target,
    ) -> None:
        self.mapping = mapping
        self.plan = plan
        self.glue = list(glue)
        self.target = target
        self.weights: dict[tuple[Graph, Value, int, bytes], Value] = {}
        self.pairs = Pairs(copy.graph)

    def run(self) -> None:
        quant = self._quantizations()
        readers: dict[Value, list[tuple[Node, int]]] = {}
        given: set[Value] = set()
        for group in self.plan:
            for value in group.data:
                readers.setdefault(value, []).append((self._twin(group.anchor), 0))
            if group.requantizes:
                given.add(group.output)
                readers.setdefault(group.output, [])
        for node in self.glue:
            known = info(node)
            places = range(len(node.inputs)) if known is None or known.data_inputs is None else known.data_inputs
            for place in places:
                read = node.inputs[place]
                assert read is not None
                if not self._absorbed(read, node):
                    readers.setdefault(read, []).append((self._twin(node), place))
            if not (self._relu_follows(node)):
                given.add(node.output)
                readers.setdefault(node.output, [])
        for value in self._in_order(readers):
            self._pair(value, quant[value], readers[value], whole=value in given)
        for group in self.plan:
            if not is_integer_product(group, self.plan[group]):
                self._weights(group, quant)

    def _quantizations(self) -> dict[Value, Quantization]:
        """Parameters of every value; what only moves elements shares those of what it reads."""
        found: dict[Value, Quantization] = {}
        for node in self.glue:
            known = info(node)
            if known is not None and known.role in _KEEPS_RANGE and node.op_type != "Relu":
                source = node.inputs[0]
                assert source is not None
                quant = found.get(source, source.quant)
                if quant is not None:
                    found[node.output] = quant
        for node in reversed(self.glue):
            quant = found.get(node.output, node.output.quant)
            if node.is_op("Concat") and quant is not None:
                # Parts that nobody else reads take the scale of the whole: joining them is copying then. But a zero
                # point that moved would bring back the Relu that had gone into the part's own.
                for value in node.inputs:
                    if value is None or value.quant is None or len(value.uses) != 1 or value in found:
                        continue
                    if value.quant.zero_point == quant.zero_point:
                        found[value] = quant
        return _Ranges(found)

    def _relu_follows(self, node: Node) -> bool:
        """True for a glue node whose only reader is a Relu that becomes part of it."""
        users = node.output.users()
        return len(users) == 1 and users[0] in self.glue and self._absorbed(node.output, users[0])

    def _absorbed(self, value: Value, reader: Node) -> bool:
        """True when ``reader`` is a Relu that merges with the op that gives ``value``: Q after it cuts at zero."""
        producer = value.producer
        return (
            reader.is_op("Relu")
            and producer is not None
            and producer.is_op("Add", "AveragePool", "Concat")
            and producer in self.glue
            and len(value.uses) == 1
        )

    def _twin(self, node: Node) -> Node:
        twin = self.mapping[node.output].producer
        assert twin is not None
        return twin

    def _in_order(self, values: Collection[Value]) -> list[Value]:
        def place(value: Value) -> tuple[int, int]:
            return (value.producer._order if value.producer is not None else -1, value.index)

        return sorted(values, key=place)

    def _pair(self, value: Value, quant: Quantization, readers: list[tuple[Node, int]], whole: bool) -> None:
        twin = self.mapping[value]
        home = twin.home
        assert home is not None
        inside = [(node, place) for node, place in readers if node.inputs[place] is twin]
        uses = list(twin.uses) if whole else [(node, place) for node, place in inside if node.graph is home]
        back = self.pairs.around(value.name, twin, quant, home) if uses else twin
        if any(not isinstance(user, Node) for user, _ in uses):
            back.name, twin.name = twin.name, f"{twin.name}_float"
            back.type, back.doc = twin.type, twin.doc
        for user, place in uses:
            if isinstance(user, Node):
                user.set_input(place, back)
            else:
                user.set_output(place, back)
        # A runtime fuses what stands in one graph: what is read in a branch or a loop gets a pair there.
        for graph in dict.fromkeys(node.graph for node, _ in inside if node.graph is not home):
            assert graph is not None
            own = self.pairs.around(value.name, back, quant, graph)
            for node, place in inside:
                if node.graph is graph:
                    node.set_input(place, own)

    def _weights(self, group: Group, quant: dict[Value, Quantization]) -> None:
        if group.weight is None or group.weight.constant is None:
            return
        node = self._twin(group.anchor)
        form = self.plan[group]
        array = np.asarray(group.weight.constant.numpy(), np.float32)
        levels, scale, zero = form.levels(array)
        data_scale = np.float32(quant[group.data[0]].scale)
        bias = None if group.bias is None or group.bias.constant is None else group.bias.constant.numpy()
        if form.stored is not None and form.stored.bias is not None:
            bias = form.stored.bias
        if node.is_op("MatMul"):  # what is added to it stays a float Add behind it
            if form.stored is not None and form.stored.bias is not None:
                put_bias(self.mapping, group, node, form.stored.bias)
            bias = None
        if bias is not None:
            bias = np.asarray(bias, np.float32).reshape(-1)
            # A channel of tiny weights under a large bias: a wider scale loses nothing that the bias would not drown.
            wider = np.maximum(scale, np.abs(bias) / (data_scale * np.float32(_BIAS_LIMIT))).astype(np.float32)
            if (wider != scale).any():  # integers that were chosen belong to the narrower one
                scale, levels = wider, quantize(array, wider, zero, form.weight)
        graph = node.graph
        assert graph is not None
        key = (graph, group.weight, group.weight_axis, scale.tobytes() + levels.tobytes())
        if key not in self.weights:
            name, dtype = group.weight.name, form.weight.dtype
            held = graph.add_constant(tensor(levels), f"{name}_quantized")
            self.weights[key] = dequantized(node, name, held, scale, zero, dtype, axis=group.weight_axis)
        elif (maker := self.weights[key].producer) is not None and not maker.before(node):
            graph.move_before(node, maker)
        node.set_input(1, self.weights[key])
        drop_constant_if_unused(self.mapping[group.weight])
        if bias is not None:
            steps = (np.float64(data_scale) * scale.astype(np.float64)).astype(np.float32)
            whole = np.clip(np.rint(bias.astype(np.float64) / steps), -_BIAS_LIMIT, _BIAS_LIMIT).astype(np.int32)
            name = group.bias.name if group.bias is not None else f"{group.name}_bias"
            held = graph.add_constant(tensor(whole), f"{name}_quantized")
            none = np.zeros(steps.shape, np.int32)
            back = dequantized(node, name, held, steps, none, DType.INT32, axis=0)
            old = node.input(2)
            node.resize_inputs((*node.inputs[:2], back))
            if old is not None:
                drop_constant_if_unused(old)


class _Ranges(dict[Value, Quantization]):
    """Parameters by value, looked up on the value itself where nothing else was decided."""

    def __missing__(self, value: Value) -> Quantization:
        if value.quant is None:
            raise LoweringError(f"{value!r} has no calibrated range", hint="run a calibrating pass before lowering")
        return value.quant
