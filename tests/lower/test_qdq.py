"""Where Q/DQ pairs stand, what they hold, and that onnxruntime fuses every one of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.calibrate import collect
from qcompiler.ir import Model, Quantization, affine_parameters, format_graph, tensor, verify
from qcompiler.lower import STATIC, Form, Group, OrtCpu, optimized_nodes
from qcompiler.onnx_io import load, open_session, save, to_proto
from qcompiler.search import Quality
from tests.lower.models import model_of

TARGET = OrtCpu()
RANDOM = np.random.default_rng(0)


def static(target: OrtCpu, group: Group) -> Form:
    return Form(STATIC, target.weight_spec(group.weight_axis))


def lowered(
    model: Model, *, count: int = 8, only: slice = slice(None), target: OrtCpu = TARGET
) -> tuple[Model, list[dict[str, Any]]]:
    session = open_session(model)
    random = np.random.default_rng(1)
    samples = [
        {
            spec.name: random.standard_normal([size if isinstance(size, int) else 1 for size in spec.shape]).astype(
                np.float32
            )
            for spec in session.inputs
        }
        for _ in range(count)
    ]
    groups, _ = target.groups(model)
    for value, seen in collect(model, target.observed(model, groups), samples).items():
        spec = target.activation_spec()
        low, high = seen.minmax()
        bounds = np.asarray(low, np.float32), np.asarray(high, np.float32)
        value.quant = Quantization(spec, *affine_parameters(low, high, spec), *bounds)
    made = target.lower(model, {group: static(target, group) for group in groups[only] if group.data})
    verify(made)
    onnx.checker.check_model(to_proto(made), full_check=True)
    return made, samples


def fused(model: Model, folder: Path) -> Counter[str]:
    path = folder / "optimized.onnx"
    open_session(model, optimized_to=path)
    return Counter(node.op_type for node in optimized_nodes(path))


def decibels(a: Model, b: Model, samples: list[dict[str, Any]], **options: Any) -> float:
    quality, first, second = Quality(), open_session(a, optimize=False), open_session(b, **options)
    for sample in samples:
        quality.add(first.run(sample), second.run(sample))
    return quality.sqnr_db


CASES = {
    "conv": ("g (float[1,8,9,9] x) => (float[1,16,9,9] y) { y = Conv<pads=[1,1,1,1]>(x, w, b) }",
             {"w": (16, 8, 3, 3), "b": (16,)}, {"QLinearConv": 1}),
    "conv without bias": ("g (float[1,8,9,9] x) => (float[1,16,7,7] y) { y = Conv(x, w) }",
                          {"w": (16, 8, 3, 3)}, {"QLinearConv": 1}),
    "depthwise": ("g (float[1,8,9,9] x) => (float[1,8,7,7] y) { y = Conv<group=8>(x, w, b) }",
                  {"w": (8, 1, 3, 3), "b": (8,)}, {"QLinearConv": 1}),
    "conv relu": ("g (float[1,8,9,9] x) => (float[1,16,7,7] y) { c = Conv(x, w, b) y = Relu(c) }",
                  {"w": (16, 8, 3, 3), "b": (16,)}, {"QLinearConv": 1, "Relu": 0}),
    "residual": ("g (float[1,8,9,9] x) => (float[1,8,9,9] y) { c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c)"
                 " d = Conv<pads=[1,1,1,1]>(r, v, b) s = Add(d, r) t = Relu(s) y = Conv<pads=[1,1,1,1]>(t, w, b) }",
                 {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3), "b": (8,)}, {"QLinearConv": 3, "QLinearAdd": 1, "Relu": 0}),
    "pool and concat": ("g (float[1,8,9,9] x) => (float[1,4,4,4] y) { a = Conv<pads=[1,1,1,1]>(x, w, b)"
                        " r = Relu(a) c = Conv<pads=[1,1,1,1]>(x, v, b) k = Concat<axis=1>(r, c)"
                        " p = MaxPool<kernel_shape=[3,3], strides=[2,2]>(k) y = Conv(p, u) }",
                        {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3), "b": (8,), "u": (4, 16, 1, 1)},
                        {"QLinearConv": 3, "QLinearConcat": 1, "MaxPool": 0}),
    "gemm": ("g (float[n,32] x) => (float[n,8] y) { y = Gemm(x, w, b) }", {"w": (32, 8), "b": (8,)}, {"QGemm": 1}),
    "gemm transposed": ("g (float[n,32] x) => (float[n,8] y) { y = Gemm<transB=1>(x, w, b) }",
                        {"w": (8, 32), "b": (8,)}, {"QGemm": 1}),
    "gemm relu gemm": ("g (float[n,32] x) => (float[n,8] y) { h = Gemm(x, w, b) r = Relu(h) y = Gemm(r, v, c) }",
                       {"w": (32, 16), "b": (16,), "v": (16, 8), "c": (8,)}, {"QGemm": 2, "Relu": 0}),
    "matmul": ("g (float[n,5,32] x) => (float[n,5,8] y) { y = MatMul(x, w) }", {"w": (32, 8)}, {"MatMulIntegerToFloat": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_planned_op_is_fused_and_close(name: str, tmp_path: Path) -> None:
    text, weights, expected = CASES[name]
    model = model_of(text, **weights)
    made, samples = lowered(model)
    found = fused(made, tmp_path)
    assert {kind: found[kind] for kind in expected} == expected, found
    assert decibels(model, made, samples) > 28
    # The graph as written and the fused one agree far closer than either with float.
    assert decibels(made, made, samples) > decibels(model, made, samples) + 3


def test_where_pairs_stand() -> None:
    model = model_of(
        "g (float[1,8,5,5] x) => (float[1,4,5,5] y) { c = Conv(x, w, b) r = Relu(c) y = Conv(r, v) }",
        w=(8, 8, 1, 1), b=(8,), v=(4, 8, 1, 1),
    )  # fmt: skip
    made, _ = lowered(model)
    lines = [
        line.split("{")[0].strip() for line in format_graph(made.graph).splitlines() if "(" in line and "=" in line
    ]
    assert [line for line in lines if "const" not in line and not line.startswith("graph")][-12:] == [
        "x_quantized = QuantizeLinear(x, x_scale, x_zero_point)",
        "x_dequantized = DequantizeLinear(x_quantized, x_scale, x_zero_point)",
        "w_dequantized = DequantizeLinear(w_quantized, w_scale, w_zero_point)",
        "b_dequantized = DequantizeLinear(b_quantized, b_scale, b_zero_point)",
        "c = Conv(x_dequantized, w_dequantized, b_dequantized)",
        "r = Relu(c)",
        "r_quantized = QuantizeLinear(r, r_scale, r_zero_point)",
        "r_dequantized = DequantizeLinear(r_quantized, r_scale, r_zero_point)",
        "v_dequantized = DequantizeLinear(v_quantized, v_scale, v_zero_point)",
        "y_float = Conv(r_dequantized, v_dequantized)",
        "y_quantized = QuantizeLinear(y_float, y_scale, y_zero_point)",
        "y = DequantizeLinear(y_quantized, y_scale, y_zero_point)",
    ]


@pytest.mark.parametrize(("saturates", "middle", "dtype"), [(False, 0, np.int8), (True, 128, np.uint8)])
def test_weights_are_symmetric_per_channel_and_bias_has_the_products_scale(
    saturates: bool, middle: int, dtype: type
) -> None:
    model = model_of("g (float[1,8,5,5] x) => (float[1,8,5,5] y) { y = Conv(x, w, b) }", w=(8, 8, 1, 1), b=(8,))
    weights = next(value for value in model.graph.constants if value.name == "w").constant
    bias = next(value for value in model.graph.constants if value.name == "b").constant
    assert weights is not None and bias is not None
    made, _ = lowered(model, target=OrtCpu(saturates=saturates))
    held = {value.name: value.const.numpy() for value in made.graph.constants if value.const is not None}  # type: ignore[union-attr]
    scale = np.abs(weights.numpy()).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(held["w_scale"], scale, rtol=1e-6)
    assert (held["w_zero_point"] == middle).all() and held["w_quantized"].dtype == dtype
    assert np.abs(held["w_quantized"].astype(int) - middle).max() == 127
    np.testing.assert_allclose(held["b_scale"], held["w_scale"] * held["x_scale"], rtol=1e-6)
    np.testing.assert_array_equal(held["b_quantized"], np.rint(bias.numpy() / held["b_scale"]).astype(np.int32))


def test_a_shared_weight_serves_an_integer_and_a_float_user() -> None:
    model = model_of("g (float[n,32] x, float[n,32] z) => (float[n,32] y, float[n,32] q) { y = MatMul(x, w) q = MatMul(z, w) }",
                     w=(32, 32))  # fmt: skip
    made, samples = lowered(model, only=slice(0, 1))
    names = [value.name for value in made.graph.constants]
    assert "w" in names and "w_quantized" in names
    quality = Quality()
    for sample in samples:
        quality.add(open_session(model).run(sample), open_session(made).run(sample))
    assert quality.outputs["q"].sqnr_db > 100 and quality.outputs["y"].sqnr_db > 28


def test_a_weight_shared_by_two_integer_users_is_stored_once() -> None:
    model = model_of("g (float[n,32] x) => (float[n,32] y) { h = MatMul(x, w) y = MatMul(h, w) }", w=(32, 32))
    made, samples = lowered(model)
    assert sum(value.name.startswith("w_quantized") for value in made.graph.constants) == 1
    assert decibels(model, made, samples) > 25


def test_the_source_model_is_not_touched() -> None:
    model = model_of("g (float[n,32] x) => (float[n,8] y) { y = Gemm(x, w, b) }", w=(32, 8), b=(8,))
    before = format_graph(model.graph)
    lowered(model)
    assert format_graph(model.graph) == before


def test_a_large_bias_over_tiny_weights_does_not_overflow() -> None:
    model = model_of("g (float[1,4,5,5] x) => (float[1,4,5,5] y) { y = Conv(x, w, b) }", w=(4, 4, 1, 1), b=(4,))
    for value in list(model.graph.constants):
        array = value.const.numpy() * (1e-9 if value.name == "w" else 1e3)  # type: ignore[union-attr]
        value.const = tensor(array.astype(np.float32))
    made, samples = lowered(model)
    assert decibels(model, made, samples) > 25


def test_a_group_whose_output_is_read_by_float_ops_and_given_by_the_graph() -> None:
    model = model_of(
        "g (float[1,8,5,5] x) => (float[1,8,5,5] c, float[1,8,5,5] y) { c = Conv(x, w, b) s = Sigmoid(c) y = Mul(c, s) }",
        w=(8, 8, 1, 1), b=(8,),
    )  # fmt: skip
    made, samples = lowered(model)
    assert [value.name for value in made.graph.outputs] == ["c", "y"]
    assert decibels(model, made, samples) > 28


@pytest.mark.parametrize(
    ("text", "weights", "reason"),
    [
        ("g (float[1,4,5,5] x, float[4,4,1,1] w) => (float[1,4,5,5] y) { y = Conv(x, w) }", {}, "weights are computed"),
        ("g (float[n,8] x, float[8,8] z) => (float[n,8] y) { y = MatMul(x, z) }", {}, "both factors"),
        ("g (float[n,16] x) => (float[n,8] y) { y = Gemm<alpha=2.0>(x, w, b) }", {"w": (16, 8), "b": (8,)}, "scaled"),
        (
            "g (float[1,4,5,5] x) => (float[1,4,5,5] y) { y = ConvTranspose(x, w) }",
            {"w": (4, 4, 1, 1)},
            "ConvTranspose",
        ),
        ("g (float[n,2] x) => (float[n,2] y) { y = MatMul(x, w) }", {"w": (2, 2)}, "handful"),
        ("g (float[2,8,8] x) => (float[2,8,8] y) { y = MatMul(x, w) }", {"w": (2, 8, 8)}, "3 axes"),
    ],
)
def test_what_stays_float_has_a_reason(text: str, weights: dict[str, Any], reason: str) -> None:
    groups, refused = TARGET.groups(model_of(text, **weights))
    assert groups == []
    (why,) = refused.values()
    assert reason in why


def test_an_old_operator_set_stays_float() -> None:
    model = model_of("g (float[n,32] x) => (float[n,8] y) { y = MatMul(x, w) }", opset=11, w=(32, 8))
    groups, refused = TARGET.groups(model)
    assert groups == [] and "operator set 11" in next(iter(refused.values()))


def test_the_result_survives_a_file(tmp_path: Path) -> None:
    model = model_of("g (float[n,32] x) => (float[n,8] y) { y = Gemm(x, w, b) }", w=(32, 8), b=(8,))
    made, samples = lowered(model)
    save(made, tmp_path / "m.onnx", external_data=True)
    assert decibels(made, load(tmp_path / "m.onnx"), samples, optimize=False) == np.inf


def test_the_extremes_of_both_factors_are_multiplied_right() -> None:
    """A processor without 8-bit dot products saturates at 16 bits: the form of the weights has to avoid it."""
    model = model_of("g (float[n,64] x) => (float[n,16] y) { y = MatMul(x, w) }", w=(64, 16))
    for value in model.graph.constants:
        value.const = tensor(np.ones((64, 16), np.float32))
    made, _ = lowered(model)
    held = {value.name: value.const.numpy() for value in made.graph.constants if value.const is not None}  # type: ignore[union-attr]
    x = np.full((2, 64), (255 - float(held["x_zero_point"])) * held["x_scale"], np.float32)
    y = open_session(made).run({"x": x})["y"]
    np.testing.assert_allclose(y, x @ np.ones((64, 16), np.float32), rtol=1e-5)
