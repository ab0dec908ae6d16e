"""Nothing is dropped in silence: every field that onnx's messages have goes in and comes out, to the letter."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from google.protobuf.message import Message
from onnx import numpy_helper

from qcompiler.dtypes import DType
from qcompiler.ir import (
    Graph,
    MapType,
    Model,
    OpaqueType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    Value,
    clone_model,
)
from qcompiler.onnx_io import from_proto, to_proto

EVERYTHING = """
ir_version: 11 producer_name: "p" producer_version: "1" domain: "d" model_version: 3 doc_string: "model"
opset_import { domain: "" version: 20 } opset_import { domain: "t" version: 1 }
metadata_props { key: "k" value: "v" }
training_info { algorithm { name: "a" } update_binding { key: "w" value: "y" } }
configuration { name: "c" num_devices: 2 device: ["a", "b"] }
functions {
  name: "F" domain: "t" overload: "o" doc_string: "function" input: "p" output: "q" attribute: "n"
  attribute_proto { name: "m" type: INT i: 4 doc_string: "default" }
  opset_import { domain: "" version: 20 } metadata_props { key: "f" value: "g" }
  node { op_type: "Softmax" input: "p" output: "r"
         attribute { name: "axis" type: INT ref_attr_name: "n" } }
  node { op_type: "Relu" input: "r" output: "q" }
  value_info { name: "r" type { tensor_type { elem_type: 1 } } }
}
graph {
  name: "g" doc_string: "graph" metadata_props { key: "g" value: "h" }
  input { name: "x" doc_string: "an input" metadata_props { key: "x" value: "y" }
          type { denotation: "IMAGE" tensor_type { elem_type: 1 shape {
            dim { dim_value: 1 denotation: "DATA_BATCH" } dim { dim_param: "H" } dim {} } } } }
  input { name: "s" type { sequence_type { elem_type { map_type { key_type: 7 value_type {
            optional_type { elem_type { sparse_tensor_type { elem_type: 1 shape { dim { dim_value: 2 } } } } } } } } } } }
  input { name: "z" type { opaque_type { domain: "o" name: "n" } } }
  output { name: "y" doc_string: "an output" type { tensor_type { elem_type: 1 } } }
  initializer { name: "w" data_type: 1 dims: 2 raw_data: "\\001\\002\\003\\004\\005\\006\\007\\010" doc_string: "weights"
                metadata_props { key: "w" value: "v" } }
  initializer { name: "names" data_type: 8 dims: 2 string_data: "a" string_data: "\\377" }
  sparse_initializer { dims: 9 values { name: "sp" data_type: 1 dims: 1 raw_data: "\\000\\000\\000\\000" }
                       indices { data_type: 7 dims: 1 raw_data: "\\001\\000\\000\\000\\000\\000\\000\\000" } }
  node { op_type: "Foo" domain: "t" overload: "o" name: "foo" doc_string: "node" input: "x" input: "" input: "w"
         input: "names" input: "sp" output: "a" output: "" output: "b" metadata_props { key: "n" value: "o" }
         device_configurations { configuration_id: "c" pipeline_stage: 1
           sharding_spec { tensor_name: "a" device: 0 sharded_dim { axis: 0 simple_sharding { dim_value: 2 num_shards: 2 } } } }
         attribute { name: "f" type: FLOAT f: 0.5 doc_string: "an attribute" } attribute { name: "i" type: INT i: -1 }
         attribute { name: "s" type: STRING s: "\\377" } attribute { name: "fs" type: FLOATS floats: [0.5, 1] }
         attribute { name: "is" type: INTS ints: 1 } attribute { name: "e" type: INTS } attribute { name: "ss" type: STRINGS strings: "a" }
         attribute { name: "t" type: TENSOR t { name: "t" data_type: 2 dims: 1 raw_data: "\\003" } }
         attribute { name: "ts" type: TENSORS tensors { data_type: 2 raw_data: "\\003" } }
         attribute { name: "g" type: GRAPH g { name: "inner" input { name: "u" } output { name: "v" }
           node { op_type: "Add" input: "u" input: "w" output: "v" } } }
         attribute { name: "gs" type: GRAPHS graphs { name: "empty" } graphs { name: "other" } }
         attribute { name: "sp" type: SPARSE_TENSOR sparse_tensor { dims: 4 values { data_type: 2 dims: 1 raw_data: "\\001" }
                     indices { data_type: 7 dims: 1 raw_data: "\\002\\000\\000\\000\\000\\000\\000\\000" } } }
         attribute { name: "sps" type: SPARSE_TENSORS sparse_tensors { dims: 4 values { data_type: 2 dims: 0 raw_data: "" }
                     indices { data_type: 7 dims: 0 raw_data: "" } } }
         attribute { name: "tp" type: TYPE_PROTO tp { tensor_type { elem_type: 1 } } }
         attribute { name: "tps" type: TYPE_PROTOS type_protos { sequence_type { elem_type { tensor_type { elem_type: 1 } } } } } }
  node { op_type: "Add" input: "a" input: "b" output: "y" }
  value_info { name: "a" type { tensor_type { elem_type: 1 shape {} } } doc_string: "inner" }
  quantization_annotation { tensor_name: "x" quant_parameter_tensor_names { key: "SCALE_TENSOR" value: "w" } }
  quantization_annotation { tensor_name: "w" quant_parameter_tensor_names { key: "SCALE_TENSOR" value: "names" } }
}
"""

# Other forms of the same, which come out as raw_data: see the test below. A segment is not known to any runtime.
# data_location and external_data are for test_external_data.
ELSEWHERE = {"TensorProto." + name for name in
             ("segment", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "data_location",
              "external_data")}  # fmt: skip
NOT_OURS = {
    "TrainingInfoProto",
    "ShardingSpecProto",
    "ShardedDimProto",
    "SimpleShardedDimProto",
    "IntIntListEntryProto",
}


def messages(message: Any) -> Iterator[Any]:
    yield message
    for field, content in message.ListFields():
        if field.message_type is not None:
            for each in [content] if isinstance(content, Message) else content:
                yield from messages(each)


@pytest.fixture(scope="module")
def everything() -> onnx.ModelProto:
    return text_format.Parse(EVERYTHING, onnx.ModelProto())


def test_the_sample_has_every_field_of_every_message(everything: onnx.ModelProto) -> None:
    every, found = set(), set()
    for message in messages(everything):
        name = message.DESCRIPTOR.full_name.removeprefix("onnx.")
        if name not in NOT_OURS:
            every |= {f"{name}.{field.name}" for field in message.DESCRIPTOR.fields}
            found |= {f"{name}.{field.name}" for field, _ in message.ListFields()}
    assert every - found == ELSEWHERE


def test_it_comes_out_as_it_went_in(everything: onnx.ModelProto) -> None:
    assert str(to_proto(from_proto(everything))) == str(everything)


def test_axes_that_are_gone_take_their_meaning_along(everything: onnx.ModelProto) -> None:
    model = from_proto(everything)
    x = model.graph.inputs[0]
    x.metadata["onnx.denotation.1"] = "HEIGHT"
    x.type = TensorType(DType.FLOAT, (1,))
    (dim,) = to_proto(model).graph.input[0].type.tensor_type.shape.dim
    assert dim.denotation == "DATA_BATCH"


@pytest.mark.parametrize(
    "type",
    [
        None,
        TensorType(None),
        TensorType(DType.INT4, (1, "n", None)),
        TensorType(DType.FLOAT, ()),
        TensorType(DType.FLOAT, (2,), True),
        SequenceType(None),
        SequenceType(OptionalType(TensorType(DType.STRING))),
        OptionalType(None),
        OptionalType(SequenceType(TensorType(DType.BOOL, (0,)))),
        MapType(DType.INT64, None),
        MapType(DType.STRING, SequenceType(TensorType(DType.FLOAT))),
        OpaqueType("d", "n"),
    ],
    ids=repr,
)
def test_types_are_told_apart(type: Type | None) -> None:
    graph = Graph("g")
    graph.add_output(graph.add_input(Value("x", type)))
    assert from_proto(to_proto(Model(graph, {}))).graph.inputs[0].type == type


def test_a_copy_of_the_model_keeps_it_too(everything: onnx.ModelProto) -> None:
    assert str(to_proto(clone_model(from_proto(everything)))) == str(everything)


@pytest.mark.parametrize(
    "number", [n for n in onnx.TensorProto.DataType.values() if n], ids=onnx.TensorProto.DataType.Name
)
@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_every_type_in_either_form_holds_the_same(number: int, raw: bool) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    if number == onnx.TensorProto.STRING:
        array = np.array([["a", "ü", ""]], object)
    else:
        array = np.array([[0, 1, 1, 0, 1]]).astype(dtype)
    if raw or number == onnx.TensorProto.STRING:
        tensor = numpy_helper.from_array(array, "w")
    else:
        tensor = onnx.helper.make_tensor("w", number, array.shape, array.reshape(-1).tolist())
        assert not tensor.HasField("raw_data")
    node = onnx.helper.make_node("Foo", ["w"], ["y"], domain="t", t=tensor)
    graph = onnx.helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="y")], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("t", 1)])
    back = to_proto(from_proto(model))
    for made in (back.graph.initializer[0], back.graph.node[0].attribute[0].t):
        assert made == numpy_helper.from_array(array, "w")
