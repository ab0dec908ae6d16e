"""From the IR to ``onnx.ModelProto``. Names are made unique here, inputs and outputs keep theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import onnx

from qcompiler.dtypes import DType
from qcompiler.ir import (
    Attr,
    AttrKind,
    Function,
    Graph,
    MapType,
    Model,
    Node,
    OptionalType,
    SequenceType,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    Value,
)
from qcompiler.ops import info

__all__ = ["Store", "from_tensor", "from_type", "to_proto"]

Store = Callable[[Tensor, onnx.TensorProto], bool]
"""Puts a tensor's elements elsewhere (external data) and says True, or says False to have them inline."""

_FIELDS = {
    AttrKind.FLOAT: "f",
    AttrKind.INT: "i",
    AttrKind.FLOATS: "floats",
    AttrKind.INTS: "ints",
}


def to_proto(model: Model, *, store: Store | None = None, names: dict[Value, str] | None = None) -> onnx.ModelProto:
    """``model`` as protobuf.

    ``store`` may take tensors out of it. ``names`` is filled with the name that each value of the main graph and
    its subgraphs was given.
    """
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    producer, release = model.producer
    _fill(proto, producer_name=producer, producer_version=release)
    _fill(proto, domain=model.domain, model_version=model.version, doc_string=model.doc)
    for domain, version in model.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    _properties(proto.metadata_props, model.metadata)
    _Exporter(store, {} if names is None else names, model.opsets).graph(model.graph, proto.graph)
    for function in model.functions.values():
        _function(function, proto.functions.add())
    for field, items in model.carried.items():
        for item in items:
            getattr(proto, field).add().ParseFromString(item)
    return proto


