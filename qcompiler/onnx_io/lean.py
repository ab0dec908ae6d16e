"""Models that go over a wire many times: what both sides know already is named instead of sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Tensor
from qcompiler.onnx_io.exporter import to_proto

__all__ = ["from_lean", "known_constants", "to_lean"]

_WORTH = 1024  # bytes from which on a tensor is named

Known = Mapping[int, int]
"""Of tensors, by identity, the number under which the other side knows them."""


def known_constants(model: Model) -> tuple[list[bytes], Known]:
    """The elements of the larger constants of ``model``, each once, and which number each has."""
    elements: list[bytes] = []
    numbers: dict[int, int] = {}
    for graph in model.graph.all_graphs():  # those of functions are written whole
        for value in graph.constants:
            tensor = value.const
            if isinstance(tensor, Tensor) and _counts(tensor) and id(tensor) not in numbers:
                numbers[id(tensor)] = len(elements)
                elements.append(bytes(tensor.data()))
    return elements, numbers


def to_lean(model: Model, known: Known) -> bytes:
    """``model`` as protobuf in which tensors that are ``known`` are numbers. It has to fit into one protobuf."""

    def named(tensor: Tensor, proto: onnx.TensorProto) -> bool:
        number = known.get(id(tensor))
        if number is None:
            return False
        proto.data_location = onnx.TensorProto.EXTERNAL
        proto.external_data.add(key="location", value=str(number))
        return True

    written: bytes = to_proto(model, store=named).SerializeToString()
    return written


def from_lean(lean: bytes, elements: Sequence[bytes]) -> onnx.ModelProto:
    """The whole model again."""
    proto = onnx.ModelProto()
    proto.ParseFromString(lean)
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = elements[int(tensor.external_data[0].value)]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return proto


def _counts(tensor: Tensor) -> bool:
    return tensor.nbytes > _WORTH and tensor.dtype is not DType.STRING


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
