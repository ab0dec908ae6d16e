"""Scales, zero points and integers: by hand, and as onnxruntime's QuantizeLinear computes them."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.dtypes import DType
from qcompiler.ir import QuantSpec, affine_parameters, integer_range, quantize

Array = np.ndarray[Any, Any]
U8, I8, U4, I4, I16 = DType.UINT8, DType.INT8, DType.UINT4, DType.INT4, DType.INT16
BY_ORT = [DType.UINT8, DType.INT8, DType.UINT16, DType.INT16, DType.UINT4, DType.INT4]


def by_onnxruntime(x: Array, scale: Array, zero: Array, dtype: DType, axis: int | None) -> Array:
    """QuantizeLinear, cast to int32 so that four bits can come out."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **({} if axis is None else {"axis": axis})),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.INT32),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, x.shape)],
        [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def same_as_onnxruntime(x: Array, scale: Array, zero: Array, spec: QuantSpec) -> None:
    ours = quantize(x, scale, zero, spec)
    assert ours.dtype == spec.dtype.numpy
    np.testing.assert_array_equal(ours.astype(np.int32), by_onnxruntime(x, scale, zero, spec.dtype, spec.axis))


@pytest.mark.parametrize(
    ("spec", "bounds"),
    [
        (QuantSpec(U8), (0, 255)),
        (QuantSpec(I8), (-128, 127)),
        (QuantSpec(I8, symmetric=True), (-127, 127)),
        (QuantSpec(U8, symmetric=True), (0, 255)),
        (QuantSpec(U8, reduced=True), (0, 127)),
        (QuantSpec(I8, reduced=True), (-64, 63)),
        (QuantSpec(I8, symmetric=True, reduced=True), (-63, 63)),
        (QuantSpec(I4), (-8, 7)),
        (QuantSpec(U4), (0, 15)),
        (QuantSpec(I16, symmetric=True), (-32767, 32767)),
    ],
    ids=str,
)
def test_integer_range(spec: QuantSpec, bounds: tuple[int, int]) -> None:
    assert integer_range(spec) == bounds


@pytest.mark.parametrize(
    ("low", "high", "spec", "scale", "zero"),
    [
        (-1, 3, QuantSpec(U8), 4 / 255, 64),  # 1 / (4 / 255) = 63.75
        (-1, 3, QuantSpec(I8), 4 / 255, -64),
        (-1, 3, QuantSpec(I8, symmetric=True), 3 / 127, 0),
        (-1, 3, QuantSpec(U8, symmetric=True), 3 / 127, 128),
        (-4, 3, QuantSpec(I8, symmetric=True), 4 / 127, 0),
        (-1, 3, QuantSpec(I8, reduced=True), 4 / 127, -32),  # 1 / (4 / 127) = 31.75
        (2, 3, QuantSpec(U8), 3 / 255, 0),
        (-3, -2, QuantSpec(U8), 3 / 255, 255),
        (-3, -2, QuantSpec(I8), 3 / 255, 127),
        (-0.5, 14.5, QuantSpec(U4), 1, 0),  # half to even
        (-1.5, 13.5, QuantSpec(U4), 1, 2),
        (0, 0, QuantSpec(U8), 1, 0),
        (0, 0, QuantSpec(I8), 1, 0),
        (0, 0, QuantSpec(U8, symmetric=True), 1, 128),
        (0, 1e-40, QuantSpec(I8), 1, 0),  # the scale would be subnormal
        (-1e-37, 0, QuantSpec(U8), 1, 0),
        (-1e-37, 0, QuantSpec(U8, symmetric=True), 1, 128),
    ],
)  # fmt: skip
def test_parameters_by_hand(low: float, high: float, spec: QuantSpec, scale: float, zero: int) -> None:
    made, point = affine_parameters(low, high, spec)
    assert (made.dtype, point.dtype) == (np.float32, spec.dtype.numpy) and made.shape == point.shape == ()
    assert made == np.float32(scale) and int(point) == zero


def test_parameters_of_channels_are_those_of_each_channel() -> None:
    lows, highs, spec = np.array([-1.0, 0.0, -2.0, 0.0]), np.array([3.0, 0.0, 0.0, 1e-42]), QuantSpec(U8, axis=0)
    scales, zeros = affine_parameters(lows, highs, spec)
    each = [affine_parameters(low, high, spec) for low, high in zip(lows, highs, strict=True)]
    assert scales.tolist() == [float(scale) for scale, _ in each]
    assert zeros.tolist() == [int(zero) for _, zero in each]


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1), (0, np.inf), (-np.inf, 0), ([0, 0], [1, np.nan])])
def test_a_range_that_is_not_finite_is_refused(low: Any, high: Any) -> None:
    with pytest.raises(ValueError, match="not finite"):
        affine_parameters(low, high, QuantSpec(I8))


