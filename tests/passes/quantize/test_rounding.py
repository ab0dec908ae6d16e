"""The passes on whole layers: the integers that they choose do less harm to outputs than the nearest ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from qcompiler.data import open_dataset
from qcompiler.ir import Model
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import infer_types, load, open_session
from qcompiler.passes.quantize import (
    CompensateRounding,
    CorrectBias,
    LearnRounding,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
)
from qcompiler.pipeline import Pass, PassContext

LAYERS = {
    "conv": ("g (float[1,4,8,8] x) => (float[1,6,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w, b) }", (6, 4, 3, 3), QuantizeStatic()),
    "grouped": ("g (float[1,4,8,8] x) => (float[1,6,6,6] y) { y = Conv<group=2>(x, w, b) }", (6, 2, 3, 3), QuantizeStatic()),
    "gemm": ("g (float[9,16] x) => (float[9,6] y) { y = Gemm<transB=1>(x, w, b) }", (6, 16), QuantizeStatic()),
    "matmul": ("g (float[1,9,16] x) => (float[1,9,6] y) { c = MatMul(x, w) y = Add(c, b) }", (16, 6), QuantizeStatic()),
    "dynamic": ("g (float[1,9,16] x) => (float[1,9,6] y) { c = MatMul(x, w) y = Add(c, b) }", (16, 6), QuantizeDynamic()),
    "four bits": ("g (float[1,9,40] x) => (float[1,9,6] y) { c = MatMul(x, w) y = Add(c, b) }", (40, 6), QuantizeWeights(bits=4, block=16, least=1)),
    "with zero points": ("g (float[1,9,40] x) => (float[1,9,6] y) { y = MatMul(x, w) }", (40, 6), QuantizeWeights(bits=4, block=16, symmetric=False, least=1)),
    "four bits, convolution": ("g (float[1,4,8,8] x) => (float[1,6,6,6] y) { y = Conv(x, w, b) }", (6, 4, 3, 3), QuantizeWeights(bits=4, least=1)),
}  # fmt: skip


def layer(name: str) -> tuple[Model, list[dict[str, Any]], Pass]:
    text, shape, item = LAYERS[name]
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    random = np.random.default_rng(1)
    for each, size in (("w", shape), ("b", (6,))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=size).astype(np.float32), each))
    model = load(proto)
    infer_types(model)
    size = [int(item) for item in model.graph.inputs[0].shape or ()]
    inner = size[-1] if len(size) < 4 else size[1]
    mix = random.normal(size=(inner, inner)) + 2 * np.ones((inner, inner)) / inner  # inputs that go together
    samples = []
    for _ in range(12):
        plain = random.normal(size=size) + 0.5
        mixed = plain @ mix if len(size) < 4 else np.einsum("nchw,cd->ndhw", plain, mix)
        samples.append({"x": mixed.astype(np.float32)})
    return model, samples, item


def errors(model: Model, samples: list[dict[str, Any]], passes: list[Pass]) -> np.ndarray:
    """What the quantized model is off, [samples, ...]."""
    context = PassContext(data=open_dataset(samples, open_session(model).inputs), target=OrtCpu())
    for item in passes:
        assert item.run(model, context) > 0, item.name
    made = context.target.lower(model, {group: forms[0] for group, forms in context.facts["forms"].items()})
    first, second = open_session(model, optimize=False), open_session(made, optimize=False)
    return np.stack([second.run(sample)["y"].astype(float) - first.run(sample)["y"] for sample in samples])


@pytest.mark.parametrize("name", LAYERS)
def test_rounding_by_least_squares_brings_the_output_nearer(name: str) -> None:
    model, samples, item = layer(name)
    nearest, compensated, learned = (
        float(np.square(errors(model, samples, [item, *more])).sum())
        for more in ([], [CompensateRounding()], [CompensateRounding(), LearnRounding()])
    )
    # In 8 bits half of the error is the activations', which no weight can help.
    assert compensated < (0.8 if "four" in name or "zero" in name else 0.98) * nearest
    assert learned < 1.02 * compensated


@pytest.mark.parametrize("name", ["conv", "grouped", "gemm", "matmul", "dynamic"])
def test_the_bias_takes_the_mean_of_the_error_away(name: str) -> None:
    model, samples, item = layer(name)
    axes = (
        (0, 1, 3, 4) if "conv" in name or "grouped" in name else tuple(range(errors(model, samples, [item]).ndim - 1))
    )
    before, after = (
        np.abs(errors(model, samples, [item, *more]).mean(axis=axes)).max() for more in ([], [CorrectBias()])
    )
    assert after < 0.75 * before


def test_the_models_own_weights_are_not_touched() -> None:
    model, samples, item = layer("conv")
    before = {value.name: value.const for value in model.graph.constants}
    errors(model, samples, [item, CompensateRounding(), LearnRounding(), CorrectBias()])
    assert {value.name: value.const for value in model.graph.constants} == before


def test_without_data_the_nearest_are_kept_and_the_user_is_told() -> None:
    model, _, item = layer("four bits")
    context = PassContext(target=OrtCpu())
    assert item.run(model, context) == 1
    assert CompensateRounding().run(model, context) == 0
    assert "give --data" in context.warnings[0]
