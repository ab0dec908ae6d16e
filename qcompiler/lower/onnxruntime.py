"""Target ``ort-cpu``: onnxruntime's CPU provider. Fast integer kernels take uint8 activations and int8 weights per
output channel, or uint8 weights where int8 products saturate; int8 activations are several times slower on x86."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Model, Node, QuantSpec, Value, clone_model
from qcompiler.lower.integer_products import emit_integer_products
from qcompiler.lower.ort_fusions import newer_operators, optimized_kinds
from qcompiler.lower.ort_legality import find_groups, glue_candidates, glue_nodes
from qcompiler.lower.ort_products import products_saturate
from qcompiler.lower.qdq import insert_qdq
from qcompiler.lower.target import DYNAMIC, STATIC, WEIGHTS, Group, Plan, Target
from qcompiler.lower.weight_only import emit_weight_only
from qcompiler.lower.widths import fast_multiples
from qcompiler.onnx_io import nested_graphs, upgrade_opset

__all__ = ["INTEGER_OPS", "SATURATES", "OptimizedNode", "OrtCpu", "optimized_nodes"]

INTEGER_OPS = frozenset(
    {
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
        "GatherBlockQuantized",
    }
)
"""What a quantized group looks like once onnxruntime has fused it."""

SATURATES = {"avx2": True, "avx512": True, "vnni": False, "amx": False, "arm64": False}
"""Processors by their 8-bit instructions, and whether their products of uint8 and int8 saturate in onnxruntime."""

_WIDE_SINCE = 21  # operator set in which QuantizeLinear gives 16 bits

_OWN = frozenset({"com.microsoft:Gelu", "com.microsoft:FastGelu", "com.microsoft:QuickGelu"})


@dataclass(frozen=True)
class OrtCpu(Target):
    """onnxruntime on the processor.

    ``saturates`` says that products of uint8 and int8 saturate there; None asks this machine.
    """

    saturates: bool | None = None

    name: ClassVar[str] = "ort-cpu"
    description: ClassVar[str] = "onnxruntime, CPU provider: uint8 activations, 8-bit weights per channel, Q/DQ"
    slow_fusions = frozenset({"SkipLayerNormalization"})

    @property
    def own_operators(self) -> frozenset[str]:
        """GELU and SiLU in one, and those of operator set 23 that this onnxruntime has."""
        return _OWN | newer_operators()

    def unavailable(self) -> str:
        """Never: onnxruntime is a base dependency."""
        return ""

    def optimized_kinds(self, model: Model) -> Mapping[str, int] | None:
        """As onnxruntime itself says."""
        return optimized_kinds(model)

    def fast_multiples(self, threads: int) -> Mapping[str, int]:
        """As measured on this machine, once."""
        return fast_multiples(threads)

    def activation_spec(self) -> QuantSpec:
        """Asymmetric uint8 per tensor."""
        return QuantSpec(DType.UINT8)

    def weight_spec(self, axis: int) -> QuantSpec:
        """Symmetric per output channel: int8, or uint8 around 128 where int8 products saturate."""
        saturates = products_saturate() if self.saturates is None else self.saturates
        return QuantSpec(DType.UINT8 if saturates else DType.INT8, symmetric=True, axis=axis)

    def groups(self, model: Model) -> tuple[list[Group], dict[Node, str]]:
        """Convolutions, MatMul and Gemm with constant weights; see :mod:`qcompiler.lower.ort_legality`."""
        return find_groups(model)

    def observed(self, model: Model, groups: Collection[Group]) -> list[Value]:
        """What groups read and give, and what may run in integers between them."""
        values: dict[Value, None] = {}
        for group in groups:
            values.update(dict.fromkeys((*group.data, group.output)))
        for node in glue_candidates(model):
            values[node.output] = None
        return [value for value in values if value.dtype is DType.FLOAT]

    def kinds(self, group: Group) -> frozenset[str]:
        """Tables of rows have only weights; convolutions have no dynamic form that would be worth it."""
        if group.anchor.is_op("Gather"):
            return frozenset({WEIGHTS})
        return frozenset({STATIC, WEIGHTS} if group.anchor.is_op("Conv") else {STATIC, DYNAMIC, WEIGHTS})

    def lower(self, model: Model, plan: Plan) -> Model:
        """Q/DQ pairs around static groups and around what may stay in integers between them; the rest as its own ops.

        A product by MatMul becomes onnxruntime's MatMulIntegerToFloat, bias included: written as Q/DQ its bias would
        be added by another pass over the output, and a shared input of several would not always be quantized once.
        """
        mapping: dict[Value, Value] = {}
        copy = clone_model(model, mapping)
        static = {group: form for group, form in plan.items() if form.kind == STATIC}
        active = {node for group in static for node in group.nodes}
        outputs = {group.output for group in static if group.requantizes}
        ranges = [value.quant for group in static for value in group.data if value.quant is not None]
        wide = any(quant.spec.dtype.bits > 8 for quant in ranges)
        if wide and (reason := upgrade_opset(copy, _WIDE_SINCE)):
            raise LoweringError(f"activations in 16 bits need operator set {_WIDE_SINCE}: {reason}")
        insert_qdq(copy, mapping, static, glue_nodes(model, active, outputs), self)
        emit_integer_products(copy, mapping, plan)
        emit_weight_only(copy, mapping, plan)
        return copy


@dataclass(frozen=True)
class OptimizedNode:
    """A node of the graph that onnxruntime runs."""

    name: str
    op_type: str
    inputs: tuple[str, ...]


def optimized_nodes(path: Path) -> list[OptimizedNode]:
    """The nodes that onnxruntime wrote to ``path`` when it loaded a model, those of subgraphs behind the others."""
    proto = onnx.load(str(path), load_external_data=False)
    nodes = (node for graph in nested_graphs(proto.graph) for node in graph.node)
    return [OptimizedNode(node.name, node.op_type, tuple(node.input)) for node in nodes]
