"""Calls of the model's own functions are replaced by their bodies, as a runtime does at load."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.parser

from qcompiler.ir import verify
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import from_proto, load, open_session, to_bytes, upgrade_opset
from qcompiler.passes.lossless import InlineFunctions, RemoveDeadCode
from qcompiler.pipeline import PassContext

HEADER = '<ir_version: 8, opset_import: ["": 17, "local": 1]>\n'
SCALED = """
    <domain: "local", opset_import: ["": 17]> scaled <by: float = 2.0> (x, shift) => (y, z) {
        k = Constant<value_float: float = @by>()  two = Constant<value = float {2}>()
        m = Mul(x, k)  y = Add(m, shift)  z = Div(m, two)
    }"""
NESTED = """
    <domain: "local", opset_import: ["": 17, "local": 1]> outer <by: float> (x) => (y) {
        a, b = local.scaled<by: float = @by>(x, x)  y = Neg(a)
    }"""


def inlined(text: str, **context: Any) -> tuple[Any, Any, PassContext]:
    source, model = (load(onnx.parser.parse_model(HEADER + text)) for _ in range(2))
    given = PassContext(**context)
    count = InlineFunctions().run(model, given)
    RemoveDeadCode().run(model, given)
    verify(model)
    x = np.float32([1, -2, 3])
    expected, found = (open_session(each, optimize=False).run({"x": x}) for each in (source, model))
    assert list(expected) == list(found)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    return model, count, given


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.nodes()]


def test_the_body_stands_in_the_place_of_each_call() -> None:
    text = "g (float[3] x) => (float[3] y, float[3] z) { a, b = local.scaled<by = 3.0>(x, x) y, c = local.scaled(a, b) z = Abs(c) }"
    model, count, context = inlined(text + SCALED)
    assert (count, model.functions) == (2, {})
    assert sorted(kinds(model)) == ["Abs", "Add", "Add", "Div", "Div", "Mul", "Mul"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    assert context.trace.counts()["inline-functions"] == 2


def test_a_call_within_a_function_hands_its_attribute_on() -> None:
    model, count, _ = inlined("g (float[3] x) => (float[3] y) { y = local.outer<by = 5.0>(x) }" + SCALED + NESTED)
    assert (count, kinds(model)) == (2, ["Mul", "Add", "Neg"])
    assert 5.0 in [float(value.const.numpy()) for value in model.graph.constants]


def test_in_a_branch() -> None:
    text = """g (float[3] x) => (float[3] y) { s = ReduceSum<keepdims = 0>(x) zero = Constant<value = float {0}>() c = Greater(s, zero)
        y = If(c) <then_branch = t () => (float[3] p) { p, q = local.scaled(x, x) }, else_branch = e () => (float[3] r) { r = Neg(x) }>
    }"""
    model, count, _ = inlined(text + SCALED)
    assert count == 1 and "scaled" not in kinds(model)


def test_left_out_inputs_and_attributes_are_left_out() -> None:
    clip = """
    <domain: "local", opset_import: ["": 17]> bounded <axis> (x, low, high) => (y) {
        c = Clip(x, low, high)  s = Softmax<axis: int = @axis>(c)  y = Identity(s)
    }"""
    text = "g (float[3] x) => (float[3] y) <float low = {0}> { y = local.bounded(x, low) }"
    source = load(onnx.parser.parse_model(HEADER + text + clip))
    InlineFunctions().run(source, PassContext())
    (node, softmax, _) = source.graph
    assert [value and value.name for value in node.inputs] == ["x", "low", None]
    assert "axis" not in softmax.attrs


def test_inputs_that_a_branch_of_the_body_takes() -> None:
    body = """
    <domain: "local", opset_import: ["": 17]> bounded (x, c, low, high) => (y) {
        y = If(c) <then_branch = t () => (float[3] p) { p = Clip(x, low, high) }, else_branch = e () => (float[3] q) { q = Neg(x) }>
    }"""
    text = "g (float[3] x) => (float[3] y) <float low = {0}, bool yes = {1}> { y = local.bounded(x, yes, low) }"
    model = load(onnx.parser.parse_model(HEADER + text + body))
    assert InlineFunctions().run(model, PassContext()) == 1
    RemoveDeadCode().run(model, PassContext())
    verify(model)
    np.testing.assert_array_equal(open_session(model).run({"x": np.float32([1, -2, 3])})["y"], np.float32([1, 0, 3]))


def test_an_output_that_is_an_input_keeps_its_name() -> None:
    same = '\n<domain: "local", opset_import: ["": 17]> same (x) => (x, y) { y = Neg(x) }'
    text = "g (float[3] x) => (float[3] y, float[3] z) { y, z = local.same(x) }"
    model = load(onnx.parser.parse_model(HEADER + text + same))  # which onnxruntime does not load
    assert InlineFunctions().run(model, PassContext()) == 1
    RemoveDeadCode().run(model, PassContext())
    found = open_session(model).run({"x": np.float32([1, -2, 3])})
    assert {name: array.tolist() for name, array in found.items()} == {"y": [1, -2, 3], "z": [-1, 2, -3]}


def test_another_operator_set_is_a_reason_to_stay() -> None:
    text = "g (float[3] x) => (float[3] y) { y, z = local.scaled(x, x) }" + SCALED.replace('"": 17', '"": 16')
    model, count, context = inlined(text)
    assert (count, kinds(model)[0]) == (0, "scaled")
    (miss,) = context.trace.near_misses
    assert miss.reason == "its body is written in version 16 of 'ai.onnx', the model in 17"


def test_what_the_target_has_itself_stays() -> None:
    gelu = '\n<domain: "com.microsoft", opset_import: ["": 17]> Gelu (x) => (y) { y = Erf(x) }'
    text = HEADER.replace('"local"', '"com.microsoft"') + "g (float[3] x) => (float[3] y) { y = com.microsoft.Gelu(x) }"
    model = load(onnx.parser.parse_model(text + gelu))
    assert InlineFunctions().run(model, PassContext(target=OrtCpu())) == 0


def test_functions_without_an_end_stay_calls() -> None:
    loop = '\n<domain: "local", opset_import: ["": 17, "local": 1]> f (x) => (y) { a = local.f(x) y = Neg(a) }'
    text = "g (float[3] x) => (float[3] y) { y = local.f(x) }"
    model = from_proto(onnx.parser.parse_model(HEADER + text + loop))  # which the checker refuses
    context = PassContext()
    assert InlineFunctions().run(model, context) == 64
    assert "without an end" in context.trace.near_misses[-1].reason
    verify(model)


def test_after_raising_the_operator_set_of_both(model_of: Callable[..., Any]) -> None:
    text = (HEADER + "g (float[3,1] x) => (float[3] y) { y = local.thin(x) }").replace("17", "11")
    thin = '\n<domain: "local", opset_import: ["": 11]> thin (x) => (y) { y = Squeeze<axes = [1]>(x) }'
    model = load(onnx.parser.parse_model(text + thin))
    assert upgrade_opset(model) == ""
    assert InlineFunctions().run(model, PassContext()) == 1
    assert len(to_bytes(model)) > 0
