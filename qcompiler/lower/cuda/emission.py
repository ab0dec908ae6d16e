"""A quantized model written with kernels: int8 in NHWC between convolutions, transposes and Q/DQ only at the edges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Graph, Model, Node, Quantization, Shape, TensorType, Value, tensor
from qcompiler.kernels import MOST_PARTS, pack_fields, table_of
from qcompiler.lower.cuda.clustered import Clustered, clustered_of
from qcompiler.lower.cuda.epilogues import activation, chain_of
from qcompiler.lower.cuda.legality import data_of, explicit_pads, keeps_range, upsampling
from qcompiler.lower.cuda.nodes import EDGE, kernel_node
from qcompiler.lower.target import DYNAMIC, STATIC, WEIGHTS, Form, Group, Plan
from qcompiler.rewrite import erase_dead

__all__ = ["emit_kernels", "is_kernel"]

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCKS = (32, 64, 128, 256)  # of which there is a kernel
_FUSED_INNER = 512  # inner sizes up to which rows are quantized inside the product that reads them

# Forms of a value: float or int8, in the model's layout or with the channels last.
FLOAT, FLOAT_LAST, INT8, INT8_LAST = "float", "float_last", "int8", "int8_last"
_TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)
_PICTURES = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Concat", "Add", "Mul")


def emit_kernels(copy: Model, mapping: Mapping[Value, Value], plan: Plan, glue: Collection[Node]) -> None:
    """Write the groups of ``plan`` that :func:`is_kernel` names, and ``glue`` between them, into ``copy`` as kernels.

    ``mapping`` leads from the model's values to the copy's. Everything else stays float and is converted at the edges,
    once a value. Raises LoweringError for a value without a range and for types that no kernel takes.
    """
    _Emitter(copy, mapping, plan, glue).run()


def is_kernel(group: Group, form: Form) -> bool:
    """True for what becomes a kernel: static and dynamic forms, and weights of 4 bits in blocks around zero whose
    activations may be rounded to 8 bits."""
    if form.kind != WEIGHTS:
        return True
    spec = form.weight
    return (
        form.integer_products
        and not form.portable
        and group.anchor.is_op("MatMul")
        and spec.symmetric
        and spec.dtype in (DType.INT4, DType.UINT4)
        and spec.block in _BLOCKS
    )


class _Emitter:
    def __init__(self, copy: Model, mapping: Mapping[Value, Value], plan: Plan, glue: Collection[Node]) -> None:
        self.copy, self.mapping = copy, mapping
        self.graph: Graph = copy.graph
        self.plan = {group: form for group, form in plan.items() if is_kernel(group, form)}
        self.glue = list(glue)
        self.forms: dict[Value, dict[str, Value]] = {}
        self.rows: dict[Value, tuple[Value, Value]] = {}
        self.held: dict[tuple[Any, ...], Value] = {}
        self.shared: dict[Value, Quantization] = {}
        self.integer: set[Value] = set()

    def run(self) -> None:
        for node in self.glue:
            if keeps_range(node):
                source = data_of(node)[0]
                quant = self.shared.get(source, source.quant)
                if quant is not None:
                    self.shared[node.output] = quant
        static = [group for group, form in self.plan.items() if form.kind == STATIC]
        self.integer = {value for group in static for value in group.data}
        self.integer |= {value for node in self.glue for value in (*data_of(node), node.output)}
        work: list[tuple[int, Group | Node]] = [(group.nodes[-1].order, group) for group in self.plan]
        work += [(node.order, node) for node in self.glue]
        gone: list[Node] = []
        replaced: list[Value] = []
        for _, item in sorted(work, key=lambda pair: pair[0]):
            if isinstance(item, Group):
                self._group(item, self.plan[item])
                gone += [self._twin(node) for node in item.nodes]
                replaced.append(item.output)
            else:
                self._between(item)
                gone.append(self._twin(item))
                replaced.append(item.output)
        self._release(replaced, gone)

    # Values

    def _twin(self, node: Node) -> Node:
        twin = self.mapping[node.output].producer
        assert twin is not None
        return twin

    def _quant(self, value: Value) -> Quantization:
        quant = self.shared.get(value, value.quant)
        if quant is None:
            raise LoweringError(f"{value!r} has no calibrated range", hint="run a calibrating pass before lowering")
        if quant.spec.dtype is not DType.INT8:
            name = quant.spec.dtype.name.lower()
            raise LoweringError(f"{value!r} is quantized to {name}, and the kernels take int8")
        return quant

    def _get(self, value: Value, form: str) -> Value:
        """``value`` of the model in ``form``, converted right behind where it arises, once."""
        there = self.forms.setdefault(value, {})
        if not there:
            there[FLOAT] = self.mapping[value]
        if form in there:
            return there[form]
        if form == FLOAT:
            if FLOAT_LAST in there:
                made = self._transposed(there[FLOAT_LAST], _FROM_LAST)
            elif INT8_LAST in there:
                made = self._edge("Dequantize", there[INT8_LAST], value, {"first": 1}, _FROM_LAST)
            else:
                made = self._edge("Dequantize", there[INT8], value, {})
        elif form == FLOAT_LAST:
            made = self._transposed(self._get(value, FLOAT), _TO_LAST)
        elif form == INT8:
            if INT8_LAST in there:
                made = self._transposed(there[INT8_LAST], _FROM_LAST)
            else:
                made = self._edge("Quantize", self._get(value, FLOAT), value, {})
        elif INT8 in there:
            made = self._transposed(there[INT8], _TO_LAST)
        elif FLOAT_LAST in there:
            made = self._edge("Quantize", there[FLOAT_LAST], value, {})
        else:
            made = self._edge("Quantize", self._get(value, FLOAT), value, {"last": 1}, _TO_LAST)
        if not made.name:
            made.name = f"{value.name}_{form}"
        made.quant = value.quant
        there[form] = made
        return made

    def _behind(self, source: Value, node: Node) -> Value:
        """``node`` put right behind what gives ``source``; its output."""
        self.graph.insert_after(source.producer, node)
        return node.output

    def _transposed(self, source: Value, axes: tuple[int, ...]) -> Value:
        node = Node("Transpose", [source], {"perm": axes}, name=f"{source.name}{EDGE}")
        shape = None if source.shape is None else tuple(source.shape[axis] for axis in axes)
        assert source.dtype is not None
        node.output.type = TensorType(source.dtype, shape)
        return self._behind(source, node)

    def _edge(
        self, op: str, source: Value, value: Value, attributes: dict[str, Any], axes: tuple[int, ...] | None = None
    ) -> Value:
        """``source``, which is ``value`` in another form, to integers or back, by its scale."""
        shape = source.shape if axes is None else _permuted(source.shape, axes)
        inputs = [source, *self._parameters(value)]
        name = f"{value.name}/{op.lower()}"
        return self._behind(source, kernel_node(self.copy, op, inputs, attributes, shape=shape, name=name))

    def _parameters(self, value: Value) -> tuple[Value, Value]:
        quant = self._quant(value)
        return (
            self._constant(quant.scale.reshape(()), f"{value.name}_scale"),
            self._constant(quant.zero_point.reshape(()), f"{value.name}_zero_point"),
        )

    def _constant(self, array: Array, name: str) -> Value:
        """A constant; equal small ones are one."""
        made = np.asarray(array, order="C")
        if made.nbytes > 64:
            return self.graph.add_constant(tensor(made), name)
        key = (made.dtype.str, made.shape, made.tobytes())
        if key not in self.held:
            self.held[key] = self.graph.add_constant(tensor(made), name)
        return self.held[key]

    # Groups

    def _group(self, group: Group, form: Form) -> None:
        chain = chain_of(group.anchor)
        pictures = group.anchor.is_op("Conv", "ConvTranspose")
        before = self._twin(group.nodes[-1])
        integer = group.output in self.integer
        epilogue: list[Value | None] = [None] * 6
        bias = None if group.bias is None or group.bias.constant is None else group.bias.constant.numpy()
        if form.stored is not None and form.stored.bias is not None:
            bias = form.stored.bias
        if bias is not None:
            epilogue[0] = self._constant(np.asarray(bias, np.float32).reshape(-1), f"{group.name}_bias")
        attributes: dict[str, Any] = {"activation": chain.activation, "low": chain.low, "high": chain.high}
        if chain.residual is not None:
            attributes["residual"] = chain.mode
            epilogue[1:4] = self._residual(chain.residual, pictures)
        if integer:
            epilogue[4:] = self._parameters(group.output)
        if pictures:
            node = self._picture(group, form, attributes, epilogue)
        elif form.kind == WEIGHTS:
            node = self._in_blocks(group, form, attributes, epilogue)
        elif form.kind == DYNAMIC:
            node = self._by_rows(group, form, attributes, epilogue)
        else:
            node = self._product(group, form, attributes, epilogue)
        made = node.output
        made.name = f"{group.output.name}_{'int8' if integer else 'kernel'}"
        made.quant = group.output.quant
        self.graph.insert_before(before, node)
        last = (INT8_LAST if integer else FLOAT_LAST) if pictures else (INT8 if integer else FLOAT)
        self.forms[group.output] = {last: made}

    def _residual(self, value: Value, pictures: bool) -> list[Value | None]:
        """What is added: in int8 where it arises in int8."""
        if {INT8, INT8_LAST} & set(list(self.forms.get(value, {}))[:1]):
            return [self._get(value, INT8_LAST if pictures else INT8), *self._parameters(value)]
        return [self._get(value, FLOAT_LAST if pictures else FLOAT), None, None]

    def _levels(self, group: Group, form: Form) -> tuple[Array, Array]:
        assert group.weight is not None and group.weight.constant is not None
        levels, scale, zero = form.levels(np.asarray(group.weight.constant.numpy(), np.float32))
        if levels.dtype != np.int8 or np.any(zero):
            raise LoweringError(f"weights of '{group.name}' are not symmetric int8, which the kernels take")
        return levels, scale

    def _picture(self, group: Group, form: Form, attributes: dict[str, Any], epilogue: list[Value | None]) -> Node:
        anchor = group.anchor
        levels, scale = self._levels(group, form)
        pads = explicit_pads(anchor)
        assert pads is not None
        parts = anchor.attr("group", 1)
        attributes |= {
            "strides": tuple(anchor.attr("strides", (1, 1))),
            "dilations": tuple(anchor.attr("dilations", (1, 1))),
            "pads": pads,
            "group": parts,
        }
        if anchor.is_op("ConvTranspose"):
            attributes["output_padding"] = tuple(anchor.attr("output_padding", (0, 0)))
            apart = levels.reshape(parts, levels.shape[0] // parts, *levels.shape[1:])
            apart = np.moveaxis(apart, 1, -1)  # [groups, filters, KH, KW, channels]
            levels = apart.reshape(-1, *apart.shape[2:])
            scale = np.tile(scale, parts)
        else:
            levels = np.moveaxis(levels, 1, -1)
        weights = self._weight(group, form, levels)
        data = group.data[0]
        inputs = [
            self._get(data, INT8_LAST), *self._parameters(data), weights,
            self._constant(scale, f"{group.weight.name if group.weight else ''}_scale"), *epilogue,
        ]  # fmt: skip
        kind = "Int8ConvTranspose" if anchor.is_op("ConvTranspose") else "Int8Conv"
        shape = _permuted(group.output.shape, _TO_LAST)
        return kernel_node(self.copy, kind, inputs, attributes, shape=shape, name=anchor.name)

    def _weight(self, group: Group, form: Form, levels: Array) -> Value:
        """The integers of a weight as a constant; groups that share a weight in one form share it too."""
        assert group.weight is not None
        key = (group.weight, group.weight_axis, form.weight, id(form.stored), levels.shape)
        if key not in self.held:
            name = f"{group.weight.name}_quantized"
            self.held[key] = self.graph.add_constant(tensor(np.ascontiguousarray(levels)), name)
        return self.held[key]

    def _matrix(self, group: Group, form: Form) -> tuple[Value, Value]:
        """Weights [N, K] and their scales."""
        levels, scale = self._levels(group, form)
        if not (group.anchor.is_op("Gemm") and group.anchor.attr("transB", 0)):
            levels = levels.T
        assert group.weight is not None
        return self._weight(group, form, levels), self._constant(scale, f"{group.weight.name}_scale")

    def _product(self, group: Group, form: Form, attributes: dict[str, Any], epilogue: list[Value | None]) -> Node:
        data = group.data[0]
        if group.weight is not None:
            weights, scale = self._matrix(group, form)
            other: list[Value | None] = [weights, scale, None]
        else:
            other = [self._get(group.data[1], INT8), *self._parameters(group.data[1])]
        inputs = [self._get(data, INT8), *self._parameters(data), *other, *epilogue]
        attributes["transB"] = int(group.weight is not None)
        shape = group.output.shape
        return kernel_node(self.copy, "Int8MatMul", inputs, attributes, shape=shape, name=group.anchor.name)

    def _by_rows(self, group: Group, form: Form, attributes: dict[str, Any], epilogue: list[Value | None]) -> Node:
        data, shape = group.data[0], group.output.shape
        options: dict[str, Any] = {"shape": shape, "name": group.anchor.name}
        clustered = clustered_of(group.anchor) if group.weight is None else None
        if clustered is not None:
            return self._by_codebook(group, clustered, attributes, epilogue, options)
        weights, scale = self._matrix(group, form)
        readers = [item for item in self.plan if item.data[:1] == (data,) and self.plan[item].kind == DYNAMIC]
        assert group.weight is not None and group.weight.constant is not None
        inner = group.weight.constant.size // group.weight.constant.shape[group.weight_axis]
        if len(readers) == 1 and inner <= _FUSED_INNER:
            inputs: list[Value | None] = [self._get(data, FLOAT), weights, scale, *epilogue]
            return kernel_node(self.copy, "DynamicMatMul", inputs, attributes, **options)
        inputs = [*self._quantized_rows(data), None, weights, scale, None, *epilogue]
        return kernel_node(self.copy, "Int8MatMul", inputs, attributes, **options)

    def _in_blocks(self, group: Group, form: Form, attributes: dict[str, Any], epilogue: list[Value | None]) -> Node:
        """Rows of integers by weights of 4 bits whose blocks have scales of their own."""
        assert group.weight is not None and group.weight.constant is not None
        levels, scale, _ = form.levels(np.asarray(group.weight.constant.numpy(), np.float32))
        around = 8 if form.weight.dtype is DType.INT4 else 0
        packed = pack_fields((levels.astype(np.int16) + around).astype(np.uint8).T, 4)
        inputs = [
            *self._quantized_rows(group.data[0]), self._constant(packed, f"{group.weight.name}_quantized"),
            self._constant(scale.T, f"{group.weight.name}_scale"), *epilogue,
        ]  # fmt: skip
        attributes["block"] = form.weight.block
        shape = group.output.shape
        return kernel_node(self.copy, "BlockMatMul", inputs, attributes, shape=shape, name=group.anchor.name)

    def _by_codebook(
        self,
        group: Group,
        clustered: Clustered,
        attributes: dict[str, Any],
        epilogue: list[Value | None],
        options: dict[str, Any],
    ) -> Node:
        """Rows of integers by indices that the kernel looks up; by the levels themselves where they are many."""
        rows, bits = self._quantized_rows(group.data[0]), clustered.bits
        scale = self._constant(clustered.scale, f"{group.name}_scale")
        if bits == 8:
            weights = self._constant(clustered.levels[clustered.indices], f"{group.name}_quantized")
            return kernel_node(
                self.copy, "Int8MatMul", [*rows, None, weights, scale, None, *epilogue], attributes, **options
            )
        book = np.zeros(1 << bits, np.int8)
        book[: len(clustered.levels)] = clustered.levels
        packed = self._constant(pack_fields(clustered.indices, bits), f"{group.name}_indices")
        inputs = [*rows, None, packed, self._constant(book, f"{group.name}_codebook"), scale, *epilogue]
        return kernel_node(self.copy, "CodebookMatMul", inputs, {**attributes, "bits": bits}, **options)

    def _quantized_rows(self, data: Value) -> tuple[Value, Value]:
        """``data`` in int8 with a scale for each row, once for all who read it."""
        if data not in self.rows:
            source = self._get(data, FLOAT)
            node = kernel_node(self.copy, "QuantizeRows", [source], {}, shape=source.shape, name=f"{data.name}/rows")
            levels, scales = node.outputs
            levels.name, scales.name = f"{data.name}_rows", f"{data.name}_row_scales"
            scales.type = TensorType(DType.FLOAT, None if source.shape is None else source.shape[:-1])
            self._behind(source, node)
            self.rows[data] = levels, scales
        return self.rows[data]

    # Between groups

    def _between(self, node: Node) -> None:
        """A node that runs on the integers of what it reads."""
        value, twin = node.output, self._twin(node)
        plain = node.is_op("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
        data = data_of(node)
        if plain:
            source = self._get(data[0], INT8)
            made = Node(node.op_type, [source, *twin.inputs[1:]], dict(twin.attrs), domain=twin.domain, name=node.name)
            made.output.type = TensorType(DType.INT8, value.shape)
        elif node.is_op(*_PICTURES):
            made = self._on_pictures(node, data)
        elif node.is_op("Softmax"):
            made = self._softmax(node, data[0])
        else:
            made = self._function(node, data[0])
        made.output.name = f"{value.name}_int8"
        self.graph.insert_before(twin, made)
        last = node.is_op(*_PICTURES) or (
            not plain and not node.is_op("Softmax") and INT8_LAST in self.forms.get(data[0], {})
        )
        self.forms[value] = {INT8_LAST if last else INT8: made.output}

    def _function(self, node: Node, data: Value) -> Node:
        """An activation by itself: a table."""
        found = activation(node)
        assert found is not None
        name, low, high = found
        one, two = self._quant(data), self._quant(node.output)
        table = table_of(name, one.scale, one.zero_point, two.scale, two.zero_point, low, high)
        form = INT8_LAST if INT8_LAST in self.forms.get(data, {}) else INT8
        source = self._get(data, form)
        inputs = [source, self._constant(table, f"{node.output.name}_table")]
        return kernel_node(self.copy, "Int8Lookup", inputs, {}, shape=source.shape, name=node.name)

    def _softmax(self, node: Node, data: Value) -> Node:
        source = self._get(data, INT8)
        inputs = [source, self._parameters(data)[0], *self._parameters(node.output)]
        return kernel_node(self.copy, "Int8Softmax", inputs, {}, shape=source.shape, name=node.name)

    def _on_pictures(self, node: Node, data: list[Value]) -> Node:
        sources = [self._get(value, INT8_LAST) for value in data]
        shape = _permuted(node.output.shape, _TO_LAST)
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
                    return kernel_node(self.copy, "Int8MaxPool", sources, attributes, **options)
                attributes["count_include_pad"] = node.attr("count_include_pad", 0)
                return self._averaged(node, sources[0], data[0], attributes, options)
            case "GlobalAveragePool":
                return self._averaged(node, sources[0], data[0], {}, options)
            case "Resize":
                factors = upsampling(node)
                return kernel_node(self.copy, "Int8Upsample", sources, {"factors": factors}, **options)
            case "Concat":
                return self._joined(node, sources, data, options)
        if node.output.shape != data[0].shape:
            sources, data = sources[::-1], data[::-1]
        inputs = [
            sources[0], *self._parameters(data[0]), sources[1], *self._parameters(data[1]),
            *self._parameters(node.output),
        ]  # fmt: skip
        return kernel_node(self.copy, f"Int8{node.op_type}", inputs, {}, **options)

    def _averaged(
        self, node: Node, source: Value, data: Value, attributes: dict[str, Any], options: dict[str, Any]
    ) -> Node:
        inputs = [source, *self._parameters(data), *self._parameters(node.output)]
        return kernel_node(self.copy, "Int8AveragePool", inputs, attributes, **options)

    def _joined(self, node: Node, sources: list[Value], data: list[Value], options: dict[str, Any]) -> Node:
        """Concat; of more parts than a kernel takes, the first ones are joined before."""
        axis = _TO_LAST.index(node.attr("axis") % 4)
        whole = self._parameters(node.output)
        parts: list[Value | None] = []
        count = 0
        for source, value in zip(sources, data, strict=True):
            if len(parts) == 3 * MOST_PARTS:
                head = kernel_node(self.copy, "Int8Concat", [*whole, *parts], {"axis": axis}, **options)
                first = parts[0]
                assert first is not None
                if head.output.shape == options["shape"]:  # some size is not known
                    head.output.type = TensorType(DType.INT8, (None,) * 4)
                count += 1
                head.name, head.output.name = f"{node.name}/part_{count}", f"{node.output.name}_part_{count}"
                self.graph.insert_before(self._twin(node), head)
                parts = [head.output, *whole]
            parts += [source, *self._parameters(value)]
        return kernel_node(self.copy, "Int8Concat", [*whole, *parts], {"axis": axis}, **options)

    # The old nodes

    def _release(self, replaced: list[Value], gone: list[Node]) -> None:
        """Let everybody else read the new values as floats, and take the old nodes out."""
        leaving = set(gone)
        for value in replaced:
            old = self.mapping[value]
            outside = [(user, place) for user, place in old.uses if user not in leaving]
            if not outside:
                continue
            new = self._get(value, FLOAT)
            if any(not isinstance(user, Node) for user, _ in outside):
                new.name, old.name = old.name, ""
                new.type, new.doc = old.type, old.doc
            for user, place in outside:
                if isinstance(user, Node):
                    user.set_input(place, new)
                else:
                    user.set_output(place, new)
        erase_dead(sorted(gone, key=lambda node: -node.order))


def _permuted(shape: Shape | None, axes: tuple[int, ...]) -> Shape | None:
    return None if shape is None else tuple(shape[axis] for axis in axes)
