"""From ``onnx.ModelProto`` to the IR.

Names become labels here: values are resolved by scope, so a name that is defined twice means its latest definition,
and a node that stands before the one it depends on is sorted behind it. Constant nodes become constants. What was
mended that way is told in ``Model.repairs``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from qcompiler.errors import ImportFailure
from qcompiler.ir import (
    Attr,
    AttrKind,
    ExternalTensor,
    Function,
    Graph,
    Model,
    Node,
    SparseTensor,
    Tensor,
    TensorType,
    Value,
)
from qcompiler.onnx_io.elements import constant_of, text, to_tensor, to_type
from qcompiler.onnx_io.exporter import to_proto
from qcompiler.onnx_io.reader import as_proto, check

__all__ = ["from_proto", "load"]

_CARRIED = ("training_info", "configuration")


def load(source: Any) -> Model:
    """The IR of a model: a path, bytes, ``onnx.ModelProto``, ``onnx_ir.Model``, PyTorch ``ONNXProgram``, graphsurgeon
    ``Graph``, or what an importer of another package reads.

    Its operator sets stay as they are. External data is mapped, not read. What is broken in a way that leaves its
    meaning clear is mended and told in ``repairs``. Raises ImportFailure for what is not a sound model.
    """
    proto, folder = as_proto(source)
    return from_proto(proto, folder)


def from_proto(proto: onnx.ModelProto, folder: Path | None = None) -> Model:
    """The IR of ``proto``; ``folder`` is where its external data lies. Raises ImportFailure."""
    importer = _Importer(folder)
    model = Model(importer.graph(proto.graph), _opsets(proto.opset_import))
    model.ir_version = proto.ir_version
    model.producer = (proto.producer_name, proto.producer_version)
    model.domain, model.version, model.doc = proto.domain, proto.model_version, proto.doc_string
    model.metadata = {item.key: item.value for item in proto.metadata_props}
    for function in proto.functions:
        made = _function(function, importer)
        model.functions[made.key] = made
    for field in _CARRIED:
        if len(getattr(proto, field, ())):
            model.carried[field] = [item.SerializeToString() for item in getattr(proto, field)]
    if model.ir_version < 4:
        # Before IR version 4 every initializer had to be listed among the inputs, and meant a constant all the same.
        for value in model.graph.inputs:
            if value.const is not None:
                model.graph.remove_input(value)
    model.repairs = importer.repairs
    if importer.unchecked:
        # The checker stopped at the first thing that can be mended; what it had to say of the rest it can say now.
        check(to_proto(model, store=_without_elements), "the model, mended,")
    return model


class _Scope:
    """The names of one graph: what is defined, what its nodes will define, and what was taken before that."""

    __slots__ = ("own", "promised", "values")

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        self.values: dict[str, Value] = {}
        self.own = {name for proto in nodes for name in proto.output if name}
        self.promised: set[str] = set()


class _Importer:
    """Turns graphs into IR. ``scopes`` are the graphs around the one in hand, outer before inner."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.scopes: list[_Scope] = []
        self.repairs: list[str] = []
        self.unchecked = False
        self.external: dict[tuple[Any, ...], Tensor] = {}

    def graph(self, proto: onnx.GraphProto) -> Graph:
        graph = Graph(proto.name)
        graph.doc = proto.doc_string
        graph.metadata = {item.key: item.value for item in proto.metadata_props}
        scope = _Scope(proto.node)
        values = scope.values
        self.scopes.append(scope)
        for info in proto.input:
            values[info.name] = graph.add_input(_described(Value(info.name), info))
        initializers = {item.name: item for item in proto.initializer}
        if len(initializers) < len(proto.initializer):
            twice = next(name for name, count in Counter(item.name for item in proto.initializer).items() if count > 1)
            self._mend(
                f"initializer '{twice}' of graph '{proto.name}' is there more than once: "
                "the last one counts, as in onnxruntime"
            )
        for item in initializers.values():
            self._constant(graph, scope, item.name, self.tensor(item))
        for sparse in proto.sparse_initializer:
            self._constant(graph, scope, sparse.values.name, self.sparse(sparse))
        self.nodes(graph, proto.node, {info.name: info for info in proto.value_info})
        for info in proto.output:
            value = self._find(info.name)
            if value is None:
                raise ImportFailure(f"output '{info.name}' of graph '{proto.name}' is not computed by any node")
            graph.add_output(_described(value, info))
        for note in proto.quantization_annotation:
            if note.tensor_name in values:
                for entry in note.quant_parameter_tensor_names:
                    values[note.tensor_name].metadata[f"onnx.quantization_annotation.{entry.key}"] = entry.value
        self.scopes.pop()
        return graph

    def nodes(self, graph: Graph, protos: Iterable[onnx.NodeProto], infos: dict[str, onnx.ValueInfoProto]) -> None:
        scope = self.scopes[-1]
        values, promised, late = scope.values, scope.promised, False
        for proto in protos:
            inputs: list[Value | None] = []
            for name in proto.input:
                if not name:
                    inputs.append(None)
                    continue
                value = self._find(name)
                if value is None:
                    raise ImportFailure(
                        f"node '{proto.name or proto.op_type}' takes '{name}', which nothing "
                        f"in graph '{graph.name}' or around it defines"
                    )
                inputs.append(value)
            attrs = {attribute.name: self.attribute(attribute) for attribute in proto.attribute}
            late = late or bool(promised)
            if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx"):
                made = constant_of(attrs)
                if made is not None:
                    self._constant(graph, scope, proto.output[0], made)
                    continue
            outputs = []
            for name in proto.output:
                value = values[name] if name in promised else Value(name)
                promised.discard(name)
                if name:
                    values[name] = value
                    if name in infos:
                        _described(value, infos[name])
                outputs.append(value)
            node = Node(proto.op_type, inputs, attrs, outputs=outputs, domain=proto.domain, name=proto.name,
                        overload=proto.overload)  # fmt: skip
            node.doc = proto.doc_string
            if proto.metadata_props:
                node.metadata = {item.key: item.value for item in proto.metadata_props}
            if proto.device_configurations:
                packed = onnx.NodeProto(device_configurations=proto.device_configurations).SerializeToString()
                node.metadata["onnx.device_configurations"] = packed.hex()
            graph.append(node)
        if late:
            try:
                graph.sort()
            except ValueError as error:
                raise ImportFailure(
                    f"graph '{graph.name}' cannot be put in order: {error}",
                    hint="a model that feeds back into itself has no meaning; cut the cycle where it was exported",
                ) from None
            self._mend(f"the nodes of graph '{graph.name}' stood before what they take and were put in order")
        named = Counter(node.name for node in graph if node.name)
        twice = [name for name, count in named.items() if count > 1]
        if twice:  # nobody refers to a node by name, so the meaning is clear
            self.repairs.append(
                f"nodes of graph '{graph.name}' shared a name, '{twice[0]}' for one, and got names of their own"
            )

    def _mend(self, what: str) -> None:
        """Note a repair of what made the checker stop."""
        self.repairs.append(what)
        self.unchecked = True

    def attribute(self, proto: onnx.AttributeProto) -> Attr:
        made = self._attribute(proto)
        return replace(made, doc=proto.doc_string) if proto.doc_string else made

    def _attribute(self, proto: onnx.AttributeProto) -> Attr:
        kind = AttrKind(proto.type)
        if proto.ref_attr_name:
            return Attr(kind, None, proto.ref_attr_name)
        if kind is AttrKind.INT:
            return Attr(kind, proto.i)
        if kind is AttrKind.INTS:
            return Attr(kind, tuple(proto.ints))
        if kind is AttrKind.FLOAT:
            return Attr(kind, proto.f)
        if kind is AttrKind.FLOATS:
            return Attr(kind, tuple(proto.floats))
        if kind is AttrKind.STRING:
            return Attr(kind, text(proto.s))
        if kind is AttrKind.STRINGS:
            return Attr(kind, tuple(text(item) for item in proto.strings))
        if kind is AttrKind.TENSOR:
            return Attr(kind, self.tensor(proto.t))
        if kind is AttrKind.TENSORS:
            return Attr(kind, tuple(self.tensor(item) for item in proto.tensors))
        if kind is AttrKind.GRAPH:
            return Attr(kind, self.graph(proto.g))
        if kind is AttrKind.GRAPHS:
            return Attr(kind, tuple(self.graph(item) for item in proto.graphs))
        if kind is AttrKind.SPARSE_TENSOR:
            return Attr(kind, self.sparse(proto.sparse_tensor))
        if kind is AttrKind.SPARSE_TENSORS:
            return Attr(kind, tuple(self.sparse(item) for item in proto.sparse_tensors))
        if kind is AttrKind.TYPE:
            return Attr(kind, to_type(proto.tp))
        if kind is AttrKind.TYPES:
            return Attr(kind, tuple(to_type(item) for item in proto.type_protos))
        raise ImportFailure(f"attribute '{proto.name}' has no type")

    def tensor(self, proto: onnx.TensorProto) -> Tensor:
        """What :func:`to_tensor` makes; entries that name the same place of the same file are one object."""
        made = to_tensor(proto, self.folder)
        if isinstance(made, ExternalTensor) and not made.metadata:
            return self.external.setdefault((made.path, made.offset, made.dtype, made.shape), made)
        return made

    def sparse(self, proto: onnx.SparseTensorProto) -> SparseTensor:
        values, indices = self.tensor(proto.values), self.tensor(proto.indices)
        return SparseTensor(values, indices, tuple(proto.dims), proto.values.name)

    def _constant(self, graph: Graph, scope: _Scope, name: str, data: Tensor | SparseTensor) -> None:
        value = scope.values.get(name)
        if value is None or (not value.is_input and name not in scope.promised):
            value = scope.values[name] = Value(name)
        scope.promised.discard(name)
        value.const = data
        if value.type is None:
            value.type = TensorType(data.dtype, data.shape, isinstance(data, SparseTensor))
        graph.add_constant(value)

    def _find(self, name: str) -> Value | None:
        """The innermost value of that name, promised by the graph in which a later node will define it."""
        for scope in reversed(self.scopes):
            if name in scope.values:
                return scope.values[name]
            if name in scope.own:
                scope.promised.add(name)
                scope.values[name] = value = Value(name)
                return value
        return None