def test_a_range_too_wide_for_a_float32_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="too wide"):
        affine_parameters(-1e300, 1e300, QuantSpec(I8))


bounds = st.floats(width=32, allow_nan=False, allow_infinity=False)
specs = st.builds(QuantSpec, st.sampled_from([U8, I8, U4, I4, I16]), st.booleans(), reduced=st.booleans())


@given(bounds, bounds, specs)
def test_zero_is_exact_and_the_range_is_covered(a: float, b: float, spec: QuantSpec) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = affine_parameters(low, high, spec)
    bottom, top = integer_range(spec)
    assert bottom <= int(zero) <= top and scale > 0
    assert quantize(np.zeros(1, np.float32), scale, zero, spec).astype(int) == int(zero)
    if scale == 1 and max(-low, high, high - low) < 1e-30:
        return  # nothing there to cover
    x = np.array([low, high, low / 2, high / 3], np.float32)
    back = (quantize(x, scale, zero, spec).astype(np.float64) - int(zero)) * np.float64(scale)
    allowed = 0.5 if spec.symmetric else 1.0  # a rounded zero point shifts the range by up to half a step
    assert (np.abs(back - x) <= (allowed + 1e-4 * 2**spec.dtype.bits / 256) * np.float64(scale)).all()


@given(
    st.sampled_from(BY_ORT),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.floats(2.0**-10, 16, width=32),
    st.floats(0, 1),
)
def test_integers_are_those_of_onnxruntime(dtype: DType, items: list[float], scale: float, where: float) -> None:
    bottom, top = integer_range(QuantSpec(dtype))
    zero = np.asarray(bottom + round(where * (top - bottom))).astype(dtype.numpy)
    same_as_onnxruntime(np.array(items, np.float32), np.float32(scale), zero, QuantSpec(dtype))


@pytest.mark.parametrize("dtype", BY_ORT, ids=lambda d: d.name)
def test_halves_round_to_even_and_far_values_saturate(dtype: DType) -> None:
    x = np.array([0.25, 0.75, 1.25, 1.75, -0.25, -0.75, -1.25, 1e9, -1e9, np.inf, -np.inf], np.float32)
    zero = np.asarray(3).astype(dtype.numpy)
    same_as_onnxruntime(x, np.float32(0.5), zero, QuantSpec(dtype))
    assert quantize(x[:7], np.float32(0.5), zero, QuantSpec(dtype)).astype(int).tolist()[:4] == [3, 5, 5, 7]


@pytest.mark.parametrize("dtype", BY_ORT, ids=lambda d: d.name)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_one_scale_a_slice_along_any_axis(dtype: DType, axis: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, (2, 3, 4)).astype(np.float32)
    others = tuple(i for i in range(3) if i != axis % 3)
    spec = QuantSpec(dtype, axis=axis)
    scale, zero = affine_parameters(x.min(others), x.max(others), spec)
    assert scale.shape == zero.shape == (x.shape[axis],)
    same_as_onnxruntime(x, scale, zero, spec)


def test_reduced_and_symmetric_ranges_are_kept() -> None:
    x = np.array([-1e9, 1e9], np.float32)
    for spec in (QuantSpec(I8, symmetric=True), QuantSpec(I8, reduced=True), QuantSpec(U8, reduced=True)):
        made = quantize(x, np.float32(1), np.int8(0).astype(spec.dtype.numpy), spec)
        assert tuple(made.tolist()) == integer_range(spec)


def test_32_bits_saturate_too() -> None:
    x = np.array([-1e20, 1e20, 7, 3e38], np.float32)
    made = quantize(x, np.float32(0.5), np.int32(0), QuantSpec(DType.INT32))
    assert made.tolist() == [-(2**31), 2**31 - 1, 14, 2**31 - 1]
