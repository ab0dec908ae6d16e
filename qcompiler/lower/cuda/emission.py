"""A quantized model written with kernels: int8 in NHWC between convolutions, other forms only at the edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Model, Node, TensorType, Value
from qcompiler.kernels import BLOCKS, pack_fields
from qcompiler.lower.cuda.between import emit_between
from qcompiler.lower.cuda.clustered import Clustered, clustered_of
from qcompiler.lower.cuda.epilogues import chain_of
from qcompiler.lower.cuda.forms import FLOAT, FLOAT_LAST, INT8, INT8_LAST, TO_LAST, Forms, permuted
from qcompiler.lower.cuda.legality import data_of, explicit_pads
from qcompiler.lower.cuda.nodes import kernel_node
from qcompiler.lower.target import DYNAMIC, STATIC, WEIGHTS, Form, Group, Plan
from qcompiler.rewrite import erase_dead

__all__ = ["emit_kernels", "is_kernel"]

Array = np.ndarray[Any, np.dtype[Any]]

_FUSED_INNER = 512  # inner sizes up to which rows are quantized inside the product that reads them


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
        and spec.block in BLOCKS
    )


class _Emitter:
    def __init__(self, copy: Model, mapping: Mapping[Value, Value], plan: Plan, glue: Collection[Node]) -> None:
        self.copy, self.graph, self.mapping = copy, copy.graph, mapping
        self.plan = {group: form for group, form in plan.items() if is_kernel(group, form)}
        self.glue = list(glue)
        self.forms = Forms(copy, mapping, self.glue)
        self.rows: dict[Value, tuple[Value, Value]] = {}
        static = [group for group, form in self.plan.items() if form.kind == STATIC]
        self.integer = {value for group in static for value in group.data}
        self.integer |= {value for node in self.glue for value in (*data_of(node), node.output)}
        self.readers = Counter(group.data[0] for group, form in self.plan.items() if form.kind == DYNAMIC)

    def run(self) -> None:
        work: list[tuple[int, Group | Node]] = [(group.nodes[-1].order, group) for group in self.plan]
        work += [(node.order, node) for node in self.glue]
        gone: list[Node] = []
        replaced: list[Value] = []
        for _, item in sorted(work, key=lambda pair: pair[0]):
            if isinstance(item, Group):
                self._group(item, self.plan[item])
            else:
                emit_between(self.forms, item)
            gone += [self.forms.twin(node) for node in (item.nodes if isinstance(item, Group) else (item,))]
            replaced.append(item.output)
        self._release(replaced, gone)

    def _group(self, group: Group, form: Form) -> None:
        chain = chain_of(group.anchor)
        pictures = group.anchor.is_op("Conv", "ConvTranspose")
        before = self.forms.twin(group.nodes[-1])
        integer = group.output in self.integer
        epilogue: list[Value | None] = [None] * 6
        bias = None if group.bias is None or group.bias.constant is None else group.bias.constant.numpy()
        if form.stored is not None and form.stored.bias is not None:
            bias = form.stored.bias
        if bias is not None:
            epilogue[0] = self.forms.constant(np.asarray(bias, np.float32).reshape(-1), f"{group.name}_bias")
        attributes: dict[str, Any] = {"activation": chain.activation, "low": chain.low, "high": chain.high}
        if chain.residual is not None:
            attributes["residual"] = chain.mode
            epilogue[1:4] = self._residual(chain.residual, pictures)
        if integer:
            epilogue[4:] = self.forms.parameters(group.output)
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
        self.graph.insert_before(before, node)
        form_of_it = (INT8_LAST if integer else FLOAT_LAST) if pictures else (INT8 if integer else FLOAT)
        self.forms.arises(group.output, form_of_it, made)

    def _residual(self, value: Value, pictures: bool) -> list[Value | None]:
        """What is added: in int8 where it arises in int8."""
        if self.forms.arises_in_int8(value):
            return [self.forms.get(value, INT8_LAST if pictures else INT8), *self.forms.parameters(value)]
        return [self.forms.get(value, FLOAT_LAST if pictures else FLOAT), None, None]

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
            self.forms.get(data, INT8_LAST), *self.forms.parameters(data), weights,
            self.forms.constant(scale, f"{group.weight.name if group.weight else ''}_scale"), *epilogue,
        ]  # fmt: skip
        kind = "Int8ConvTranspose" if anchor.is_op("ConvTranspose") else "Int8Conv"
        shape = permuted(group.output.shape, TO_LAST)
        return kernel_node(self.copy, kind, inputs, attributes, shape=shape, name=anchor.name)

    def _weight(self, group: Group, form: Form, levels: Array) -> Value:
        """The integers of a weight as a constant; groups that share a weight in one form share it too."""
        assert group.weight is not None
        key = (group.weight, group.weight_axis, form.weight, id(form.stored), levels.shape)
        return self.forms.shared_constant(key, levels, f"{group.weight.name}_quantized")

    def _matrix(self, group: Group, form: Form) -> tuple[Value, Value]:
        """Weights [N, K] and their scales."""
        levels, scale = self._levels(group, form)
        if not (group.anchor.is_op("Gemm") and group.anchor.attr("transB", 0)):
            levels = levels.T
        assert group.weight is not None
        return self._weight(group, form, levels), self.forms.constant(scale, f"{group.weight.name}_scale")

    def _product(self, group: Group, form: Form, attributes: dict[str, Any], epilogue: list[Value | None]) -> Node:
        data = group.data[0]
        if group.weight is not None:
            weights, scale = self._matrix(group, form)
            other: list[Value | None] = [weights, scale, None]
        else:
            other = [self.forms.get(group.data[1], INT8), *self.forms.parameters(group.data[1])]
        inputs = [self.forms.get(data, INT8), *self.forms.parameters(data), *other, *epilogue]
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
        assert group.weight is not None and group.weight.constant is not None
        inner = group.weight.constant.size // group.weight.constant.shape[group.weight_axis]
        if self.readers[data] == 1 and inner <= _FUSED_INNER:
            inputs: list[Value | None] = [self.forms.get(data, FLOAT), weights, scale, *epilogue]
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
            *self._quantized_rows(group.data[0]), self.forms.constant(packed, f"{group.weight.name}_quantized"),
            self.forms.constant(scale.T, f"{group.weight.name}_scale"), *epilogue,
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
        scale = self.forms.constant(clustered.scale, f"{group.name}_scale")
        if bits == 8:
            weights = self.forms.constant(clustered.levels[clustered.indices], f"{group.name}_quantized")
            return kernel_node(
                self.copy, "Int8MatMul", [*rows, None, weights, scale, None, *epilogue], attributes, **options
            )
        book = np.zeros(1 << bits, np.int8)
        book[: len(clustered.levels)] = clustered.levels
        packed = self.forms.constant(pack_fields(clustered.indices, bits), f"{group.name}_indices")
        inputs = [*rows, None, packed, self.forms.constant(book, f"{group.name}_codebook"), scale, *epilogue]
        return kernel_node(self.copy, "CodebookMatMul", inputs, {**attributes, "bits": bits}, **options)

    def _quantized_rows(self, data: Value) -> tuple[Value, Value]:
        """``data`` in int8 with a scale for each row, once for all who read it."""
        if data not in self.rows:
            source = self.forms.get(data, FLOAT)
            node = kernel_node(self.copy, "QuantizeRows", [source], {}, shape=source.shape, name=f"{data.name}/rows")
            levels, scales = node.outputs
            levels.name, scales.name = f"{data.name}_rows", f"{data.name}_row_scales"
            scales.type = TensorType(DType.FLOAT, None if source.shape is None else source.shape[:-1])
            self.forms.behind(source, node)
            self.rows[data] = levels, scales
        return self.rows[data]

    def _release(self, replaced: list[Value], gone: list[Node]) -> None:
        """Let everybody else read the new values as floats, and take the old nodes out."""
        leaving = set(gone)
        for value in replaced:
            old = self.mapping[value]
            outside = [(user, place) for user, place in old.uses if user not in leaving]
            if not outside:
                continue
            new = self.forms.get(value, FLOAT)
            if any(not isinstance(user, Node) for user, _ in outside):
                new.name, old.name = old.name, ""
                new.type, new.doc = old.type, old.doc
            for user, place in outside:
                if isinstance(user, Node):
                    user.set_input(place, new)
                else:
                    user.set_output(place, new)
        erase_dead(sorted(gone, key=lambda node: -node.order))
