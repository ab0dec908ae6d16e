"""Names become labels on the way in and unique names on the way out; inputs and outputs keep theirs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.dtypes import DType
from qcompiler.errors import ImportFailure
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor, verify
from qcompiler.onnx_io import from_proto, load, to_proto

Proto = Callable[..., onnx.ModelProto]
Run = Callable[..., list[Any]]
X = np.array([1.0, -2.0], np.float32)


def names(proto: onnx.GraphProto) -> list[str]:
    return [name for node in proto.node for name in node.output]


# Order


def test_unsorted_nodes_are_put_in_order(proto: Proto, run: Run) -> None:
    source = proto("g (float[2] x) => (float[2] y) { y = Neg(b) b = Relu(a) a = Abs(x) }")
    model = load(source)
    verify(model)
    assert [node.op_type for node in model.graph] == ["Abs", "Relu", "Neg"]
    np.testing.assert_array_equal(run(to_proto(model), x=X)[0], [-1, -2])


def test_a_branch_may_capture_what_stands_behind_its_node(proto: Proto, run: Run) -> None:
    source = proto("""g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = Relu(a) }, else_branch = e () => (float[2] q) { q = Neg(k) }>
        a = Abs(x)
        k = Constant <value = float[2] {1, 2}> ()
    }""")
    model = load(source)
    verify(model)
    assert [node.op_type for node in model.graph] == ["Abs", "If"]
    back = to_proto(model)
    assert [run(back, x=X, c=c)[0].tolist() for c in (True, False)] == [[1, 2], [-1, -2]]


def test_nodes_of_a_branch_are_put_in_order_too(proto: Proto) -> None:
    source = proto("""g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = Relu(a) a = Abs(x) },
                   else_branch = e () => (float[2] q) { q = Neg(x) }>
    }""")
    model = from_proto(source)
    verify(model)
    assert [node.op_type for node in next(next(iter(model.graph)).subgraphs())] == ["Abs", "Relu"]


def test_a_cycle_is_refused_by_name(proto: Proto, refusal: Callable[[Any], str]) -> None:
    source = proto("g (float[2] x) => (float[2] y) { a = Add(x, b) b = Relu(a) y = Neg(b) }")
    assert "graph 'g' cannot be put in order: <Add a> takes part in a cycle" in refusal(source)


def test_a_cycle_through_a_branch_is_refused(proto: Proto, refusal: Callable[[Any], str]) -> None:
    source = proto("""g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = Relu(a) }, else_branch = e () => (float[2] q) { q = Neg(x) }>
        a = Abs(y)
    }""")
    assert "takes part in a cycle" in refusal(source)


def test_a_model_that_was_put_in_order_is_checked_all_the_same(proto: Proto, refusal: Callable[[Any], str]) -> None:
    source = proto("g (float[2] x) => (float[2] y) { y = Neg(b) b = Relu <alpha = 1.0> (x) }")
    assert "the model, mended, is not a valid ONNX model: Unrecognized attribute: alpha" in refusal(source)


# What is not there


def test_a_dangling_input_is_refused_by_node_and_name(proto: Proto, refusal: Callable[[Any], str]) -> None:
    message = refusal(proto("g (float[2] x) => (float[2] y) { y = Add(x, nowhere) }"))
    assert "'Add' takes 'nowhere', which nothing in graph 'g' or around it defines" in message


def test_an_output_that_nobody_computes_is_refused(proto: Proto, refusal: Callable[[Any], str]) -> None:
    source = proto("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) }")
    assert "output 'z'" in refusal(source)
    with pytest.raises(ImportFailure, match="output 'z' of graph 'g' is not computed by any node"):
        from_proto(source)


def test_values_of_one_branch_are_not_seen_by_the_other(proto: Proto, refusal: Callable[[Any], str]) -> None:
    source = proto("""g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { s = Abs(x) p = Relu(s) },
                   else_branch = e () => (float[2] q) { q = Neg(s) }>
    }""")
    assert "takes 's', which nothing in graph 'e' or around it defines" in refusal(source)


def test_an_output_of_a_function_that_nobody_computes(proto: Proto) -> None:
    source = proto(
        'g (float[2] x) => (float[2] y) { y = local.F(x) } <domain: "local", opset_import: ["": 20]> F (p) => (q) { q = Relu(p) }'
    )
    del source.functions[0].node[:]
    with pytest.raises(ImportFailure, match="output 'q' of function 'local:F' is not computed by any node"):
        from_proto(source)


# Names


def test_a_name_defined_twice_means_its_latest_definition(proto: Proto, run: Run) -> None:
    model = from_proto(proto("g (float[2] x) => (float[2] y) { a = Abs(x) b = Neg(a) a = Relu(x) y = Add(a, b) }"))
    verify(model)
    back = to_proto(model)
    assert len(set(names(back.graph))) == 4
    np.testing.assert_array_equal(run(back, x=X)[0], [0, -2])  # relu(x) - abs(x)


def test_equal_names_come_out_unique_and_those_of_inputs_and_outputs_stay(run: Run) -> None:
    graph = Graph("g")
    x = graph.add_input(Value("x", TensorType(DType.FLOAT, (2,))))
    value = x
    for name in ("x", "y", "a", "a", ""):
        value = graph.append(Node("Neg", [value], outputs=[Value(name, x.type)])).output
    y = graph.append(Node("Add", [value, graph.add_constant(tensor(X), "y")], outputs=[Value("y", x.type)])).output
    graph.add_output(y)
    model, given = Model(graph, {"": 20}), {}
    back = to_proto(model, names=given)
    onnx.checker.check_model(back)
    assert [info.name for info in (*back.graph.input, *back.graph.output)] == ["x", "y"]
    every = [*names(back.graph), *(each.name for each in back.graph.initializer), "x"]
    assert len(set(every)) == len(every) and set(given.values()) == set(every) and given[y] == "y"
    np.testing.assert_array_equal(run(back, x=X)[0], [0, 0])


def test_inner_values_give_way_to_names_outside_of_their_branch(proto: Proto, run: Run) -> None:
    source = proto("""g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { a = Abs(x) p = Relu(a) },
                   else_branch = e () => (float[2] p) { a = Neg(x) p = Relu(a) }>
    }""")
    model = load(source)
    for value in (v for node in model.graph.all_nodes() for v in node.outputs if v.name in ("a", "p")):
        value.name = "x" if value.name == "a" else "y"
    back = to_proto(model)
    onnx.checker.check_model(back, full_check=True)
    assert [run(back, x=X, c=c)[0].tolist() for c in (True, False)] == [[1, 2], [0, 2]]


def test_renaming_breaks_nothing(proto: Proto, run: Run) -> None:
    model = load(
        proto("g (float[2] x) => (float[2] y) <float[2] w = {1, 1}> { a = Add(x, w) b = Mul(a, w) y = Sub(b, x) }")
    )
    for value in (*model.graph.constants, *(v for node in model.graph for v in node.outputs)):
        value.name = "y"
    np.testing.assert_array_equal(run(to_proto(model), x=X)[0], [1, 1])


# Initializers


@pytest.mark.parametrize("ir", [3, 4, 10])
def test_a_default_is_a_constant_before_ir_version_4(proto: Proto, run: Run, ir: int) -> None:
    model = load(proto("g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Add(x, w) }", opset=9, ir=ir))
    (w,) = model.graph.constants
    assert [value.name for value in model.graph.inputs] == (["x"] if ir == 3 else ["x", "w"])
    assert w.is_input is (ir > 3) and (w.constant is None) is (ir > 3)
    back = to_proto(model)
    assert back.ir_version == max(ir, 4) and len(back.graph.initializer) == 1
    onnx.checker.check_model(back)
    np.testing.assert_array_equal(run(back, x=X)[0], [2, 0])
    if ir > 3:
        np.testing.assert_array_equal(run(back, x=X, w=X)[0], [2, -4])


@pytest.mark.parametrize(
    ("attribute", "array"),
    [
        ("value = float[2] {1, 2}", np.float32([1, 2])),
        ("value_float = 2.5", np.float32(2.5)),
        ("value_floats = [1.0, 2.5]", np.float32([1, 2.5])),
        ("value_int = 3", np.int64(3)),
        ("value_ints = [3, 4]", np.int64([3, 4])),
        ('value_string = "a"', np.array("a", object)),
        ('value_strings = ["a", "ü"]', np.array(["a", "ü"], object)),
    ],
)
def test_constant_nodes_become_constants(proto: Proto, run: Run, attribute: str, array: Any) -> None:
    element = onnx.TensorProto.DataType.Name(onnx.helper.np_dtype_to_tensor_dtype(array.dtype)).lower()
    kind = f"{element}[{','.join(map(str, array.shape))}]" if array.shape else element
    source = proto(f"g () => ({kind} y) {{ k = Constant <{attribute}> () y = Identity(k) }}")
    model = load(source)
    assert [node.op_type for node in model.graph] == ["Identity"]
    (k,) = model.graph.constants
    assert k.constant is not None and k.type == TensorType(DType.of(array.dtype), array.shape)
    (expected,), (found,) = run(source), run(to_proto(model))
    assert found.dtype == expected.dtype and found.tolist() == expected.tolist()


def test_only_constant_nodes_become_constants(proto: Proto) -> None:
    model = from_proto(
        proto("""g (int64[1] x) => (float[n] y) {
        a = ConstantOfShape <value = float[1] {1}> (x) b = local.Constant <value = float[1] {1}> () y = Add(a, b) }""")
    )
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "Constant", "Add"]
    assert not model.graph.constants


def test_a_constant_may_be_an_output_or_used_before_it_stands(proto: Proto, run: Run) -> None:
    model = load(
        proto("g (float[2] x) => (float[2] y, float[2] k) { y = Add(x, k) k = Constant <value = float[2] {1, 2}> () }")
    )
    verify(model)
    back = to_proto(model)
    assert [each.tolist() for each in run(back, x=X)] == [[2, 0], [1, 2]]


def test_sparse_constants_keep_their_form(proto: Proto, run: Run) -> None:
    source = proto("g (float[4] x) => (float[4] y, float[4] z) { k = Constant() y = Add(x, k) z = Add(y, s) }")
    sparse = onnx.helper.make_sparse_tensor(
        onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [1], [5.0]),
        onnx.helper.make_tensor("", onnx.TensorProto.INT64, [1], [2]),
        [4],
    )
    source.graph.node[0].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    sparse.values.name = "s"
    source.graph.sparse_initializer.append(sparse)
    model = load(source)
    assert {value.name for value in model.graph.constants} == {"k", "s"}
    assert all(value.constant is None for value in model.graph.constants)  # no rule should take them for dense
    back = to_proto(model)
    assert len(back.graph.sparse_initializer) == 2 and not back.graph.initializer
    x = np.ones(4, np.float32)
    assert [each.tolist() for each in run(back, x=x)] == [each.tolist() for each in run(source, x=x)]


# Subgraphs and functions


LOOPS = {
    "loop": """g (float[2] x, int64 n) => (float[2] y, float[m, 2] all) <bool yes = {1}> {
        w = Relu(x)
        y, all = Loop <body = b (int64 i, bool go, float[2] v) => (bool more, float[2] u, float[2] scan) <float[2] k = {1, 1}> {
            more = Identity(go) t = Add(v, w) u = Mul(t, k) scan = Neg(u) }> (n, yes, x)
    }""",
    "scan": """g (float[2] x, int64 n) => (float s, float[2] y) <float zero = {0}> {
        two = Cast <to = 1> (n)
        s, y = Scan <num_scan_inputs = 1, body = b (float a, float e) => (float c, float f) {
            d = Mul(e, two) c = Add(a, d) f = Identity(c) }> (zero, x)
    }""",
    "nested": """g (float[2] x, int64 n) => (float[2] y, bool c) {
        c = Cast <to = 9> (n)
        a = Abs(x)
        y = If(c) <then_branch = t () => (float[2] p) {
                       b = Neg(a)
                       p = If(c) <then_branch = tt () => (float[2] r) { r = Add(a, b) },
                                  else_branch = te () => (float[2] r) { r = Identity(x) }> },
                   else_branch = e () => (float[2] q) <float[2] q = {7, 8}> { }>
    }""",
}


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("n", [0, 2])
def test_subgraphs_capture_outer_values(proto: Proto, run: Run, kind: str, n: int) -> None:
    source = proto(LOOPS[kind])
    model = load(source)
    verify(model)
    back = to_proto(model)
    onnx.checker.check_model(back, full_check=True)
    if kind == "nested":  # onnxruntime takes no initializer for the output of a branch: the way out repairs that
        assert run(back, x=X, n=np.int64(n))[0].tolist() == ([0, 0] if n else [7, 8])
        branch = next(a.g for a in back.graph.node[-1].attribute if a.name == "else_branch")
        assert [node.op_type for node in branch.node] == ["Constant"] and not branch.initializer
    else:
        expected, found = (run(each, x=X, n=np.int64(n)) for each in (source, back))
        assert [each.tolist() for each in found] == [each.tolist() for each in expected]


FUNCTION = """g (float[2] x) => (float[2] y) { a = local.F <n = 0> (x) b = local.F(a) y = local.G(b) }
<domain: "local", opset_import: ["": 20]> F <n: int = -1> (p) => (q) {
    k = Constant <value_float = 2.0> ()
    r = Mul(p, k)
    c = Constant <value_int: int = @n> ()
    s = CumSum(r, c)
    q = Softmax <axis: int = @n> (s)
}
<domain: "local", opset_import: ["": 20, "local": 1]> G (p) => (q) {
    yes = Constant <value = bool {1}> ()
    q = If(yes) <then_branch = t () => (float[2] u) { k = Constant <value_float = 3.0> () u = Mul(p, k) },
                 else_branch = e () => (float[2] v) { v = local.F(p) }>
}
"""


def test_functions_keep_references_to_their_attributes(proto: Proto, run: Run) -> None:
    source = proto(FUNCTION)
    model = load(source)
    verify(model)
    function = model.functions["local", "F", ""]
    assert [node.op_type for node in function.graph] == ["Mul", "Constant", "CumSum", "Softmax"]
    assert [node.attrs[key].ref for node in function.graph for key in node.attrs] == ["n", "n"]
    back = to_proto(model)
    onnx.checker.check_model(back)
    assert not any(node.op_type == "If" and node.attribute[0].g.name == "" for node in back.functions[1].node)
    np.testing.assert_array_equal(run(back, x=X)[0], run(source, x=X)[0])


# Other types than tensors


@pytest.mark.parametrize(
    ("text", "feeds"),
    [
        ("g (float[2] x) => (seq(float[2]) y) { a = Neg(x) y = SequenceConstruct(x, a) }", {"x": X}),
        ("g (float[2] x) => (float[2] y) { s = SequenceConstruct(x, x) k = Constant <value_int = 1> () y = SequenceAt(s, k) }",
         {"x": X}),
        ("g (float[2] x) => (bool y) { o = Optional(x) y = OptionalHasElement(o) }", {"x": X}),
        ('g (string[2] x) => (string[2] y) <string[1] w = {"ü"}> { y = StringConcat(x, w) }', {"x": np.array(["a", "b"], object)}),
    ],
    ids=["sequence", "sequence inside", "optional", "strings"],
)  # fmt: skip
def test_sequences_optionals_and_strings(proto: Proto, run: Run, text: str, feeds: dict[str, Any]) -> None:
    source = proto(text)
    back = to_proto(load(source))
    assert [info.type for info in back.graph.output] == [info.type for info in source.graph.output]
    (expected,), (found,) = run(source, **feeds), run(back, **feeds)
    assert np.array(found).tolist() == np.array(expected).tolist()


def test_left_out_inputs_and_outputs_stay_left_out(proto: Proto, run: Run) -> None:
    source = proto("g (float[2] x) => (float[2] y) <float top = {0.5}> { y = Clip(x, , top) }")
    model = load(source)
    (clip,) = model.graph
    assert clip.inputs[1] is None
    back = to_proto(model)
    assert list(back.graph.node[0].input) == ["x", "", "top"]
    np.testing.assert_array_equal(run(back, x=X)[0], [0.5, -2])


LSTM = """g (float[1,1,1] x) => (float[1,1,1] h) <float[1,4,1] w = {1, 1, 1, 1}, float[1,4,1] r = {1, 1, 1, 1}> {
    , h = LSTM <hidden_size = 1> (x, w, r) }"""


def test_an_output_nobody_asks_for_is_left_out_only_where_the_operator_can_do_without(proto: Proto, run: Run) -> None:
    model = load(proto("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    graph, (x,) = model.graph, model.graph.inputs
    k = graph.add_constant(tensor([1], DType.INT64), "k")
    for kind, inputs, count in (("TopK", [x, k], 2), ("Dropout", [x], 2), ("Neg", [x], 1), ("Foo", [x], 2)):
        graph.append(Node(kind, inputs, outputs=count, domain="local" if kind == "Foo" else ""))
    graph.append(Node("Split", [x], {"num_outputs": 2}, outputs=2))
    named = {node.op_type: [bool(name) for name in node.output] for node in to_proto(model).graph.node}
    assert named == {"Relu": [True], "TopK": [True, True], "Dropout": [True], "Neg": [True], "Foo": [False, False],
                     "Split": [True, True]}  # fmt: skip
    onnx.checker.check_model(to_proto(model))
    lstm = to_proto(load(proto(LSTM)))
    assert list(lstm.graph.node[0].output) == ["", "h"]
    x = np.float32([[[1]]])
    np.testing.assert_array_equal(run(lstm, x=x)[0], run(proto(LSTM), x=x)[0])
