"""Raising the opset of a whole model: all of it or nothing, under the same names."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx.parser
import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import Attr, AttrKind, Graph, LazyTensor, Model, Node, TensorType, Value, format_model, verify
from qcompiler.onnx_io import from_proto, open_session, to_proto
from qcompiler.onnx_io import opset as module
from qcompiler.onnx_io.opset import CANONICAL, upgrade_opset
from qcompiler.onnx_io.opset_draft import Draft
from qcompiler.onnx_io.opset_rules import RULES, SAME
from qcompiler.runtime import Session


def read(opset: int, text: str, ir_version: int = 4) -> Model:
    head = f'<ir_version: {ir_version}, opset_import: ["": {opset}, "local": 1]>'
    return from_proto(onnx.parser.parse_model(f"{head} g {text}"))


TEXT = "(float[2,3] x) => (float[2,3] y) { u = Clip <min=0.0> (x) y = Neg(u) }"


# Which models are raised


def test_the_opset_and_what_a_file_needs_for_it() -> None:
    model = read(7, TEXT, ir_version=3)
    assert upgrade_opset(model) == ""
    assert model.opset == CANONICAL == 17
    assert model.ir_version == 8
    assert model.opsets == {"": 17, "local": 1}
    onnx.checker.check_model(to_proto(model), full_check=True)


def test_ir_version_never_falls() -> None:
    model = read(12, TEXT.replace("<min=0.0>", ""), ir_version=9)
    assert upgrade_opset(model, 13) == ""
    assert model.ir_version == 9


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_a_model_that_is_there_already_is_left_alone(opset: int) -> None:
    model = read(opset, TEXT.replace("Clip <min=0.0>", "Relu"), ir_version=8)
    before = format_model(model)
    assert upgrade_opset(model) == ""
    assert (format_model(model), model.ir_version) == (before, 8)


def test_a_model_without_standard_operators_is_left_alone() -> None:
    graph = Graph("g")
    x = graph.add_input(Value("x", TensorType(DType.FLOAT, (2,))))
    graph.add_output(graph.append(Node("Mine", [x], domain="local")).output)
    model = Model(graph, {"local": 1})
    assert upgrade_opset(model) == ""
    assert model.opsets == {"local": 1}
    graph.append(Node("Relu", [x]))
    assert "opset 0 has no such operator" in upgrade_opset(model)


def test_an_opset_from_the_future() -> None:
    assert "999" in upgrade_opset(read(13, TEXT.replace("<min=0.0>", "")), 999)


def test_names_and_values_stay() -> None:
    model = read(7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) z = Squeeze <axes=[0]> (y) }")
    y = model.graph.outputs[0]
    z = next(node.output for node in model.graph if node.op_type == "Squeeze")
    assert upgrade_opset(model) == ""
    assert model.graph.outputs == (y,) and y.name == "y" and y.producer is not None
    assert z.name == "z" and z.producer is not None and z.producer.op_type == "Squeeze"
    assert [value.name for value in model.graph.constants] == ["y/shape", "z/axes"]


def test_a_shared_input_is_not_changed_for_others() -> None:
    model = read(10, """(float[1,1,2,2] x) => (float[1,1,4,4] y, float[4] t) <float[4] s = {1,1,2,2}> {
        y = Resize(x, s) t = Neg(s) }""")  # fmt: skip
    assert upgrade_opset(model) == ""
    resize, neg = model.graph
    assert resize.inputs[2] is neg.inputs[0] and resize.inputs[1] is None
    verify(model)


# Nested graphs and functions


def feeds_for(session: Session, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    drawn = {spec: np.asarray(rng.standard_normal(cast(tuple[int, ...], spec.shape))) for spec in session.inputs}
    return {spec.name: np.asarray(x > 0 if spec.dtype == bool else x, spec.dtype) for spec, x in drawn.items()}


NESTED = {
    "If": (11, """(float[2,3] x, bool c) => (float[m,n] y) {
        r = Relu(x)
        y = If (c) <then_branch = then () => (float[a,b] t) {
                        u = Unsqueeze <axes=[0]> (r) t = ReduceSum <axes=[1], keepdims=0> (u) },
                    else_branch = other () => (float[d,e] f) { f = Softmax <axis=0> (r) }> }"""),
    "Loop": (10, """(float[2,3] x) => (float[2,3] y, float[i,2,3] all) <int64 n = {3}, bool go = {1}> {
        y, all = Loop (n, go, x) <body = body (int64 i, bool k, float[2,3] a) => (bool l, float[2,3] b, float[2,3] s) {
            l = Identity(k) b = Clip <max=1.0> (a) s = Softmax <axis=0> (b) }> }"""),
    "Scan": (11, """(float[4,2,2] x, float[2,2] a) => (float[2,2] b, float[4,2,2] all) {
        b, all = Scan (a, x) <num_scan_inputs = 1,
            body = body (float[2,2] s, float[2,2] e) => (float[2,2] t, float[2,2] o) {
                t = Add(s, e) o = Hardmax <axis=0> (t) }> }"""),
}  # fmt: skip


@pytest.mark.parametrize("op_type", NESTED)
def test_nested_graphs(op_type: str) -> None:
    opset, text = NESTED[op_type]
    before, raised = open_session(read(opset, text), optimize=False), read(opset, text)
    assert upgrade_opset(raised) == ""
    verify(raised)
    onnx.checker.check_model(to_proto(raised), full_check=True)
    after = open_session(raised, optimize=False)
    for seed in range(4):  # of which some take either branch
        feeds = feeds_for(before, seed)
        expected, found = before.run(feeds), after.run(feeds)
        for name, array in expected.items():
            assert (array.shape, array.tobytes()) == (found[name].shape, found[name].tobytes())


FUNCTION = """(float[2,3,4] x) => (float[2,3,4] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["": 12]> twice (a) => (b) { s = Softmax ATTRIBUTE (a) b = Add(s, s) }"""


def test_functions_go_along() -> None:
    text = FUNCTION.replace("ATTRIBUTE", "<axis=1>")
    expected = open_session(read(12, text, 8), optimize=False)
    feeds = feeds_for(expected)
    model = read(12, text, 8)
    assert upgrade_opset(model) == ""
    verify(model)
    (function,) = model.functions.values()
    assert function.opsets == {"": 17}
    assert [node.op_type for node in function.graph] == ["Flatten", "Softmax", "Shape", "Reshape", "Add"]
    onnx.checker.check_model(to_proto(model), full_check=True)
    np.testing.assert_array_equal(open_session(model, optimize=False).run(feeds)["y"], expected.run(feeds)["y"])


def test_a_function_that_is_ahead_is_left_alone() -> None:
    model = read(12, FUNCTION.replace("ATTRIBUTE", "").replace('"": 12', '"": 18'), 8)
    (function,) = model.functions.values()
    assert upgrade_opset(model) == ""
    assert (model.opset, function.opsets, len(function.graph)) == (17, {"": 18}, 2)


def test_an_attribute_of_the_caller_is_refused() -> None:
    model = read(12, FUNCTION.replace("ATTRIBUTE", ""), 8)
    (function,) = model.functions.values()
    next(iter(function.graph)).attrs["axis"] = Attr(AttrKind.INT, None, ref="along")
    assert "axis is given by the caller" in upgrade_opset(model)
    assert function.opsets == {"": 12} and model.opset == 12


# All or nothing


def last_node(model: Model) -> Node:
    return next(reversed(model.graph))


def named(op_type: str) -> Callable[[Model], None]:
    def spoil(model: Model) -> None:
        last_node(model).op_type = op_type

    return spoil


def train(model: Model) -> None:
    model.carried["training_info"] = [b""]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (named("Nothing"), "Nothing 'last' cannot go from opset 9 to 17: opset 9 has no such operator"),
        (named("Upsample"), "it has 1 inputs"),
        (named("Celu"), "opset 9 has no such operator"),
        (named("Slice"), "attribute starts is missing"),
        (train, "training"),
    ],
)
def test_one_node_that_cannot_go_keeps_the_whole_model(spoil: Callable[[Model], None], reason: str) -> None:
    model = read(9, "(float[2,3,4] x) => (float[2,3,4] y) { u = Softmax(x) v = Dropout(u) y = Abs(v) }")
    last_node(model).name = "last"
    spoil(model)
    before, types = format_model(model), [value.type for node in model.graph for value in node.outputs]
    assert reason in upgrade_opset(model)
    assert (format_model(model), model.ir_version) == (before, 4)
    assert [value.type for node in model.graph for value in node.outputs] == types
    verify(model)


def test_a_deprecated_operator_has_no_way_forward() -> None:
    model = read(10, "(float[1,1,2,2] x) => (float[] y) <float[4] s = {1,1,2,2}> { y = Resize(x, s) }")
    last_node(model).op_type = "Upsample"
    assert "deprecated in opset 10" in upgrade_opset(model)


def test_a_type_that_nobody_knows_is_no_guess() -> None:
    model = read(9, "(float[3] x) => (float[3] y) { u = local.mine(x) y = Clip <min=0.0> (u) }")
    assert "element type of input 0 is not known" in upgrade_opset(model)
    model = read(6, "(float[3] x) => (float[3] y) { u = local.mine(x) y = Add <broadcast=1, axis=0> (u, x) }")
    assert "rank of input 0 is not known" in upgrade_opset(model)


def test_a_draft_needs_a_graph() -> None:
    draft = Draft(Node("Relu", [Value("x")]), 17, lambda value: None)
    with pytest.raises(ValueError, match="stands in no graph"):
        draft.apply()


def test_weights_are_not_read() -> None:
    def make() -> Any:
        raise AssertionError("read")

    text = "(float[2,300] x) => (float[2,300] y) <float[1] w = {1}> { u = MatMul(x, w) y = Softmax(u) }"
    model = read(7, text)
    (value,) = model.graph.constants
    value.const, value.type = LazyTensor(make, DType.FLOAT, (300, 300)), TensorType(DType.FLOAT, (300, 300))
    assert upgrade_opset(model) == ""
    assert [node.op_type for node in model.graph] == ["MatMul", "Softmax"]  # its shape was inferred


# The table


def changes(last: int) -> list[tuple[str, int]]:
    """(operator, opset) of every new version of an operator that was there before, up to ``last``."""
    versions = [(s.name, s.since_version) for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""]
    first = {name: min(v for n, v in versions if n == name) for name, _ in versions}
    return sorted((name, opset) for name, opset in versions if first[name] < opset <= last)


def test_every_rule_stands_where_an_operator_changed() -> None:
    newest = onnx.defs.onnx_opset_version()
    assert {change for change in (*RULES, *SAME) if change[1] <= newest} <= set(changes(newest))
    assert not set(RULES) & SAME


@pytest.mark.parametrize(
    ("op_type", "opset", "why"),
    [
        ("Add", 13, ""),
        ("Relu", 6, ""),
        ("LSTM", 14, ""),
        ("BatchNormalization", 14, "input mean changed"),
        ("Clip", 11, "attribute max went"),
        ("Concat", 4, "attribute axis became required"),
        ("Erf", 13, "input input changed"),
        ("Scan", 9, "inputs went"),
        ("Scatter", 11, "the operator was deprecated"),
        ("Softmax", 13, "attribute axis changed"),
        ("TopK", 10, "inputs were added"),
        ("Upsample", 7, "attribute height_scale went"),
    ],
)
def test_what_the_definitions_alone_tell(op_type: str, opset: int, why: str) -> None:
    old, new = module._schema(op_type, opset - 1), module._schema(op_type, opset)
    assert old is not None and new is not None
    found = module._difference(old, new)
    assert found.replace("attribute min", "attribute max").replace("width_scale", "height_scale") == why


def test_what_no_rule_covers() -> None:
    """Up to opset 17 these are the only changes that are refused whatever the node looks like."""
    found = {change for change in changes(CANONICAL) if isinstance(module._step(*change), str)}
    assert found == {
        ("GlobalLpPool", 2),
        ("LpPool", 2),
        ("Scan", 9),
        ("Split", 2),
        ("Tile", 6),
        ("Upsample", 7),
    }
