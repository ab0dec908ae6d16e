"""Target tensorrt: what every lowered model has, and what it does with the ugly ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Model, Node, Quantization, QuantSpec, affine_parameters, verify
from qcompiler.lower import STATIC, WEIGHTS, Form, StoredWeight, TensorRt
from qcompiler.lower.tensorrt import package
from qcompiler.lower.tensorrt.cost import eight_bits, node_seconds
from qcompiler.lower.tensorrt.engine import planned_8_bits
from qcompiler.onnx_io import infer_types, load, open_session, to_proto
from tests.lower.models import model_of, proto_of
from tests.lower.tensorrt import CONV, WEIGHT, engine_of, lowered, noise, observe

BLOCKS = [
    "{y} = Conv<pads=[1,1,1,1]>({x}, w3)", "{y} = Conv({x}, w1)", "{y} = Relu({x})", "{y} = Sigmoid({x})",
    "{y} = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1]>({x})", "{y} = Add({x}, {z})", "{y} = Mul({x}, {z})",
    "{y}c = Concat<axis=1>({x}, {z})  {y} = Conv({y}c, wc)", "{y}a, {y}b = Split<axis=1>({x})  {y} = Concat<axis=1>({y}b, {y}a)",
    "{y}t = Transpose<perm=[0,2,3,1]>({x})  {y}m = MatMul({y}t, m)  {y} = Transpose<perm=[0,3,1,2]>({y}m)",
    '{y}r = Resize<mode="nearest">({x}, , by)  {y} = MaxPool<kernel_shape=[2,2], strides=[2,2]>({y}r)',
    "{y}t = Transpose<perm=[0,1,3,2]>({x})  {y} = MatMul({x}, {y}t)", "{y} = Conv<pads=[1,1,1,1], group=8>({x}, wd)",
]  # fmt: skip


SIZES = {"w3": (8, 8, 3, 3), "w1": (8, 8, 1, 1), "wc": (8, 16, 1, 1), "m": (8, 8), "wd": (8, 1, 3, 3)}


@st.composite
def networks(draw: st.DrawFn) -> Model:
    """Chains with joins back to anything before."""
    values, lines = ["x"], []
    for index, block in enumerate(draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=7))):
        before, other = values[-1], draw(st.sampled_from(values))
        lines.append(block.format(x=before, z=other, y=f"v{index}"))
        values.append(f"v{index}")
    outputs = dict.fromkeys([values[-1], draw(st.sampled_from(values[1:]))])
    given = ", ".join(f"float[1,8,8,8] {name}" for name in outputs)
    return model_of(
        f"agraph (float[1,8,8,8] x) => ({given}) {{ by = Constant<value_floats=[1.0,1.0,2.0,2.0]>() {' '.join(lines)} }}",
        17,
        **SIZES,
    )


@settings(deadline=None, max_examples=60)
@given(networks(), st.sampled_from(["float16", "bfloat16", "float32"]), st.sampled_from(["int8", "float"]),
       st.sampled_from(["int8", "float8"]))  # fmt: skip
def test_any_network(model: Model, floats: str, weights: str, products: str) -> None:
    before = [(value.name, value.dtype, value.shape) for value in model.graph.outputs]
    target = TensorRt(floats=floats, weights=weights, products=products)
    made = lowered(model, target)
    verify(made)
    groups, _ = target.groups(model)
    twins = {node.name: node for node in made.graph}
    assert all(eight_bits(twins[group.anchor.name]) == products for group in groups)
    assert [(value.name, value.dtype, value.shape) for value in made.graph.outputs] == before
    for node in made.graph:
        if node.is_op("QuantizeLinear", "DequantizeLinear"):
            zero = node.inputs[2]
            assert zero is not None and zero.constant is not None
            assert zero.constant.dtype in (DType.INT8, DType.FLOAT8E4M3FN) and not zero.constant.numpy().any()
        if node.is_op("QuantizeLinear"):
            backs = node.output.users()
            assert [back.op_type for back in backs] == ["DequantizeLinear"]
            assert _number(node.inputs[1]) == _number(backs[0].inputs[1])
    _no_pair_for_floats(made)
    onnx.checker.check_model(to_proto(made), full_check=True)
    if floats != "bfloat16":
        open_session(made, optimize=False)  # as it is, halves and all
    session = target.open(made, 1)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 8, 8, 8)).astype(np.float32)}
    found, exact = session.run(feed), open_session(model).run(feed)
    for name, array in found.items():
        assert array.shape == exact[name].shape and np.isfinite(array).all()


def _number(value: Any) -> list[float]:
    return list(np.asarray(value.constant.numpy(), np.float64).reshape(-1))


def _no_pair_for_floats(made: Model) -> None:
    """Behind a DequantizeLinear of an activation stands what runs in int8 or leads there, or a sum."""
    for node in made.graph:
        if node.is_op("DequantizeLinear"):
            for user in node.output.users():
                assert eight_bits(user) or user.is_op(
                    "Concat", "MaxPool", "Resize", "Split", "Transpose", "Add", "Cast"
                ), user


def test_shared_weights_have_one_form() -> None:
    text = "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { a = Conv(x, w1)  r = Relu(a)  y = Conv(r, w1) }"
    made = lowered(model_of(text, 17, w1=(8, 8, 1, 1)))
    backs = [node for node in made.graph if node.name == "w1/dequantize"]
    assert len(backs) == 1 and len(backs[0].output.uses) == 2


def test_weights_behind_a_quantizer_give_the_same_numbers() -> None:
    model = model_of(CONV, 17, **WEIGHT)
    packed, plain = (
        lowered(model, TensorRt(floats="float32")),
        lowered(model, TensorRt(floats="float32", weights="float")),
    )
    assert sum(node.is_op("QuantizeLinear") for node in plain.graph) == 4
    feed = {"x": np.random.default_rng(0).standard_normal((1, 8, 8, 8)).astype(np.float32)}
    target = TensorRt()
    assert np.array_equal(target.open(packed, 1).run(feed)["y"], target.open(plain, 1).run(feed)["y"])


@pytest.mark.parametrize("floats", ["float16", "bfloat16"])
def test_scales_are_the_same_number_in_both_types(floats: str) -> None:
    made = lowered(model_of(CONV, 17, **WEIGHT), TensorRt(floats=floats))
    kinds = {value.dtype for value in made.graph.constants if "scale" in value.name}
    assert kinds == {DType.FLOAT, DType[floats.upper()]}  # the input is quantized from float32
    assert noise(model_of(CONV, 17, **WEIGHT), made) < (0.003 if floats == "float16" else 0.01)


def test_scales_too_small_for_halves_keep_their_convolution_in_float32() -> None:
    proto = proto_of(CONV, 17, **WEIGHT)
    tiny = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    tiny[0] *= np.float32(1e-4)  # one channel is enough
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(tiny, "w1"))
    model = load(proto)
    infer_types(model)
    made = lowered(model)
    nodes = {node.name: node for node in made.graph}
    assert nodes["a"].output.dtype is DType.FLOAT and nodes["y"].output.dtype is DType.FLOAT16
    assert all(eight_bits(nodes[name]) for name in ("a", "y"))


def test_four_bits_in_blocks_are_dequantized_by_the_standard() -> None:
    model = model_of("agraph (float[2,256] x) => (float[2,128] y) { y = MatMul(x, w) }", 17, w=(256, 128))
    target = TensorRt()
    observe(model, target)
    groups, _ = target.groups(model)
    spec = QuantSpec(DType.INT4, symmetric=True, axis=0, block=64)
    made = target.lower(model, {groups[0]: Form(WEIGHTS, spec)})
    (back,) = [node for node in made.graph if node.is_op("DequantizeLinear")]
    assert back.attr("block_size") == 64 and made.opset >= 21 and not planned_8_bits(made)
    if package().startswith("tensorrt_rtx"):
        assert any("int4" in layer.reads for layer in engine_of(made, 89))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (QuantSpec(DType.UINT8), "around zero alone"),
        (QuantSpec(DType.UINT8, symmetric=True), "no uint8"),
        (QuantSpec(DType.INT16, symmetric=True), "no int16"),
        (QuantSpec(DType.INT4, symmetric=True), "no int4"),
        (QuantSpec(DType.INT8, symmetric=True, axis=0, block=32), "blocks of 4 bits alone"),
        (QuantSpec(DType.INT2, symmetric=True, axis=0), "no int2"),
        (QuantSpec(DType.INT8, symmetric=True), ""),
        (QuantSpec(DType.INT4, symmetric=True, axis=0, block=32), ""),
        (QuantSpec(DType.FLOAT16), ""),
        (QuantSpec(DType.FLOAT8E4M3FN, symmetric=True), "no float8e4m3fn there beside products in int8"),
    ],
)
def test_what_it_takes(spec: QuantSpec, reason: str) -> None:
    found = TensorRt().refuses(spec)
    assert reason in found and bool(found) == bool(reason)


def test_factors_are_of_one_kind() -> None:
    target = TensorRt(products="float8")
    assert "no int8 there beside products in float8" in target.refuses(QuantSpec(DType.INT8, symmetric=True))
    assert not target.refuses(QuantSpec(DType.INT8, symmetric=True, axis=1))  # of weights alone
    assert not target.refuses(target.activation_spec())


def test_float8_of_small_weights_fits_float16() -> None:
    """Its scale is the largest over 448: that of ordinary weights would lie below what float16 holds."""
    proto = proto_of(CONV, 17, **WEIGHT)
    for item in proto.graph.initializer:
        item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * np.float32(0.02), item.name))
    model = load(proto)
    infer_types(model)
    made = lowered(model, TensorRt(products="float8"))
    assert noise(model, made) < 0.01
    first = next(node for node in made.graph if node.name == "w1/dequantize")
    assert first.output.dtype is DType.FLOAT16


def test_zero_points_are_refused() -> None:
    target = TensorRt()
    model = model_of(CONV, 17, **WEIGHT)
    observe(model, target)
    groups, _ = target.groups(model)
    model.graph.inputs[0].quant.zero_point = np.asarray(3, np.int8)  # type: ignore[union-attr]
    with pytest.raises(LoweringError, match="zero point, and TensorRT takes 0 alone"):
        target.lower(model, {group: Form(STATIC, target.weight_spec(0)) for group in groups})


@pytest.mark.parametrize(
    ("text", "weights", "reason"),
    [
        ("agraph (float[1,8,8,8] x) => (float[1,4,16,16] y) { y = ConvTranspose<strides=[2,2]>(x, w) }", (8, 4, 2, 2), "tensorrt.transposed=true"),
        ("agraph (float[8,8] x, float[8] v) => (float[8] y) { y = MatMul(x, v) }", None, "ranks of its factors"),
        ("agraph (float[1,8] x) => (float[1,8] y) { y = Gemm<alpha=0.5>(x, w) }", (8, 8), "scaled or transposed"),
        ("agraph (float[1,8,4,4,4,4] x) => (float[1,8,4,4,4,4] y) { y = Conv(x, w) }", (8, 8, 1, 1, 1, 1), "no convolution with 6 axes"),
    ],
)  # fmt: skip
def test_what_stays_float(text: str, weights: tuple[int, ...] | None, reason: str) -> None:
    model = model_of(text, 17, **({"w": weights} if weights else {}))
    groups, refused = TensorRt().groups(model)
    assert not groups and reason in next(iter(refused.values()))


def test_the_estimate_knows_int8_and_fusion() -> None:
    text = "agraph (float[1,256,64,64] x) => (float[1,256,64,64] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  y = Conv<pads=[1,1,1,1]>(r, w2) }"
    model = model_of(text, 17, w1=(256, 256, 3, 3), w2=(256, 256, 3, 3))
    target = TensorRt()
    made = lowered(model)
    before, after = node_seconds(model, target.card), node_seconds(made, target.card)
    assert max(before["r"], after["r"], after["r/quantize"]) < 1e-10
    assert 1.5 < sum(before.values()) / sum(after.values()) < 2.2
    nodes = {node.name: node for node in made.graph}
    assert target.runs_as(nodes["a"]) == "int8 Conv" and target.runs_as(nodes["r"]) == "Relu"


def test_names_of_nodes_are_unlike() -> None:
    """TensorRT tells layers by them."""
    made = lowered(model_of(CONV, 17, **WEIGHT))
    names = [node.name for node in made.graph if isinstance(node, Node)]
    assert len(set(names)) == len(names)


def test_a_corrected_bias_is_inside_the_pair() -> None:
    """A MatMul without a bias gets one: what is read in int8 is the corrected result, and nothing is left over."""
    text = "agraph (float[4,8] x) => (float[4,8] y) { g = Relu(x) a = MatMul(g, w1) b = MatMul(a, w2) y = Relu(b) }"
    model = model_of(text, 17, w1=(8, 8), w2=(8, 8))
    target = TensorRt()
    observe(model, target)
    plan = {}
    for group in target.groups(model)[0]:
        form = Form(STATIC, target.weight_spec(1))
        levels, scale, zero = form.levels(group.weight.constant.numpy())  # type: ignore[union-attr]
        plan[group] = replace(form, stored=StoredWeight(levels, scale, zero, np.full(8, 0.25, np.float32)))
    made = target.lower(model, plan)
    nodes = {node.name: node for node in made.graph}
    assert nodes["a/quantize"].inputs[0] is nodes["a/bias"].output
    assert all(node.output.uses for node in made.graph)
    assert nodes["a/bias"].output.dtype is DType.FLOAT16
    assert eight_bits(nodes["a"]) and eight_bits(nodes["b"])


def test_sizes_of_a_resize_stay_float32() -> None:
    text = """agraph (float[1,8,8,8] x) => (float[1,8,16,16] y) { by = Constant<value_floats=[1.0,1.0,2.0,2.0]>()
        a = Conv<pads=[1,1,1,1]>(x, w1)  r = Resize<mode="linear">(a, , by)  s = Sigmoid(r)  y = Conv(s, w2) }"""
    made = lowered(model_of(text, 17, **WEIGHT))
    (node,) = [node for node in made.graph if node.is_op("Resize")]
    assert [value.dtype for value in node.inputs if value is not None] == [DType.FLOAT16, DType.FLOAT]
    onnx.checker.check_model(to_proto(made), full_check=True)


def test_nobody_guesses_the_type_of_an_operator_that_is_not_known() -> None:
    proto = proto_of(
        "agraph (float[4,8] x) => (float[4,8] y) { a = MatMul(x, w1) b = Odd(a) y = MatMul(b, w2) }",
        17,
        w1=(8, 8),
        w2=(8, 8),
    )
    proto.graph.node[1].domain = "com.example"
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model = load(proto)
    infer_types(model)
    target = TensorRt()
    groups, _ = target.groups(model)
    model.graph.inputs[0].quant = groups[0].output.quant = Quantization(
        target.activation_spec(),
        *affine_parameters(-1, 1, target.activation_spec()),
        np.float32(-1),
        np.float32(1),
        observed=(-1.0, 1.0),
    )
    made = target.lower(model, {groups[0]: Form(STATIC, target.weight_spec(1))})
    odd = next(node for node in made.graph if node.domain)
    assert odd.inputs[0].dtype is DType.FLOAT  # type: ignore[union-attr]
    last = next(node for node in made.graph if node.output.name == "y")
    assert {value.dtype for value in last.inputs if value is not None and value.const is not None} == {DType.FLOAT}


@pytest.mark.parametrize(
    "text",
    [
        "agraph (float16[4] x) => (float16[4] y) { s = Shape(x) c = ConstantOfShape<value = float16[1] {2}>(s) y = Mul(x, c) }",
        "agraph (float16[4] x, bool c) => (float16[4] y) { y = If(c) <then_branch = g () => (float16[4] a) { a = Neg(x) }, else_branch = h () => (float16[4] b) { b = Relu(x) }> }",
    ],
    ids=["a maker of halves", "a branch that reads them"],
)
def test_models_that_come_in_halves_run_as_they_are(text: str) -> None:
    model = model_of(text, 17)
    feed: dict[str, Any] = {"x": np.arange(4, dtype=np.float16)}
    if "bool" in text:
        feed["c"] = np.array(True)
    found = TensorRt().open(model, 1).run(feed)["y"]
    assert found.dtype == np.float16 and np.array_equal(found, open_session(model).run(feed)["y"])


def test_one_weight_along_two_axes_has_two_names() -> None:
    text = "agraph (float[4,8] x) => (float[4,8] y) { a = MatMul(x, w) r = Relu(a) y = Gemm<transB=1>(r, w) }"
    made = lowered(model_of(text, 17, w=(8, 8)))
    names = [node.name for node in made.graph]
    assert len(set(names)) == len(names) and {"w/dequantize", "w_1/dequantize"} <= set(names)


def test_odd_numbers_of_four_bits_are_refused() -> None:
    model = model_of("agraph (float[2,33] x) => (float[2,33] y) { y = MatMul(x, w) }", 17, w=(33, 33))
    target = TensorRt()
    observe(model, target)
    (group,) = target.groups(model)[0]
    with pytest.raises(LoweringError, match="4 bits in twos"):
        target.lower(model, {group: Form(WEIGHTS, QuantSpec(DType.INT4, symmetric=True, axis=1))})
