"""Types and shapes by onnx's own inference, and models without their weights, which it has no use for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import onnx

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Tensor, TensorType, Value
from qcompiler.onnx_io.elements import to_type
from qcompiler.onnx_io.exporter import from_type, to_proto

__all__ = ["infer_types", "nested_graphs", "without_weights"]

_READ = 1024  # bytes; larger constants are no shapes, and inference has no use for their elements


def infer_types(model: Model) -> int:
    """Fill in or sharpen the types of the values of ``model``; how many changed.

    Model inputs and outputs keep the types that they were declared with. Where inference fails nothing changes.
    """
    names: dict[Value, str] = {}
    proto = without_weights(model, names)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # a model beyond what inference understands is still a model
        return 0
    found: dict[str, onnx.TypeProto] = {}
    for graph in nested_graphs(inferred.graph):
        for info in (*graph.value_info, *graph.output):
            found[info.name] = info.type
    fixed = {*model.graph.inputs, *model.graph.outputs}
    changed = 0
    for value, name in names.items():
        if name in found and value not in fixed and value.const is None:
            made = to_type(found[name])
            if made is not None and made != value.type:
                value.type = made
                for node in (value.producer, *value.users()):
                    if node is not None:
                        node.touch()
                changed += 1
    return changed


def without_weights(model: Model, names: dict[Value, str] | None = None) -> onnx.ModelProto:
    """``model`` as protobuf in which inputs of the same type stand for all constants above a kilobyte.

    ``names`` is filled as by :func:`qcompiler.onnx_io.exporter.to_proto`.
    """
    heavy: list[tuple[str, Tensor]] = []

    def keep_out(tensor: Tensor, proto: onnx.TensorProto) -> bool:
        if tensor.nbytes <= _READ or tensor.dtype is DType.STRING:
            return False
        heavy.append((proto.name, tensor))
        return True

    proto = to_proto(model, store=keep_out, names=names)
    dropped = {name for name, _ in heavy}
    _without(proto.graph, dropped)
    declared = {info.name for info in proto.graph.input}
    for name, tensor in heavy:
        if name not in declared:
            info = proto.graph.input.add(name=name)
            from_type(TensorType(tensor.dtype, tensor.shape), info.type)
    return proto


def _without(graph: onnx.GraphProto, dropped: set[str]) -> None:
    """Take the tensors that were kept out off the initializers; they come back as inputs of a known type."""
    for each in nested_graphs(graph):
        kept = [item for item in each.initializer if item.name not in dropped]
        if len(kept) < len(each.initializer):
            del each.initializer[:]
            each.initializer.extend(kept)


def nested_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """``graph`` and all within it, outer ones first."""
    graphs = deque([graph])
    while graphs:
        current = graphs.popleft()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                graphs.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
