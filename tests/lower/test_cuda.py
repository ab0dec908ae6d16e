"""Models lowered to kernels: which nodes become which, what stays, and that every way to run them agrees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.calibrate import collect
from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import (
    Model,
    Quantization,
    QuantSpec,
    TensorType,
    affine_parameters,
    clone_model,
    format_graph,
    verify,
)
from qcompiler.lower import DYNAMIC, STATIC, WEIGHTS, Form, OrtCuda, open_program
from qcompiler.lower.cuda import kernel_products, placement, program_of
from qcompiler.lower.rounding import in_float32
from qcompiler.onnx_io import infer_types, load, open_session, to_proto
from qcompiler.passes.cluster import ClusterWeights
from qcompiler.pipeline import PassContext
from qcompiler.runtime import KernelStep, Session, SessionStep
from qcompiler.search import Quality
from tests.lower.models import model_of, proto_of

TARGET = OrtCuda()


def samples_of(model: Model, count: int = 6, batch: int = 1) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [
        {
            spec.name: np.array([True])
            if spec.dtype == bool
            else random.standard_normal([size if isinstance(size, int) else batch for size in spec.shape]).astype(
                np.float32
            )
            for spec in open_session(model).inputs
        }
        for _ in range(count)
    ]


def observe(model: Model, samples: list[dict[str, Any]], spec: QuantSpec | None = None) -> None:
    """Ranges for everything that the target asks for."""
    groups, _ = TARGET.groups(model)
    spec = spec or TARGET.activation_spec()
    for value, seen in collect(model, TARGET.observed(model, groups), samples).items():
        low, high = seen.minmax()
        bounds = np.asarray(low, np.float32), np.asarray(high, np.float32)
        parameters = affine_parameters(low, high, spec)
        value.quant = Quantization(spec, *parameters, *bounds, observed=(float(low), float(high)))


def static_plan(model: Model, samples: list[dict[str, Any]], kind: str = STATIC) -> Model:
    """``model`` with every group in its form of that kind."""
    observe(model, samples)
    groups, _ = TARGET.groups(model)
    taken = [node for group in groups for node in group.nodes]
    assert len(taken) == len(set(taken)), "two groups claim one node"
    plan = {group: Form(kind, TARGET.weight_spec(group.weight_axis)) for group in groups if kind in TARGET.kinds(group)}
    return TARGET.lower(model, plan)


def lowered(model: Model, kind: str = STATIC, batch: int = 1) -> tuple[Model, list[dict[str, Any]]]:
    samples = samples_of(model, batch=batch)
    made = static_plan(model, samples, kind)
    verify(made)
    onnx.checker.check_model(to_proto(made))
    assert [value.name for value in made.graph.outputs] == [value.name for value in model.graph.outputs]
    assert [value.type for value in made.graph.outputs] == [value.type for value in model.graph.outputs]
    return made, samples


def kinds(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def agree(model: Model, made: Model, samples: list[dict[str, Any]], least: float = 30.0) -> None:
    """The program is near the float model, and a stock onnxruntime gives what the program gives."""
    program, stock, source = open_program(clone_model(made)), open_session(made, optimize=False), open_session(model)
    quality, same = Quality(), Quality()
    for sample in samples:
        ours = program.run(sample)
        quality.add(source.run(sample), ours)
        same.add(stock.run(sample), ours)
    assert quality.sqnr_db >= least
    assert same.sqnr_db >= 40.0


CONV = "g (float[1,8,9,7] x) => (float[1,p,q,r] y) { %s }"
W3: dict[str, Any] = {"w": (8, 8, 3, 3)}
W1: dict[str, Any] = {"v": (8, 8, 1, 1)}

TWICE = {"s": np.array([1, 1, 2, 2], np.float32)}

MODELS: dict[str, tuple[str, int, dict[str, Any], dict[str, int]]] = {
    "relu between": (CONV % "a = Conv<pads=[1,1,1,1]>(x, w, b) c = Relu(a) y = Conv(c, v)", 17, W3 | W1 | {"b": (8,)}, {"Int8Conv": 2}),
    "residual before the activation": (
        CONV % "a = Conv<pads=[1,1,1,1]>(x, w) c = Relu(a) d = Conv(c, v) e = Add(d, c) f = Relu(e) y = Conv(f, v)", 17, W3 | W1, {"Int8Conv": 3}),
    "residual behind the activation": (
        CONV % "a = Conv<pads=[1,1,1,1]>(x, w) s = Sigmoid(a) c = Mul(a, s) d = Conv(c, v) t = Sigmoid(d) e = Mul(d, t) f = Add(c, e) y = Conv(f, v)", 17, W3 | W1, {"Int8Conv": 3}),
    "two products meet": (CONV % "a = Conv<pads=[1,1,1,1]>(x, w) c = Conv(x, v) d = Relu(a) e = Relu(c) f = Add(d, e) y = Conv(f, v)", 17, W3 | W1, {"Int8Conv": 3}),
    "a value with two readers": (CONV % "a = Conv<pads=[1,1,1,1]>(x, w) c = Relu(a) d = Conv(c, v) y = Mul(c, d)", 17, W3 | W1, {"Int8Conv": 2, "Mul": 1}),
    "a sum with itself": (CONV % "a = Conv<pads=[1,1,1,1]>(x, w) c = Add(a, a) y = Conv(c, v)", 17, W3 | W1, {"Int8Conv": 2}),
    "pooling and joining": (
        CONV % "a = Conv<pads=[1,1,1,1]>(x, w) c = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(a) d = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a) "
        "e = LeakyRelu(a) f = Concat<axis=1>(a, c, d, e, a) y = Conv(f, u)", 17, W3 | {"u": (8, 40, 1, 1)},
        {"Int8Conv": 2, "Int8MaxPool": 1, "Int8AveragePool": 1, "Int8Lookup": 1, "Int8Concat": 2}),
    "a head": (
        "g (float[2,8,9,7] x) => (float[2,5] y) { a = Conv<strides=[2,2]>(x, w) c = Relu(a) d = GlobalAveragePool(c) e = Flatten(d) y = Gemm<transB=1>(e, m, n) }", 17,
        W3 | {"m": (5, 8), "n": (5,)}, {"Int8Conv": 1, "Int8AveragePool": 1, "Int8MatMul": 1, "Flatten": 1}),
    "a head by Reshape of a picture": (
        "g (float[2,8,4,3] x) => (float[2,5] y) { a = Conv<pads=[1,1,1,1]>(x, w) c = Relu(a) e = Reshape(c, s) y = MatMul(e, m) } "
        , 17, W3 | {"m": (96, 5), "s": np.array([0, -1], np.int64)}, {"Int8Conv": 1, "Int8MatMul": 1}),
    "upsampling": (
        CONV % 'a = Conv<pads=[1,1,1,1]>(x, w) c = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(a, , s) y = Conv(c, v)',
        17, W3 | W1 | TWICE, {"Int8Conv": 2, "Int8Upsample": 1}),
    "bilinear stays": (
        CONV % 'a = Conv<pads=[1,1,1,1]>(x, w) c = Resize<mode="linear">(a, , s) y = Conv(c, v)',
        17, W3 | W1 | TWICE, {"Int8Conv": 2, "Resize": 1}),
    "gates of a channel": (
        CONV % "a = Conv<pads=[1,1,1,1]>(x, w) c = GlobalAveragePool(a) d = Conv(c, v) e = HardSigmoid(d) f = Mul(e, a) y = Conv(f, v)", 17, W3 | W1,
        {"Int8Conv": 3, "Int8AveragePool": 1, "Int8Mul": 1}),
    "depthwise and grouped": (
        CONV % "a = Conv<pads=[1,1,1,1], group=8>(x, w) c = HardSwish(a) d = Conv<group=2>(c, v) e = Clip(d, lo, hi) y = ConvTranspose<strides=[2,2], group=2>(e, t)", 17,
        {"w": (8, 1, 3, 3), "v": (8, 4, 1, 1), "t": (8, 3, 3, 3), "lo": np.float32(-0.5), "hi": np.float32(2)}, {"Int8Conv": 2, "Int8ConvTranspose": 1}),
    "same padding": (CONV % 'a = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(a, w)', 17, W3, {"Int8Conv": 2}),
    "dilation": (CONV % "y = Conv<dilations=[2,1], pads=[2,0,1,1]>(x, w)", 17, W3, {"Int8Conv": 1}),
    "products": (
        "g (float[2,5,8] x) => (float[2,5,6] y) { a = MatMul(x, m) c = Add(a, n) d = Gelu(c) e = MatMul(d, o) f = Add(e, x2) y = MatMul(f, o2) }".replace("x2", "c"), 20,
        {"m": (8, 8), "n": (8,), "o": (8, 8), "o2": (8, 6)}, {"Int8MatMul": 3, "Int8Lookup": 1}),
    "attention": (
        "g (float[2,4,5,8] q, float[2,4,8,5] k, float[2,4,5,8] v) => (float[2,4,5,8] y) { a = MatMul(q, k) s = Softmax<axis=-1>(a) y = MatMul(s, v) }", 17, {},
        {"Int8MatMul": 2, "Softmax": 1}),
    "an output in the middle": ("g (float[1,8,9,7] x) => (float[1,8,9,7] c, float[1,p,q,r] y) { a = Conv<pads=[1,1,1,1]>(x, w) c = Relu(a) y = Conv(c, v) }", 17, W3 | W1, {"Int8Conv": 2, "Dequantize": 1}),
    "a dynamic batch": ("g (float[n,8,9,7] x) => (float[n,p,q,r] y) { a = Conv<pads=[1,1,1,1]>(x, w) c = Relu(a) d = MaxPool<kernel_shape=[2,2]>(c) y = Conv(d, v) }", 17, W3 | W1, {"Int8Conv": 2, "Int8MaxPool": 1}),
    "a capture": (
        "g (float[1,8,9,7] x, bool[1] t) => (float[1,p,q,r] y) { a = Conv<pads=[1,1,1,1]>(x, w) c = Relu(a) d = Conv(c, v) "
        "y = If(t) <then_branch = one () => (float[1,p,q,r] o) { o = Add(c, d) }, else_branch = two () => (float[1,p,q,r] u) { u = Identity(c) }> }", 17, W3 | W1, {"Int8Conv": 2, "If": 1}),
}  # fmt: skip


def build(name: str) -> Model:
    text, opset, weights, _ = MODELS[name]
    shapes = {key: item for key, item in weights.items() if isinstance(item, tuple)}
    proto = proto_of(text, opset, **shapes)
    for key, item in weights.items():
        if not isinstance(item, tuple):
            proto.graph.initializer.append(onnx.numpy_helper.from_array(item, key))
    made = load(proto)
    infer_types(made)
    return made


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model = build(name)
    made, samples = lowered(model)
    for kind, count in MODELS[name][3].items():
        assert kinds(made)[kind] == count, format_graph(made.graph)
    agree(model, made, samples)


@pytest.mark.parametrize(
    "name", ["pooling and joining", "depthwise and grouped", "products", "attention", "gates of a channel"]
)
def test_the_interpreter_gives_the_same_bits(name: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    made, samples = lowered(build(name))
    plain, interpreted = (
        open_program(clone_model(made), kernels=way, device="cpu") for way in ("reference", "interpreter")
    )
    one, two = plain.run(samples[0]), interpreted.run(samples[0])
    assert all(np.array_equal(one[key], two[key]) for key in one)


def test_softmax_between_products_stays_in_integers_where_steps_are_small() -> None:
    text = "g (float[2,4,5,8] q, float[2,4,8,5] k, float[2,4,5,8] v) => (float[2,4,5,8] y) { a = MatMul(q, k) s = Softmax<axis=-1>(a) y = MatMul(s, v) }"
    model = model_of(text)
    assert kinds(lowered(model)[0])["Int8Softmax"] == 0  # logits of -11 to 11 in 255 steps
    fine = model_of(text)
    samples = [{name: array * np.float32(0.5) for name, array in sample.items()} for sample in samples_of(fine)]
    made = static_plan(fine, samples)
    assert kinds(made)["Int8Softmax"] == 1
    agree(fine, made, samples, 20.0)


def test_rows_are_quantized_once_for_all_who_read_them() -> None:
    model = model_of(
        "g (float[n,5,600] x) => (float[n,5,8] y, float[n,5,8] z) { a = MatMul(x, m) b = MatMul(x, o) c = Add(a, b) y = Relu(c) z = MatMul(x, o) }",
        m=(600, 8), o=(600, 8),
    )  # fmt: skip
    made, samples = lowered(model, DYNAMIC, batch=3)
    assert kinds(made)["QuantizeRows"] == 1
    assert kinds(made)["Int8MatMul"] == 3
    weights = [node.inputs[3] for node in made.graph if node.op_type == "Int8MatMul"]
    assert len(set(weights)) == 2  # a shared weight is shared
    agree(model, made, samples)


def test_short_rows_are_quantized_in_the_product_and_no_range_is_used() -> None:
    made, samples = lowered(build_reshaped(), DYNAMIC)
    assert kinds(made)["DynamicMatMul"] == 2
    assert not {"Quantize", "Dequantize"} & set(kinds(made))
    larger = [{"x": sample["x"] * np.float32(10)} for sample in samples]
    agree(build_reshaped(), made, larger)


def build_reshaped() -> Model:
    proto = proto_of(
        "g (float[3,64] x) => (float[3,8] y) { a = MatMul(x, m) b = Reshape(a, s) y = MatMul(b, o) }",
        m=(64, 64),
        o=(64, 8),
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 64], np.int64), "s"))
    made = load(proto)
    infer_types(made)
    return made


def test_forms_of_every_kind_side_by_side() -> None:
    model = model_of(
        "g (float[4,64] x) => (float[4,8] y) { a = MatMul(x, m) b = Relu(a) c = MatMul(b, o) d = Relu(c) e = MatMul(d, p) f = Relu(e) y = MatMul(f, q) }",
        m=(64, 64), o=(64, 64), p=(64, 64), q=(64, 8),
    )  # fmt: skip
    samples = samples_of(model)
    observe(model, samples)
    groups, _ = TARGET.groups(model)
    four = QuantSpec(DType.INT4, symmetric=True, axis=0, block=32)
    forms = [
        Form(STATIC, TARGET.weight_spec(1)), Form(DYNAMIC, TARGET.weight_spec(1)), Form(WEIGHTS, four, integer_products=True),
        Form(WEIGHTS, four, portable=True),
    ]  # fmt: skip
    made = TARGET.lower(model, dict(zip(groups, forms, strict=True)))
    assert kinds(made) >= Counter({"Int8MatMul": 1, "DynamicMatMul": 1, "BlockMatMul": 1, "DequantizeLinear": 1})
    assert made.opset >= 21  # blocks of 4 bits need it
    agree(model, made, samples, 15.0)


@pytest.mark.parametrize(
    ("bits", "integer", "kind"),
    [(2, True, "CodebookMatMul"), (4, True, "CodebookMatMul"), (6, True, "Int8MatMul"), (3, False, None)],
)
def test_clustered_weights_are_looked_up_by_the_kernel(bits: int, integer: bool, kind: str | None) -> None:
    model = model_of(
        "g (float[4,64] x) => (float[4,8] y) { a = MatMul(x, m) b = Add(a, n) c = Relu(b) y = Gemm<transB=1>(c, o) }",
        21,
        m=(64, 96),
        n=(96,),
        o=(8, 96),
    )
    samples = samples_of(model)
    ClusterWeights(bits=bits, integer=integer).run(model, PassContext())
    infer_types(model)
    made = static_plan(model, samples, DYNAMIC)
    assert kinds(made)[kind or "MatMul"] == (2 if kind else 1)
    if kind:
        assert not {"Gather", "Cast", "Mul", "Add", "Relu"} & set(kinds(made))
    agree(model, made, samples)


def test_defaults_of_inputs_can_be_overridden() -> None:
    proto = proto_of("g (float[1,8,9,7] x, float k) => (float[1,p,q,r] y) { a = Conv(x, v) y = Mul(a, k) }", **W1)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), "k"))
    model = load(proto)
    infer_types(model)
    samples = [{"x": np.ones((1, 8, 9, 7), np.float32)}]
    made = static_plan(model, samples)
    program = open_program(made)
    plain, other = program.run(samples[0])["y"], program.run({**samples[0], "k": np.array(5, np.float32)})["y"]
    assert np.allclose(other, plain * 2.5, rtol=1e-5)
    with pytest.raises(LoweringError, match="no input 'z'"):
        program.run({**samples[0], "z": plain})


def test_what_stays_float_runs_in_float16_where_it_fits() -> None:
    model = model_of(
        CONV % "a = Conv<pads=[1,1,1,1]>(x, w) b = Softmax<axis=1>(a) c = Sub(b, t) d = Exp(c) y = Conv(d, v)",
        **W3,
        **W1,
        t=(8, 1, 1),
    )
    made, samples = lowered(model)
    found = {node.op_type: node.output.dtype for node in made.graph}
    assert found["Softmax"] is found["Sub"] is DType.FLOAT16
    assert found["Exp"] is DType.FLOAT  # what it grows to hangs on every digit
    agree(model, made, samples)
    large = [{"x": sample["x"] * np.float32(1e6)} for sample in samples]
    again = static_plan(
        model_of(CONV % "a = Conv<pads=[1,1,1,1]>(x, w) b = Neg(a) y = Softmax<axis=1>(b)", **W3), large
    )
    assert DType.FLOAT16 not in {value.dtype for node in again.graph for value in node.outputs}


def test_a_value_without_a_range_or_of_another_type_is_refused() -> None:
    model = build("relu between")
    groups, _ = TARGET.groups(model)
    plan = {group: Form(STATIC, TARGET.weight_spec(0)) for group in groups}
    with pytest.raises(LoweringError, match="no calibrated range"):
        TARGET.lower(model, plan)
    observe(model, samples_of(model), QuantSpec(DType.UINT8))
    with pytest.raises(LoweringError, match="kernels take int8"):
        TARGET.lower(model, plan)


@pytest.mark.parametrize(
    ("text", "opset", "weights", "reason"),
    [
        (CONV % "y = Conv(x, v)", 15, W1, "operator set 15"),
        ("g (float[1,8,9] x) => (float[1,8,9] y) { y = Conv(x, v) }", 17, {"v": (8, 8, 1)}, "1 axes"),
        ("g (float[1,8,n,7] x) => (float[1,p,q,r] y) { y = Conv<auto_pad=\"SAME_UPPER\">(x, w) }", 17, W3, "auto_pad"),
        ("g (float[4,8] x, float[8,8] m) => (float[4,8] y) { y = MatMul(x, m) }", 17, {}, "ranks of its factors"),
        ("g (float[4,8] x) => (float[4,8] y) { y = Gemm<alpha=0.5>(x, m) }", 17, {"m": (8, 8)}, "scaled or transposed"),
        ("g (float16[4,8] x, float16[8,8] m) => (float16[4,8] y) { y = MatMul(x, m) }", 17, {}, "float16"),
    ],
)  # fmt: skip
def test_what_no_kernel_takes_says_why(text: str, opset: int, weights: dict[str, Any], reason: str) -> None:
    groups, refused = TARGET.groups(model_of(text, opset, **weights))
    assert not groups
    (said,) = refused.values()
    assert reason in said


def test_every_node_has_its_place_and_sessions_are_few() -> None:
    made, _ = lowered(build("pooling and joining"))
    program = program_of(made)
    (last,) = (step for step in program.steps if isinstance(step, SessionStep))
    assert last is program.steps[-1] and len(last.nodes) == 1  # channels of the output where the model has them
    assert next(step.op for step in program.steps if isinstance(step, KernelStep)) == "Quantize"
    assert [item["node"] for item in placement(made)] == [node.name for node in made.graph]
    made, _ = lowered(build("bilinear stays"))
    assert [type(step).__name__ for step in program_of(made).steps].count("SessionStep") == 2
    assert {item["runs_on"] for item in placement(made)} == {"kernel", "onnxruntime"}


LAYERS = (
    "Conv<pads=[1,1,1,1]>({0}, w)", "Conv({0}, v)", "Relu({0})", "LeakyRelu({0})", "Add({0}, {1})", "Mul({0}, {1})", "Sigmoid({0})",
    "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>({0})", "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>({0})", "HardSwish({0})",
    "Tanh({0})", "Conv<group=8, pads=[1,1,1,1]>({0}, d)",
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(LAYERS) - 1), st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=9),
    st.integers(0, 2),
)
def test_random_networks_are_lowered_as_their_bodies_say(layers: list[tuple[int, int, int]], extra: int) -> None:
    names, body = ["x"], []
    for index, (kind, one, two) in enumerate(layers):
        first, second = (names[max(0, len(names) - 1 - back)] for back in (one, two))
        body.append(f"a{index} = {LAYERS[kind].format(first, second)}")
        names.append(f"a{index}")
    given_out = [names[-1], *names[1:-1][:extra]]
    outputs = ", ".join(f"float[1,8,9,7] {name}" for name in dict.fromkeys(given_out))
    model = model_of(f"g (float[1,8,9,7] x) => ({outputs}) {{ {' '.join(body)} }}", 17, **W3, **W1, d=(8, 1, 3, 3))
    made, samples = lowered(model)
    agree(model, made, samples, 8.0)


def halves(model: Model) -> Counter[str]:
    """Operators that give float16."""
    return Counter(node.op_type for node in model.graph if any(value.dtype is DType.FLOAT16 for value in node.outputs))


SMALL = {"k": (np.ones((1, 8, 1, 1)) * 1e-9).astype(np.float32), "t": np.float32(1e-9)}


@pytest.mark.parametrize(
    ("body", "weights", "kept"),
    [
        ("a = Conv<pads=[1,1,1,1]>(x, w) b = Mul(a, k) d = Abs(b) e = Add(d, t) n = Neg(b) f = Sub(n, b) y = Div(f, e)", W3 | SMALL, {"Mul", "Add", "Neg", "Sub", "Div"}),
        ("a = Conv<pads=[1,1,1,1]>(x, w) b = Softmax<axis=1>(a) c = Neg(b) d = Neg(c) e = Floor(d) y = Relu(e)", W3, {"Softmax", "Neg"}),
        ("a = Conv<pads=[1,1,1,1]>(x, w) b = Softmax<axis=1>(a) c = Neg(b) d = Neg(c) e = Cast<to=7>(d) y = Cast<to=1>(e)", W3, {"Softmax", "Neg"}),
    ],
)  # fmt: skip
def test_what_float16_would_lose_stays_float32(body: str, weights: dict[str, Any], kept: set[str]) -> None:
    MODELS["here"] = (CONV % body, 17, weights, {})
    try:
        made, samples = lowered(build("here"))
        assert not kept & set(halves(made))
        program, source = open_program(made), open_session(build("here"))
        for sample in samples:
            assert np.isfinite(program.run(sample)["y"]).all() or not np.isfinite(source.run(sample)["y"]).all()
    finally:
        del MODELS["here"]


@pytest.mark.parametrize("used", [True, False])
def test_outputs_that_float16_operators_give_in_another_type(used: bool) -> None:
    more = "z = Add(mean, inv)" if used else "z = Neg(b)"
    model = model_of(
        f"g (float[1,8,9,7] x) => (float[1,8,9,7] y, float[n,m,o,p] z, float[a,b,c,d] u) {{ a = Conv<pads=[1,1,1,1]>(x, w) b = Softmax<axis=1>(a) "
        f"l, mean, inv = LayerNormalization(b, g) c = Neg(l) y = Neg(c) {more} f, ind = MaxPool<kernel_shape=[2,2]>(b) u = Neg(f) }}",
        **W3, g=(7,),
    )  # fmt: skip
    made, samples = lowered(model)
    assert halves(made)["LayerNormalization"] == 1
    agree(model, made, samples, 20.0)


def test_float16_on_the_processor_is_rounded_as_numpy_rounds_it() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 40_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits, np.float32([65519.99, 65520, 2**-14, 2**-25, 3 * 2**-25, -0.0])])
    model = load(proto_of("g (float[n] x) => (float16[n] y) { y = Cast<to=10>(x) }"))
    infer_types(model)
    (step,) = program_of(model, rounded=True).steps
    assert isinstance(step, SessionStep)
    with np.errstate(all="ignore"):
        assert np.array_equal(Session(step.model).run({"x": x})["y"], x.astype(np.float16), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "weights", "kernel"),
    [
        ("c = Cast<to=1>(q) m = Mul(c, s) y = MatMul(x, m)", {"q": (64, 64), "s": (64,)}, True),
        ("c = Cast<to=1>(q) m = Mul(c, s) y = Gemm<transB=1>(x, m)", {"q": (64, 64), "s": (64, 1)}, True),
        ("c = Cast<to=1>(q) m = Mul(c, s) y = Gemm<transB=1>(x, m)", {"q": (64, 64), "s": (64,)}, False),
        ("c = Cast<to=1>(q) m = Mul(c, s) y = MatMul(x, m)", {"q": (64, 64), "s": (64, 1)}, False),
        ("c = Cast<to=1>(q) m = Mul(c, s) y = Gemm(x, m, e)", {"q": (64, 64), "s": (64,), "e": (4, 1)}, False),
        ("i = Cast<to=6>(p) b = Gather(k, i) c = Cast<to=1>(b) y = MatMul(x, c)", {"k": 10, "p": (64, 64)}, True),
        ("i = Cast<to=6>(p) b = Gather(k, i) c = Cast<to=1>(b) y = MatMul(x, c)", {"k": 300, "p": (64, 64)}, True),
    ],
)
def test_whole_numbers_times_a_scale_are_read_as_they_are(text: str, weights: dict[str, Any], kernel: bool) -> None:
    """The scale of a row of the weights is none of an output channel; indices may be negative, codebooks long."""
    random = np.random.default_rng(0)
    shapes = {name: shape for name, shape in weights.items() if name in "se"}
    proto = proto_of(f"g (float[4,64] x) => (float[4,64] y) {{ {text} }}", **shapes)
    if "q" in weights:
        held = {"q": random.integers(-100, 100, weights["q"]).astype(np.int8)}
    else:
        places = random.integers(-weights["k"], weights["k"], weights["p"]).astype(np.int16)
        held = {"k": random.integers(-100, 100, weights["k"]).astype(np.int8), "p": places}
    for name, array in held.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = load(proto)
    infer_types(model)
    made, samples = lowered(model, DYNAMIC)
    assert bool({"CodebookMatMul", "Int8MatMul"} & set(kinds(made))) == kernel
    agree(model, made, samples)


def test_every_product_has_a_cost() -> None:
    model = model_of("g (float[512,256] x) => (float[512,256] y) { y = MatMul(x, m) }", m=(256, 256))
    (group,), _ = TARGET.groups(model)
    observe(model, samples_of(model))
    four = Form(WEIGHTS, QuantSpec(DType.INT4, symmetric=True, axis=0, block=32), integer_products=True)
    for form in (Form(STATIC, TARGET.weight_spec(1)), Form(DYNAMIC, TARGET.weight_spec(1)), four):
        made = TARGET.lower(model, {group: form})
        assert sum(map(kernel_products, made.graph)) == 512 * 256 * 256


def test_gelu_in_halves_is_rounded() -> None:
    """onnxruntime's own operators of one type are rounded like the standard's."""
    text = "agraph (float16[64] x) => (float16[64] y) { g = com.microsoft.Gelu(x) y = Mul(g, g) }"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    model = load(proto)
    infer_types(model)
    for node in model.graph:
        node.output.type = TensorType(DType.FLOAT16, (64,))
    assert in_float32(model.graph)
    assert sum(node.is_op("Cast") for node in model.graph) >= 4
