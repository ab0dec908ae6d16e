"""Random graphs under rules that are true: the numbers stay, the graph stays sound, and nothing is left to do."""

from typing import Any

import numpy as np
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, clone_model, format_model, tensor, verify
from qcompiler.onnx_io import to_proto
from qcompiler.rewrite import Match, Rewriter, any_of, apply_rules, maybe, op, rest, rule, skip

FLOAT = TensorType(DType.FLOAT, (3,))
UNARY, BINARY = ["Neg", "Abs", "Relu", "Identity", "Sigmoid", "Cast", "Clip"], ["Add", "Sub", "Mul", "Max", "Sum"]
X = np.float32([[-1.5, 0.0, 2.25], [0.5, -3.0, 1.0]])


@rule(lambda x: any_of(op.Identity(x), op.Cast(x, to=1), op.Neg(op.Neg(x)), op.Max(x, x), op.Clip(x, None, None)))
def same(rw: Rewriter, m: Match) -> Any:
    return m.x


@rule(lambda x: any_of(op.Add(x, 0), op.Sub(x, 0), op.Mul(x, 1)))
def neutral(rw: Rewriter, m: Match) -> Any:
    return m.x


@rule(lambda x, z: op.Add(x, op.Neg(z)))
def minus(rw: Rewriter, m: Match) -> Any:
    return rw.op.Sub(m.x, m.z)


@rule(lambda x: op.Mul(x, 2))
def twice(rw: Rewriter, m: Match) -> Any:
    return rw.op.Add(m.x, m.x)


@rule(lambda x: op.Relu(skip("Identity", op.Abs(x))))
def positive(rw: Rewriter, m: Match) -> Any:
    return rw.op.Abs(m.x)


@rule(lambda x: any_of(op.Relu(op.Relu(x, _shared=True)), op.Relu(op.Sigmoid(x, _shared=True))))
def already_positive(rw: Rewriter, m: Match) -> Any:
    inner: Value = m.root.inputs[0]
    return inner


@rule(lambda x: (op.Sigmoid(x, _as="one"), op.Sigmoid(x, _as="other")))
def common(rw: Rewriter, m: Match) -> Any:
    both = rw.op.Sigmoid(m.x)
    return both, both


@rule(lambda x, others: op.Sum(op.Sum(x), rest(others)))
def flat(rw: Rewriter, m: Match) -> Any:
    return rw.op.Sum(m.x, *m.others)


@rule(lambda x, low, high: op.Relu(op.Clip(x, maybe(low), maybe(high))))
def clip_relu(rw: Rewriter, m: Match) -> Any:
    if m.has("low") or m.has("high"):
        return m.no("it clips already")
    return rw.op.Relu(m.x)


RULES = [same, neutral, minus, twice, positive, already_positive, common, flat, clip_relu]


@st.composite
def models(draw: st.DrawFn) -> Model:
    graph = Graph("g")
    values = [graph.add_input(Value(name, FLOAT)) for name in ("x", "z")]
    flag = graph.add_input(Value("c", TensorType(DType.BOOL, ())))
    constants = [graph.add_constant(tensor(np.float32(number)), f"k{number}") for number in (0, 1, 2, -3)]

    def pick(known: list[Value]) -> Value:
        recent = known[-6:]  # deep rather than wide
        return draw(st.sampled_from(recent if draw(st.integers(0, 3)) else known))

    def grow(graph: Graph, known: list[Value], count: int) -> None:
        for _ in range(count):
            kind = draw(st.sampled_from(UNARY + BINARY))
            inputs = [pick(known)]
            if kind in BINARY and (kind != "Sum" or draw(st.booleans())):
                inputs.append(draw(st.sampled_from([pick(known), *constants])))
                if kind != "Sub" and draw(st.booleans()):
                    inputs.reverse()
            attrs = {"to": 1} if kind == "Cast" else {}
            known.append(graph.append(Node(kind, inputs, attrs, outputs=[Value("", FLOAT)])).output)

    grow(graph, values, draw(st.integers(0, 30)))
    if draw(st.booleans()):
        branches = {}
        for name in ("then_branch", "else_branch"):
            branches[name] = Graph(name)
            # onnxruntime loses the second of two Casts in a row when only a branch takes it.
            inner = [value for value in values if value.producer is None or value.producer.op_type != "Cast"]
            grow(branches[name], inner, draw(st.integers(1, 5)))
            last = branches[name].append(Node("Neg", [inner[-1]], outputs=[Value("", FLOAT)])).output
            branches[name].add_output(last)
        values.append(graph.append(Node("If", [flag], branches, outputs=[Value("", FLOAT)])).output)
    grow(graph, values, draw(st.integers(1, 20)))
    for value in {*draw(st.lists(st.sampled_from(values[2:]), max_size=3)), values[-1]}:
        graph.add_output(value)
    for position, value in enumerate(graph.outputs):
        value.name = f"out{position}"
    return Model(graph, {"": 20})


def outputs(model: Model) -> list[np.ndarray[Any, Any]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = to_proto(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.outputs]
    feeds = {"x": X[0], "z": X[1]}
    return [each for c in (True, False) for each in session.run(names, feeds | {"c": np.array(c)})]


@settings(max_examples=60)
@given(models(), st.permutations(RULES))
def test_true_rules_keep_the_numbers(model: Model, rules: list[Any]) -> None:
    before, names = outputs(model), [value.name for value in model.graph.outputs]
    count = sum(1 for _ in model.nodes())
    apply_rules(model, rules)
    verify(model)
    assert [value.name for value in model.graph.outputs] == names
    assert sum(1 for _ in model.nodes()) <= count + len(names)
    for expected, found in zip(before, outputs(model), strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=150)
@given(models(), st.lists(st.sampled_from(RULES), min_size=1, unique=True))
def test_nothing_is_left_to_do(model: Model, rules: list[Any]) -> None:
    """The worklist revisits only what a change touched; a second run over everything must find nothing it missed."""
    apply_rules(model, rules)
    verify(model)
    assert apply_rules(model, rules) == 0


@settings(max_examples=30)
@given(models(), st.permutations(RULES))
def test_equal_graphs_give_equal_graphs(model: Model, rules: list[Any]) -> None:
    copy = clone_model(model)
    assert apply_rules(model, rules) == apply_rules(copy, rules)
    assert format_model(model) == format_model(copy)
