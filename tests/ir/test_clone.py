"""A copy is equal and independent: nothing done to it shows in the original. Only tensors are shared."""

from collections.abc import Callable

import numpy as np
import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import (
    Model,
    Node,
    Quantization,
    QuantSpec,
    Value,
    clone_graph,
    clone_model,
    difference,
    format_model,
    verify,
)

Read = Callable[[str], Model]

BODY = """
g (float[2] x, bool c) => (float[2] y, float[2] z) <float[2] w = {1, 2}> {
  r = Add(x, w)
  y = If (c) <then_branch = t () => (float[2] a) <float[2] k = {3, 4}> { a = local.F <n = 2> (r) },
              else_branch = e () => (float[2] b) { b = Sub(r, w) }>
  z = local.F <n = 1> (w)
}
<domain: "local", opset_import: ["": 20]> F <n> (p) => (q) { k = Constant <value_float = 2.0> () s = Mul(p, k) q = Softmax <axis: int = @n> (s) }
"""


@pytest.fixture
def model(read: Read) -> Model:
    made = read(BODY)
    made.metadata["who"] = "me"
    made.carried["training_info"] = [b"t"]
    value = made.graph.outputs[0]
    scale, zero = np.float32(1), np.int8(0)
    value.quant = Quantization(QuantSpec(DType.INT8), *map(np.asarray, (scale, zero, scale, scale)), group="a")
    return made


def test_a_copy_is_equivalent_and_sound(model: Model) -> None:
    copy = clone_model(model)
    verify(copy)
    assert difference(model, copy) == ""
    assert format_model(copy) == format_model(model)
    assert (copy.metadata, copy.carried, copy.ir_version) == (model.metadata, model.carried, model.ir_version)


def test_no_object_but_tensors_is_shared(model: Model) -> None:
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)

    def parts(of: Model) -> set[int]:
        values = {v for g in of.graphs() for v in (*g.inputs, *g.constants, *(v for n in g for v in n.outputs))}
        return {id(each) for each in (*of.graphs(), *of.nodes(), *values, *of.functions.values())}

    assert not parts(model) & parts(copy)
    assert all(mapping[value].const is value.const for value in model.graph.constants)


def test_what_is_done_to_the_copy_does_not_show(model: Model) -> None:
    text = format_model(model)
    copy = clone_model(model)
    for graph in copy.graphs():
        for node in list(graph):
            node.resize_inputs([])
            node.attrs.clear()
            node.metadata["seen"] = "1"
        for value in list(graph.constants):
            value.replace_uses(Value("new"))
            graph.remove_constant(value)
    copy.opsets.clear()
    copy.functions.clear()
    copy.metadata.clear()
    copy.carried["training_info"].clear()
    output = copy.graph.outputs[0]
    assert output.quant is not None and output.quant.group == "a"
    output.quant.group = "b"
    verify(model)
    assert format_model(model) == text
    assert model.metadata and model.carried["training_info"] and not any(node.metadata for node in model.nodes())
    quant = model.graph.outputs[0].quant
    assert quant is not None and quant.group == "a"


def test_a_copied_subgraph_captures_through_the_mapping_or_shares(branching: Model) -> None:
    node = next(node for node in branching.graph if node.op_type == "If")
    then = next(node.subgraphs())
    r, new = next(iter(branching.graph)).output, Value("new")
    assert next(iter(clone_graph(then, {}))).inputs[0] is r
    assert next(iter(clone_graph(then, {r: new}))).inputs[0] is new


def test_a_copied_graph_given_to_a_new_node_is_sound(branching: Model) -> None:
    graph = branching.graph
    node = next(node for node in graph if node.op_type == "If")
    then = next(node.subgraphs())
    attrs = {"then_branch": clone_graph(then, {}), "else_branch": clone_graph(then, {})}
    made = graph.append(Node("If", [graph.inputs[1]], attrs))
    graph.add_output(made.output)
    verify(branching)