class _Exporter:
    """One namespace: a graph and everything nested in it, or a function's body."""

    def __init__(self, store: Store | None, names: dict[Value, str], opsets: dict[str, int]) -> None:
        self.store = store
        self.names = names
        self.opsets = opsets
        self.taken: set[str] = set(names.values())
        self.node_names: set[str] = set()  # onnxruntime refuses a graph in which two nodes bear one name

    def reserve(self, values: Iterable[Value]) -> None:
        """Names that the outside knows are given out first."""
        for value in values:
            self.name(value)

    def name(self, value: Value | None) -> str:
        if value is None:
            return ""
        found = self.names.get(value)
        if found is None:
            found = value.name
            if not found or found in self.taken:
                kind = value.producer.op_type if value.producer else "const"
                found = _unlike(found or f"{kind}_{len(self.names)}", self.taken)
            self.names[value] = found
            self.taken.add(found)
        return found

    def left_out(self, value: Value) -> bool:
        """True for an output that nobody asks for, where its operator can do without or is not known to us."""
        node = value.producer
        if value.name or value.uses or node is None:
            return False
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            return True
        formal = schema.outputs[min(value.index, len(schema.outputs) - 1)]
        return bool(formal.option == onnx.defs.OpSchema.FormalParameterOption.Optional)

    def graph(self, graph: Graph, proto: onnx.GraphProto) -> None:
        _fill(proto, name=graph.name or "graph", doc_string=graph.doc)
        _properties(proto.metadata_props, graph.metadata)
        self.reserve(graph.inputs)
        self.reserve(value for value in graph.outputs if value.producer is not None or value.graph is graph)
        for value in graph.inputs:
            self._info(value, proto.input.add())
        given = set(graph.outputs) if graph.owner is not None else set()
        for value in graph.constants:
            if value in given:
                self._constant_node(value, proto)  # not every runtime takes a subgraph's initializer for its output
            elif isinstance(value.const, SparseTensor):
                _sparse(value.const, proto.sparse_initializer.add(), self.name(value))
            elif value.const is not None:
                from_tensor(value.const, proto.initializer.add(), self.name(value), self.store)
        outputs = set(graph.outputs)
        for node in graph:
            self.node(node, proto.node.add())
            for value in node.outputs:
                if value.type is not None and value not in outputs and (value.uses or value.name):
                    self._info(value, proto.value_info.add())
        for value in graph.outputs:
            self._info(value, proto.output.add())
        for value in (*graph.inputs, *graph.constants, *(v for node in graph for v in node.outputs)):
            if value not in graph.constants or not value.is_input:
                self._annotate(value, proto)

    def node(self, node: Node, proto: onnx.NodeProto) -> None:
        proto.op_type = node.op_type
        _fill(proto, domain=node.domain, overload=node.overload, doc_string=node.doc)
        if node.name:
            proto.name = _unlike(node.name, self.node_names)
            self.node_names.add(proto.name)
        proto.input.extend([self.name(value) for value in node.inputs])
        proto.output.extend(["" if self.left_out(value) else self.name(value) for value in node.outputs])
        while info(node) is not None and len(proto.output) > 1 and not proto.output[-1]:
            proto.output.pop()
        for name, attr in node.attrs.items():
            self.attribute(name, attr, proto.attribute.add())
        for key, text in node.metadata.items():
            if key == "onnx.device_configurations":
                proto.MergeFromString(bytes.fromhex(text))
            else:
                proto.metadata_props.add(key=key, value=text)

    def attribute(self, name: str, attr: Attr, proto: onnx.AttributeProto) -> None:
        _fill(proto, name=name, doc_string=attr.doc)
        proto.type = int(attr.kind)  # type: ignore[assignment]
        kind = attr.kind
        if attr.ref:
            proto.ref_attr_name = attr.ref
        elif kind in (AttrKind.INT, AttrKind.FLOAT):
            setattr(proto, _FIELDS[kind], attr.value)
        elif kind in (AttrKind.INTS, AttrKind.FLOATS):
            getattr(proto, _FIELDS[kind]).extend(attr.value)
        elif kind is AttrKind.STRING:
            proto.s = _bytes(attr.value)
        elif kind is AttrKind.STRINGS:
            proto.strings.extend([_bytes(item) for item in attr.value])
        elif kind is AttrKind.TENSOR:
            from_tensor(attr.value, proto.t, attr.value.name, None)
        elif kind is AttrKind.TENSORS:
            for item in attr.value:
                from_tensor(item, proto.tensors.add(), item.name, None)
        elif kind is AttrKind.GRAPH:
            self.graph(attr.value, proto.g)
        elif kind is AttrKind.GRAPHS:
            for item in attr.value:
                self.graph(item, proto.graphs.add())
        elif kind is AttrKind.SPARSE_TENSOR:
            _sparse(attr.value, proto.sparse_tensor, attr.value.name)
        elif kind is AttrKind.SPARSE_TENSORS:
            for item in attr.value:
                _sparse(item, proto.sparse_tensors.add(), item.name)
        elif kind is AttrKind.TYPE:
            proto.tp.SetInParent()
            from_type(attr.value, proto.tp)
        elif kind is AttrKind.TYPES:
            for item in attr.value:
                from_type(item, proto.type_protos.add())

    def _constant_node(self, value: Value, proto: onnx.GraphProto) -> None:
        node = proto.node.add(op_type="Constant", output=[self.name(value)])
        if isinstance(value.const, SparseTensor):
            attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
            _sparse(value.const, attribute.sparse_tensor, value.const.name)
        elif value.const is not None:
            attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
            from_tensor(value.const, attribute.t, value.const.name, None)

    def _info(self, value: Value, proto: onnx.ValueInfoProto) -> None:
        proto.name = self.name(value)
        if value.type is not None:
            from_type(value.type, proto.type)
        self._denote(value, proto.type)
        _fill(proto, doc_string=value.doc)
        _properties(proto.metadata_props, {k: v for k, v in value.metadata.items() if not k.startswith("onnx.")})

    def _denote(self, value: Value, proto: onnx.TypeProto) -> None:
        """What the type and its axes stand for, where the type still has them."""
        for key, text in value.metadata.items():
            name, _, axis = key.removeprefix("onnx.").partition(".")
            if name == "denotation" and not axis:
                proto.denotation = text
            elif name == "denotation" and int(axis) < len(proto.tensor_type.shape.dim):
                proto.tensor_type.shape.dim[int(axis)].denotation = text

    def _annotate(self, value: Value, proto: onnx.GraphProto) -> None:
        prefix = "onnx.quantization_annotation."
        entries = [(key[len(prefix) :], text) for key, text in value.metadata.items() if key.startswith(prefix)]
        if entries:
            note = proto.quantization_annotation.add(tensor_name=self.name(value))
            for key, text in entries:
                note.quant_parameter_tensor_names.add(key=key, value=text)


