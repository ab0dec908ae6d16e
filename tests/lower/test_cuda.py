"""Models lowered to kernels: which nodes become which, what stays, and that every way to run them agrees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.calibrate import collect
from qcompiler.ir import Model, Quantization, affine_parameters, clone_model, format_graph, verify
from qcompiler.lower import STATIC, Form, OrtCuda, open_program
from qcompiler.onnx_io import infer_types, load, open_session, to_proto
from qcompiler.search import Quality
from tests.lower.models import proto_of

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


def lowered(model: Model, kind: str = STATIC, batch: int = 1) -> tuple[Model, list[dict[str, Any]]]:
    samples = samples_of(model, batch=batch)
    groups, _ = TARGET.groups(model)
    taken = [node for group in groups for node in group.nodes]
    assert len(taken) == len(set(taken)), "two groups claim one node"
    for value, seen in collect(model, TARGET.observed(model, groups), samples).items():
        spec = TARGET.activation_spec()
        low, high = seen.minmax()
        bounds = np.asarray(low, np.float32), np.asarray(high, np.float32)
        value.quant = Quantization(
            spec, *affine_parameters(low, high, spec), *bounds, observed=(float(low), float(high))
        )
    plan = {group: Form(kind, TARGET.weight_spec(group.weight_axis)) for group in groups if kind in TARGET.kinds(group)}
    made = TARGET.lower(model, plan)
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
