"""Dynamic and weight-only forms: what is written, that onnxruntime runs it, and that it means what it should."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Model, QuantSpec, quantize_weight, verify
from qcompiler.lower import DYNAMIC, WEIGHTS, Form, OrtCpu, StoredWeight
from qcompiler.onnx_io import load, open_session, to_proto
from qcompiler.passes.quantize import QuantizeStatic, QuantizeWeights
from qcompiler.pipeline import PassContext
from tests.lower.models import model_of

TARGET = OrtCpu()


def lowered(model: Model, form: Any) -> Model:
    groups, _ = TARGET.groups(model)
    made = TARGET.lower(model, {group: form(group) for group in groups})
    verify(made)
    onnx.checker.check_model(to_proto(made))
    return made


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]


def dynamic(group: Any) -> Form:
    return Form(DYNAMIC, TARGET.weight_spec(group.weight_axis))


THREE = (
    "g (float[1,5,32] x) => (float[1,5,8] y, float[1,5,8] z, float[1,5,8] v)"
    " { a = MatMul(x, w) y = Add(a, b) z = MatMul(x, u) c = MatMul(x, t) v = Add(b, c) }"
)


def test_a_shared_input_is_quantized_once_and_biases_are_inside() -> None:
    model = model_of(THREE, w=(32, 8), u=(32, 8), t=(32, 8), b=(8,))
    made = lowered(model, dynamic)
    assert kinds(made) == ["DynamicQuantizeLinear", *["MatMulIntegerToFloat"] * 3]
    assert [value.name for value in made.graph.outputs] == ["y", "z", "v"]
    x = np.random.default_rng(0).normal(size=(1, 5, 32)).astype(np.float32)
    expected, found = (open_session(item).run({"x": x}) for item in (model, made))
    for name, array in expected.items():
        assert np.abs(array - found[name]).max() < 0.1


def test_the_dynamic_form_is_exact_integer_arithmetic() -> None:
    model = model_of("g (float[n,32] x) => (float[n,8] y) { y = Gemm<transB=1>(x, w, b) }", w=(8, 32), b=(8,))
    made = lowered(model, dynamic)
    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
    scale = (high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    q = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    w, b = (next(v for v in model.graph.constants if v.name == name).constant.numpy() for name in "wb")  # type: ignore[union-attr]
    levels, steps, middle = quantize_weight(w, TARGET.weight_spec(0))
    exact = (q @ (levels.astype(float) - middle.astype(float)[:, None]).T) * (scale * steps.astype(float)) + b
    np.testing.assert_allclose(open_session(made).run({"x": x})["y"], exact, rtol=1e-5, atol=1e-5)


def test_a_relu_behind_a_dynamic_gemm_stays() -> None:
    model = model_of("g (float[2,32] x) => (float[2,8] y) { h = Gemm(x, w, b) y = Relu(h) }", w=(32, 8), b=(8,))
    made = lowered(model, dynamic)
    assert kinds(made) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "Relu"]
    assert (open_session(made).run({"x": np.full((2, 32), -1, np.float32)})["y"] >= 0).all()


def stored(model: Model, name: str, spec: QuantSpec) -> np.ndarray:
    """The weight as it comes back from its integers."""
    array = next(v for v in model.graph.constants if v.name == name).constant.numpy()  # type: ignore[union-attr]
    levels, scale, zero = (item.astype(np.float32) for item in quantize_weight(array, spec, search=True))
    assert spec.axis is not None
    if spec.block is not None:
        size = array.shape[spec.axis]
        scale, zero = (
            np.repeat(item, spec.block, axis=spec.axis).take(range(size), spec.axis) for item in (scale, zero)
        )
    else:
        shape = [1] * array.ndim
        shape[spec.axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (levels - zero) * scale


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT4, DType.UINT4])
@pytest.mark.parametrize("inner", [64, 80, 16, 96])
@pytest.mark.parametrize("portable", [False, True])
def test_a_product_with_stored_weights_is_the_product_with_what_they_stand_for(
    dtype: DType, inner: int, portable: bool
) -> None:
    model = model_of(f"g (float[1,5,{inner}] x) => (float[1,5,8] y) {{ y = MatMul(x, w) }}", w=(inner, 8))
    spec = QuantSpec(dtype, symmetric=dtype.is_signed, axis=0, block=32)
    made = lowered(model, lambda group: Form(WEIGHTS, spec, portable=portable))
    assert kinds(made) == (["DequantizeLinear", "MatMul"] if portable else ["MatMulNBits"])
    x = np.random.default_rng(0).normal(size=(1, 5, inner)).astype(np.float32)
    # Optimized, onnxruntime makes MatMulNBits of the portable form too, one that rounds the activations to 8 bits.
    found = open_session(made, optimize=not portable).run({"x": x})["y"]
    np.testing.assert_allclose(found, x @ stored(model, "w", spec), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("portable", [False, True])
def test_a_table_gives_the_rows_that_it_stands_for(bits: int, portable: bool) -> None:
    model = model_of("g (int64[n] i) => (float[n,64] y) { y = Gather(t, i) }", t=(100, 64))
    spec = QuantSpec(DType.INT8 if bits == 8 else DType.INT4, symmetric=True, axis=1, block=32)
    made = lowered(model, lambda group: Form(WEIGHTS, spec, portable=portable))
    assert kinds(made) == (["DequantizeLinear", "Gather"] if portable else ["GatherBlockQuantized"])
    found = open_session(made).run({"i": np.array([3, 99, 0])})["y"]
    np.testing.assert_allclose(found, stored(model, "t", spec)[[3, 99, 0]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT4])
def test_a_convolution_stores_its_weights_per_channel(dtype: DType) -> None:
    model = model_of("g (float[1,8,5,5] x) => (float[1,8,3,3] y) { y = Conv(x, w, b) }", w=(8, 8, 3, 3), b=(8,))
    spec = QuantSpec(dtype, symmetric=True, axis=0)
    made = lowered(model, lambda group: Form(WEIGHTS, spec))
    assert kinds(made) == ["DequantizeLinear", "Conv"]
    assert made.opset == (17 if dtype is DType.INT8 else 21)
    open_session(made).run({"x": np.ones((1, 8, 5, 5), np.float32)})


def test_weights_that_a_float_node_reads_too_stay_for_it() -> None:
    model = model_of("g (float[4,32] x) => (float[4,8] y, float[32,8] z) { y = MatMul(x, w) z = Neg(w) }", w=(32, 8))
    made = lowered(model, dynamic)
    feeds = {"x": np.ones((4, 32), np.float32)}
    assert (open_session(model).run(feeds)["z"] == open_session(made).run(feeds)["z"]).all()


def test_chosen_integers_are_written_as_they_are() -> None:
    model = model_of("g (float[4,32] x) => (float[4,8] y) { y = MatMul(x, w) }", w=(32, 8))
    levels, scale, zero = np.full((32, 8), 5, np.int8), np.full(8, 0.5, np.float32), np.zeros(8, np.int8)
    kept = StoredWeight(levels, scale, zero, bias=np.full(8, 7, np.float32))
    made = lowered(model, lambda group: Form(DYNAMIC, QuantSpec(DType.INT8, symmetric=True, axis=1), stored=kept))
    found = open_session(made).run({"x": np.ones((4, 32), np.float32)})["y"]
    np.testing.assert_allclose(found, 32 * 2.5 + 7, rtol=1e-4)


def test_blocks_have_scales_of_their_own_and_the_last_may_be_short() -> None:
    array = np.arange(1, 7, dtype=np.float32)[:, None] * np.array([1, -2], np.float32)  # [6, 2], blocks of 4
    levels, scale, zero = quantize_weight(array, QuantSpec(DType.INT8, symmetric=True, axis=0, block=4))
    np.testing.assert_allclose(scale, np.array([[4, 8], [6, 12]]) / 127)
    assert (zero == 0).all() and levels.shape == (6, 2)
    assert levels[3].tolist() == [127, -127] and levels[5].tolist() == [127, -127]
    assert levels[0].tolist() == [32, -32]  # 127 / 4 = 31.75


def test_narrower_ranges_are_taken_only_where_they_are_better() -> None:
    array = np.array([[7, 1, 1, 1, 1, 1, 1, 1], [7, -7, 3, 5, 2, 1, 0, 4]], np.float32)
    spec = QuantSpec(DType.INT4, symmetric=True, axis=0)
    plain, found = (quantize_weight(array, spec, search=search) for search in (False, True))
    errors = [np.square(q.astype(float) * s[:, None] - array).sum(1) for q, s, _ in (plain, found)]
    assert errors[1][1] == errors[0][1] == 0
    assert (errors[1] <= errors[0] + 1e-6).all()


CONVOLVED = "g (float[1,8,6,6] x) => (float[1,8,4,4] y) { a = Conv(x, w) y = Relu(a) }"
MULTIPLIED = "g (float[1,5,32] x) => (float[1,5,8] y) { a = MatMul(x, w) y = Add(a, b) }"


@pytest.mark.parametrize("text", [CONVOLVED, MULTIPLIED])
@pytest.mark.parametrize(
    ("activations", "symmetric", "decibels"),
    [("uint8", False, 30), ("uint8", True, 25), ("int8", False, 30), ("int8", True, 25), ("uint16", False, 38),
     ("int16", True, 38)],
)  # fmt: skip
def test_static_forms_of_every_type_of_activation(
    text: str, activations: str, symmetric: bool, decibels: float
) -> None:
    model = model_of(text, w=(8, 8, 3, 3)) if text is CONVOLVED else model_of(text, w=(32, 8), b=(8,))
    shape = (1, 8, 6, 6) if text is CONVOLVED else (1, 5, 32)
    rows = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    context = PassContext(data=open_dataset({"x": rows}, input_specs(model)), target=TARGET)
    QuantizeStatic(activations=activations, symmetric=symmetric).run(model, context)
    made = TARGET.lower(model, {group: forms[0] for group, forms in context.facts["forms"].items()})
    verify(made)
    onnx.checker.check_model(to_proto(made))
    assert made.opset == (21 if "16" in activations else 17)
    zeros = {np.asarray(value.const.numpy()).dtype.name for value in made.graph.constants
             if value.const is not None and value.name == "x_zero_point"}  # fmt: skip
    assert zeros == {activations}
    before, after = open_session(model), open_session(made)
    assert signal_to_noise(before, after, [{"x": row} for row in rows]) > decibels


def signal_to_noise(before: Any, after: Any, samples: list[dict[str, Any]]) -> float:
    pairs = [(before.run(sample)["y"], after.run(sample)["y"]) for sample in samples]
    signal, noise = sum(np.square(a).sum() for a, _ in pairs), sum(np.square(a - b).sum() for a, b in pairs)
    return float(10 * np.log10(signal / noise))


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("g (float[1,5,64] x) => (float[1,5,40] y) { y = MatMul(x, w) }", (64, 40)),
        ("g (float[1,5,72] x) => (float[1,5,40] y) { y = MatMul(x, w) }", (72, 40)),
        ("g (float[1,8,6,6] x) => (float[1,32,4,4] y) { y = Conv(x, w) }", (32, 8, 3, 3)),
    ],
)
@pytest.mark.parametrize(
    ("options", "decibels"),
    [
        ({"bits": 2}, 6), ({"bits": 2, "symmetric": False}, 6), ({"bits": 2, "portable": True}, 6),
        ({"bits": 4, "symmetric": False}, 18), ({"bits": 16}, 60), ({"bits": 16, "half": "bfloat16"}, 45),
    ],
)  # fmt: skip
def test_weights_of_every_size(text: str, weights: tuple[int, ...], options: dict[str, Any], decibels: float) -> None:
    model = model_of(text, w=weights)
    context = PassContext(target=TARGET)
    assert QuantizeWeights(least=1, **options).run(model, context) == 1
    made = TARGET.lower(model, {group: forms[0] for group, forms in context.facts["forms"].items()})
    verify(made)
    onnx.checker.check_model(to_proto(made))
    (spec,) = input_specs(model)
    rows = np.random.default_rng(0).standard_normal((8, *spec.shape)).astype(np.float32)  # type: ignore[misc]
    samples = [{"x": row} for row in rows]
    assert signal_to_noise(open_session(model), open_session(made), samples) > decibels


def test_a_weight_that_float16_cannot_say_is_refused() -> None:
    model = model_of("g (float[1,4] x) => (float[1,4] y) { y = MatMul(x, w) }", w=(4, 4))
    proto = to_proto(model)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((4, 4), 1e5, np.float32), "w"))
    model = load(proto)
    (group,), _ = TARGET.groups(model)
    with pytest.raises(LoweringError, match="too large for float16"):
        TARGET.lower(model, {group: Form(WEIGHTS, QuantSpec(DType.FLOAT16))})


@pytest.mark.parametrize("text", [MULTIPLIED, "g (float[1,5,32] x) => (float[1,5,8] y) { y = MatMul(x, w) }"])
@pytest.mark.parametrize("activations", ["uint8", "uint16"])
def test_a_chosen_bias_stands_for_the_groups_own(text: str, activations: str) -> None:
    model = model_of(text, w=(32, 8), b=(8,)) if text is MULTIPLIED else model_of(text, w=(32, 8))
    rows = np.random.default_rng(0).standard_normal((8, 1, 5, 32)).astype(np.float32)
    context = PassContext(data=open_dataset({"x": rows}, input_specs(model)), target=TARGET)
    QuantizeStatic(activations=activations).run(model, context)
    ((group, (form,)),) = context.facts["forms"].items()
    assert group.weight is not None and group.weight.constant is not None
    chosen = StoredWeight(*form.levels(group.weight.constant.numpy()), bias=np.full(8, 100, np.float32))
    made = TARGET.lower(model, {group: dataclasses.replace(form, stored=chosen)})
    verify(made)
    found = open_session(made).run({"x": rows[0]})["y"]
    np.testing.assert_allclose(found.mean(), (rows[0] @ group.weight.constant.numpy()).mean() + 100, atol=0.5)