def _function(proto: onnx.FunctionProto, importer: _Importer) -> Function:
    graph, scope = Graph(proto.name), _Scope(proto.node)
    importer.scopes.append(scope)
    for name in proto.input:
        scope.values[name] = graph.add_input(Value(name))
    importer.nodes(graph, proto.node, {info.name: info for info in proto.value_info})
    for name in proto.output:
        if name not in scope.values:
            raise ImportFailure(
                f"output '{name}' of function '{proto.domain}:{proto.name}' is not computed by any node"
            )
        graph.add_output(scope.values[name])
    importer.scopes.pop()
    function = Function(proto.domain, proto.name, graph, _opsets(proto.opset_import), proto.overload)
    function.attributes = list(proto.attribute)
    function.defaults = {item.name: importer.attribute(item) for item in proto.attribute_proto}
    function.doc = proto.doc_string
    function.metadata = {item.key: item.value for item in proto.metadata_props}
    return function


def _described(value: Value, info: onnx.ValueInfoProto) -> Value:
    found = to_type(info.type)
    if found is not None:
        value.type = found
    value.doc = info.doc_string
    for item in info.metadata_props:
        value.metadata[item.key] = item.value
    if info.type.denotation:
        value.metadata["onnx.denotation"] = info.type.denotation
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        if dim.denotation:
            value.metadata[f"onnx.denotation.{axis}"] = dim.denotation
    return value


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if item.domain == "ai.onnx" else item.domain: item.version for item in imports}


def _without_elements(tensor: Tensor, proto: onnx.TensorProto) -> bool:
    """Keeps weights out of a model that is only looked at: a tensor of no elements stands for each."""
    proto.dims[:] = [0] * len(tensor.shape)
    proto.raw_data = b""
    return True
