"""Factors moved between layers: worked out by hand, exact in float, and only where all readers can take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from qcompiler.data import open_dataset
from qcompiler.ir import Model, verify
from qcompiler.onnx_io import infer_types, load, open_session
from qcompiler.passes.quantize import EqualizeChannels, SmoothActivations
from qcompiler.pipeline import Pass, PassContext


def model_of(text: str, **weights: Any) -> Model:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    random = np.random.default_rng(3)
    for name, given in weights.items():
        spread = 10 ** random.uniform(-1, 1, size=given[0]) if isinstance(given, tuple) else None
        array = given if spread is None else random.normal(size=given) * spread.reshape(-1, *[1] * (len(given) - 1))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    model = load(proto)
    infer_types(model)
    return model


def weights(model: Model, op: str, place: int = 1) -> list[np.ndarray]:
    return [node.inputs[place].constant.numpy() for node in model.graph if node.is_op(op)]  # type: ignore[union-attr]


def rescaled(item: Pass, model: Model, count: int) -> None:
    """``item`` rescales ``count`` layers of ``model``, whose outputs stay what they were."""
    size = [int(each) for each in model.graph.inputs[0].shape or ()]
    sample = {"x": np.random.default_rng(0).normal(size=size).astype(np.float32)}
    before = open_session(model, optimize=False).run(sample)
    context = PassContext(data=open_dataset([sample], open_session(model).inputs))
    assert item.run(model, context) == count
    verify(model)
    after = open_session(model, optimize=False).run(sample)
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, rtol=1e-4, atol=1e-4 * np.abs(array).max())


def test_equalizing_by_hand() -> None:
    """r1 = (8, 1), r2 = (2, 4): s = (2, 1/2). The rows become (4, 2), the columns (4, 2), the bias (1/2, 2)."""
    model = model_of(
        "g (float[1,1] x) => (float[1,1] y) { h = Gemm<transB=1>(x, w, b) r = Relu(h) y = Gemm<transB=1>(r, v) }",
        w=[[8.0], [1.0]], b=[1.0, 1.0], v=[[2.0, -4.0]],
    )  # fmt: skip
    rescaled(EqualizeChannels(), model, 1)
    first, second = weights(model, "Gemm")
    assert first.tolist() == [[4.0], [2.0]] and second.tolist() == [[4.0, -2.0]]
    bias = next(iter(model.graph)).inputs[2]
    assert bias is not None and bias.constant is not None
    assert bias.constant.numpy().tolist() == [0.5, 2.0]


CHAINS = {
    "convolutions": ("g (float[1,3,8,8] x) => (float[1,5,4,4] y) { a = Conv(x, w, b) r = Relu(a) y = Conv(r, v) }", {"w": (6, 3, 3, 3), "b": (6,), "v": (5, 6, 3, 3)}, 1),
    "depthwise between": ("g (float[1,3,8,8] x) => (float[1,5,6,6] y) { a = Conv(x, w, b) r = Relu(a) d = Conv<group=6>(r, u) y = Conv(d, v) }", {"w": (6, 3, 1, 1), "b": (6,), "u": (6, 1, 3, 3), "v": (5, 6, 1, 1)}, 2),
    "two readers": ("g (float[1,3,8,8] x) => (float[1,5,8,8] y, float[1,4,8,8] z) { a = Conv(x, w) r = Relu(a) y = Conv(r, u) z = Conv(r, v) }", {"w": (6, 3, 1, 1), "u": (5, 6, 1, 1), "v": (4, 6, 1, 1)}, 1),
    "pooling between": ("g (float[1,3,8,8] x) => (float[1,5,4,4] y) { a = Conv(x, w) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a) y = Conv(p, u) }", {"w": (6, 3, 1, 1), "u": (5, 6, 1, 1)}, 1),
    "a sum reads it too": ("g (float[1,3,8,8] x) => (float[1,6,8,8] y) { a = Conv(x, w) r = Relu(a) c = Conv(r, u) y = Add(r, c) }", {"w": (6, 3, 1, 1), "u": (6, 6, 1, 1)}, 0),
    "it is an output": ("g (float[1,3,8,8] x) => (float[1,6,8,8] a, float[1,5,8,8] y) { a = Conv(x, w) y = Conv(a, u) }", {"w": (6, 3, 1, 1), "u": (5, 6, 1, 1)}, 0),
    "sigmoid between": ("g (float[1,3,8,8] x) => (float[1,5,8,8] y) { a = Conv(x, w) s = Sigmoid(a) y = Conv(s, u) }", {"w": (6, 3, 1, 1), "u": (5, 6, 1, 1)}, 0),
    "shared weights": ("g (float[1,6,8,8] x) => (float[1,6,8,8] y) { a = Conv(x, w) r = Relu(a) y = Conv(r, w) }", {"w": (6, 6, 1, 1)}, 0),
    "two channels a group": ("g (float[1,3,8,8] x) => (float[1,6,8,8] y) { a = Conv(x, w) y = Conv<group=3>(a, u) }", {"w": (6, 3, 1, 1), "u": (6, 2, 1, 1)}, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_equalizing_keeps_the_outputs_and_stops_where_it_must(name: str) -> None:
    text, shapes, count = CHAINS[name]
    model = model_of(text, **shapes)
    rescaled(EqualizeChannels(), model, count)
    if name == "convolutions":
        first, second = weights(model, "Conv")
        given, taken = np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(0, 2, 3))
        np.testing.assert_allclose(given, taken, rtol=1e-2)


def test_a_dead_channel_is_left_alone() -> None:
    dead = np.ones((6, 3, 1, 1))
    dead[2] = 0
    model = model_of(
        "g (float[1,3,8,8] x) => (float[1,5,8,8] y) { a = Conv(x, w) r = Relu(a) y = Conv(r, u) }",
        w=dead,
        u=(5, 6, 1, 1),
    )
    rescaled(EqualizeChannels(), model, 1)
    assert (weights(model, "Conv")[0][2] == 0).all()
    assert all(np.isfinite(item).all() for item in weights(model, "Conv"))


NORM = "g (float[1,2,4] x) => (float[1,2,3] y, float[1,2,3] z) { n = LayerNormalization<axis=-1>(x, s, b) y = MatMul(n, w) z = MatMul(n, v) }"


def test_smoothing_by_hand() -> None:
    """One channel of a normalization is a hundred times the others: with equal weights s is sqrt(max|x|)."""
    model = model_of(NORM, s=[1.0, 1.0, 1.0, 100.0], b=[0.0, 0.0, 0.0, 0.0], w=np.ones((4, 3)), v=np.ones((4, 3)))
    rescaled(SmoothActivations(), model, 1)
    (scale,) = weights(model, "LayerNormalization")
    first, second = weights(model, "MatMul")
    np.testing.assert_allclose(first, second)
    np.testing.assert_allclose(scale * first[:, 0], [1, 1, 1, 100], rtol=1e-5)
    assert 5 < scale[3] / scale[:3].mean() < 20  # ten times instead of a hundred


def test_a_normalization_that_a_sum_reads_too_is_left() -> None:
    model = model_of(
        "g (float[1,2,4] x) => (float[1,2,4] y) { n = LayerNormalization<axis=-1>(x, s, b) c = MatMul(n, w) y = Add(n, c) }",
        s=[1.0, 1.0, 1.0, 100.0], b=[0.0, 0.0, 0.0, 0.0], w=np.ones((4, 4)),
    )  # fmt: skip
    rescaled(SmoothActivations(), model, 0)
