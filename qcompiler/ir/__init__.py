"""The intermediate representation: small, framework-agnostic, one write path."""

from qcompiler.ir.attributes import Attr, AttrKind, as_attr
from qcompiler.ir.clone import clone_graph, clone_model, clone_node
from qcompiler.ir.equivalence import difference, graph_difference
from qcompiler.ir.graph import Clock, Graph, Node, Value, dependencies
from qcompiler.ir.model import Function, Model
from qcompiler.ir.quant import Quantization, QuantSpec, affine_parameters, integer_range, quantize, quantize_weight
from qcompiler.ir.spilled import SpilledTensor, spilled
from qcompiler.ir.tensor import ArrayTensor, ExternalTensor, LazyTensor, PackedTensor, SparseTensor, Tensor, tensor
from qcompiler.ir.text import format_graph, format_model, format_node, format_type
from qcompiler.ir.types import Dim, MapType, OpaqueType, OptionalType, SequenceType, Shape, TensorType, Type
from qcompiler.ir.verify import surroundings, verify

__all__ = [
    "ArrayTensor",
    "Attr",
    "AttrKind",
    "Clock",
    "Dim",
    "ExternalTensor",
    "Function",
    "Graph",
    "LazyTensor",
    "MapType",
    "Model",
    "Node",
    "OpaqueType",
    "OptionalType",
    "PackedTensor",
    "QuantSpec",
    "Quantization",
    "SequenceType",
    "Shape",
    "SparseTensor",
    "SpilledTensor",
    "Tensor",
    "TensorType",
    "Type",
    "Value",
    "affine_parameters",
    "as_attr",
    "clone_graph",
    "clone_model",
    "clone_node",
    "dependencies",
    "difference",
    "format_graph",
    "format_model",
    "format_node",
    "format_type",
    "graph_difference",
    "integer_range",
    "quantize",
    "quantize_weight",
    "spilled",
    "surroundings",
    "tensor",
    "verify",
]