def _unlike(stem: str, taken: set[str]) -> str:
    """``stem``, with a number behind it where it is taken."""
    found, count = stem, 0
    while found in taken:
        count += 1
        found = f"{stem}_{count}"
    return found


def _function(function: Function, proto: onnx.FunctionProto) -> None:
    exporter = _Exporter(None, {}, function.opsets)
    _fill(proto, name=function.name, domain=function.domain, overload=function.overload, doc_string=function.doc)
    graph = function.graph
    exporter.reserve((*graph.inputs, *graph.outputs))
    proto.input.extend([exporter.name(value) for value in graph.inputs])
    proto.output.extend([exporter.name(value) for value in graph.outputs])
    proto.attribute.extend(function.attributes)
    for name, attr in function.defaults.items():
        exporter.attribute(name, attr, proto.attribute_proto.add())
    for domain, version in function.opsets.items():
        proto.opset_import.add(domain=domain, version=version)
    holder = onnx.GraphProto()
    for value in graph.constants:
        exporter._constant_node(value, holder)  # a function's body has no initializers
    proto.node.extend(holder.node)
    for node in graph:
        exporter.node(node, proto.node.add())
    for value in (v for node in graph for v in node.outputs):
        if value.type is not None and (value.uses or value.name):
            exporter._info(value, proto.value_info.add())
    _properties(proto.metadata_props, function.metadata)


def from_tensor(tensor: Tensor, proto: onnx.TensorProto, name: str, store: Store | None) -> None:
    """Write ``tensor`` into ``proto`` as ``name``, elements inline unless ``store`` takes them."""
    proto.data_type = int(tensor.dtype)
    proto.dims.extend(tensor.shape)
    _fill(proto, name=name, doc_string=tensor.metadata.get("onnx.doc", ""))
    _properties(proto.metadata_props, {k: v for k, v in tensor.metadata.items() if not k.startswith("onnx.")})
    if tensor.dtype is DType.STRING:
        proto.string_data.extend([_bytes(item) for item in tensor.numpy().reshape(-1)])
    elif store is None or not store(tensor, proto):
        proto.raw_data = bytes(tensor.data())


def from_type(type: Type | None, proto: onnx.TypeProto) -> None:
    """Write ``type`` into ``proto``; what is unknown says nothing."""
    if type is None:
        return
    if isinstance(type, TensorType):
        held = proto.sparse_tensor_type if type.sparse else proto.tensor_type
        held.elem_type = int(type.dtype) if type.dtype is not None else 0
        if type.shape is not None:
            held.shape.SetInParent()
            for dim in type.shape:
                entry = held.shape.dim.add()
                if isinstance(dim, int):
                    entry.dim_value = dim
                elif dim is not None:
                    entry.dim_param = dim
    elif isinstance(type, SequenceType):
        proto.sequence_type.elem_type.SetInParent()
        if type.element is not None:
            from_type(type.element, proto.sequence_type.elem_type)
    elif isinstance(type, OptionalType):
        proto.optional_type.elem_type.SetInParent()
        if type.element is not None:
            from_type(type.element, proto.optional_type.elem_type)
    elif isinstance(type, MapType):
        proto.map_type.key_type = int(type.key)
        if type.value is not None:
            from_type(type.value, proto.map_type.value_type)
    else:
        proto.opaque_type.domain, proto.opaque_type.name = type.domain, type.name


def _sparse(value: SparseTensor, proto: onnx.SparseTensorProto, name: str) -> None:
    from_tensor(value.values, proto.values, name, None)  # always inline: onnx checks the indices where they stand
    from_tensor(value.indices, proto.indices, value.indices.name, None)
    proto.dims.extend(value.shape)


def _fill(proto: Any, **fields: str | int) -> None:
    """Set what there is to say; a field that is set to nothing would still be written."""
    for name, content in fields.items():
        if content:
            setattr(proto, name, content)


def _properties(target: Any, metadata: dict[str, str]) -> None:
    for key, text in metadata.items():
        target.add(key=key, value=text)


def _bytes(item: str | bytes) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()
