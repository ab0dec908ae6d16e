"""Target tensorrt: what every lowered model has, options, profiles, engines and what is read out of them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qcompiler as qc
from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError, UsageError
from qcompiler.ir import Model, Node, Quantization, QuantSpec, affine_parameters, verify
from qcompiler.lower import DYNAMIC, STATIC, WEIGHTS, Form, StoredWeight, TensorRt
from qcompiler.lower.tensorrt import Layer, build_engines, engine_record, layers_of_inspector, layers_of_plan, package
from qcompiler.lower.tensorrt.cost import eight_bits, node_seconds
from qcompiler.lower.tensorrt.deployment import build_settings, trtexec_command
from qcompiler.lower.tensorrt.engine import Engine, planned_8_bits, refusal
from qcompiler.lower.tensorrt.plugins import without_hidden
from qcompiler.lower.tensorrt.profiles import parse_profile, profile_of_samples
from qcompiler.onnx_io import infer_types, load, open_session, to_proto
from tests.lower.models import model_of, proto_of
from tests.lower.tensorrt import engine_of, lowered, noise, observe

CONV = (
    "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  y = Conv(r, w2) }"
)
WEIGHT = {"w1": (8, 8, 3, 3), "w2": (8, 8, 1, 1)}

needs_builder = pytest.mark.skipif(not package().startswith("tensorrt_rtx"), reason="TensorRT for RTX is not installed")

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


# Profiles

SHAPED = "agraph (float[N,3,H,W] x, float[N] s) => (float[N,3,H,W] y) { y = Relu(x) t = Relu(s) }"


def test_a_profile() -> None:
    model = model_of(SHAPED, 17)
    found = parse_profile("x:1x3x32x32,1x3x640x640,4x3x960x960; s:1,1,4", model)
    assert found == {"x": ((1, 3, 32, 32), (1, 3, 640, 640), (4, 3, 960, 960)), "s": ((1,), (1,), (4,))}
    assert parse_profile("x:2x3x8x8;s:2", model)["x"] == ((2, 3, 8, 8),) * 3
    command = trtexec_command(build_settings(found, (86,), True))
    assert "--minShapes=x:1x3x32x32,s:1 --optShapes=x:1x3x640x640,s:1 --maxShapes=x:4x3x960x960,s:4 --refit" in command


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "profile 'x' is not INPUT:MIN,OPT,MAX"),
        ("x:1x3xAx8;s:1", "profile 'x:1x3xAx8' is not"),
        ("z:1", "no dynamic input 'z'"),
        ("x:1x3x8x8,1x3x8x8;s:1", "has 2 shapes, not 1 or 3"),
        ("x:1x3x8;s:1", "3 axes where the input has 4"),
        ("x:1x4x8x8;s:1", "a size of 4 where the input has 3 there"),
        ("x:0x3x8x8;s:1", "a size of 0 where the input has 1 or more"),
        ("x:1x3x8x8,1x3x4x8,1x3x8x8;s:1", "8, 4, 8 do not grow"),
        ("x:1x3x8x8", "nothing of input 's'"),
    ],
)  # fmt: skip
def test_wrong_profiles(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_profile(text, model_of(SHAPED, 17))
    assert said in caught.value.what


def test_the_profile_of_samples() -> None:
    model = model_of(SHAPED, 17)
    shapes = [(1, 32, 64), (1, 32, 64), (2, 64, 32)]
    samples = [{"x": np.zeros((n, 3, h, w), np.float32), "s": np.zeros(n, np.float32)} for n, h, w in shapes]
    assert profile_of_samples(model, samples) == {
        "x": ((1, 3, 32, 32), (1, 3, 32, 64), (2, 3, 64, 64)),
        "s": ((1,), (1,), (2,)),
    }
    assert profile_of_samples(model_of(CONV, 17, **WEIGHT), samples) == {}


# Engines


@needs_builder
@pytest.mark.parametrize("capability", [86, 89, 120])
def test_an_engine_multiplies_in_int8(capability: int) -> None:
    made = lowered(model_of(CONV, 17, **WEIGHT))
    layers = engine_of(made, capability)
    assert [layer.in_8_bits for layer in layers if layer.multiplies] == [True, True]


@needs_builder
def test_an_engine_multiplies_in_8_bit_floats() -> None:
    model = model_of(CONV, 17, **WEIGHT)
    target = TensorRt(products="float8")
    assert target.cards == (89, 120) and TensorRt(products="float8", architectures=()).card.capability == 89
    made = lowered(model, target)
    assert noise(model, made) < 0.01
    layers = engine_of(made, 89)
    assert [layer.reads[:2] for layer in layers if layer.multiplies] == [("float8", "float8")] * 2
    assert target.runs_as(next(node for node in made.graph if node.name == "a")) == "float8 Conv"
    with pytest.raises(ValueError, match="sm_86 has no 8-bit floats"):
        TensorRt(architectures=(86,), products="float8")


@needs_builder
def test_an_engine_with_a_profile() -> None:
    text = CONV.replace("float[1,8,8,8] x", "float[N,8,8,8] x").replace("float[1,8,8,8] y", "float[N,8,8,8] y")
    made = lowered(model_of(text, 17, **WEIGHT))
    shapes = {"x": ((1, 8, 8, 8), (2, 8, 8, 8), (4, 8, 8, 8))}
    assert sum(layer.in_8_bits for layer in engine_of(made, 86, shapes)) == 2


@needs_builder
def test_the_parsers_words(tmp_path: Path) -> None:
    text = "agraph (float[1,8] x) => (uint8[1,8] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(x) }"
    onnx.save(proto_of(text, 17), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), False, "model.onnx")))
    assert re.match(r"TensorRT's parser refuses node .*\(DynamicQuantizeLinear\): .+", refusal(tmp_path))


@needs_builder
def test_the_script_by_itself(tmp_path: Path) -> None:
    """Engines of a folder that somebody copied; one for a card that the package does not know."""
    script = Path(sys.modules[refusal.__module__].__file__ or "").with_name("build_engine.py")
    (tmp_path / "build_engine.py").write_text(script.read_text())
    onnx.save(to_proto(lowered(model_of(CONV, 17, **WEIGHT))), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86, 89), False, "model.onnx")))
    command = [sys.executable, str(tmp_path / "build_engine.py"), "--arch", "sm_89", "--arch", "sm_90"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    assert said[0]["package"] == "tensorrt_rtx" and said[1]["file"] == "model.sm_89.engine"
    assert "does not build for sm_90" in said[2]["problem"] and ended.returncode == 1
    assert len(layers_of_plan((tmp_path / "model.sm_89.engine").read_bytes())) > 2


def test_an_engine_that_nobody_can_read() -> None:
    with pytest.raises(LoweringError, match="no program that could be read"):
        layers_of_plan(b"ptrt\0\1\2descriptors of something")


def test_what_the_inspector_says() -> None:
    """The JSON of TensorRT 10 and of 11, which names the type of a tensor apart from its format."""
    ten = {"Name": "c1 + r1", "LayerType": "CaskConvolution", "Metadata": "[ONNX Layer: c1]\x1e[ONNX Layer: r1]",
           "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
           "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}]}  # fmt: skip
    mixed = {"Name": "c3", "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", "Format/Datatype": "Int8"}],
             "Outputs": [], "Weights": {"Type": "Half", "Count": 9}}  # fmt: skip
    eleven = {"Name": "c2", "LayerType": "gemm", "Metadata": "[ONNX Layer: c2]",
              "Inputs": [{"Name": "x", "Format": "Row major", "Datatype": "Half"}], "Outputs": [{"Name": "y", "Datatype": "Half"}]}  # fmt: skip
    moved = {"Name": "reformat", "LayerType": "Reformat", "Inputs": [], "Outputs": []}
    first, second, third = layers_of_inspector(json.dumps({"Layers": [ten, eleven, moved]}))
    assert not layers_of_inspector(json.dumps({"Layers": [mixed]}))[0].in_8_bits
    assert first.in_8_bits and first.nodes == ("c1", "r1") and first.gives == ("float16",)
    assert second.multiplies and not second.in_8_bits and second.reads == ("float16", "float16")
    assert third.moves and not third.multiplies
    with pytest.raises(LoweringError, match="cannot be read"):
        layers_of_inspector("[1]")


def test_names_of_nodes_are_unlike() -> None:
    """TensorRT tells layers by them."""
    made = lowered(model_of(CONV, 17, **WEIGHT))
    names = [node.name for node in made.graph if isinstance(node, Node)]
    assert len(set(names)) == len(names)


# Plugins


@pytest.fixture(scope="module")
def plugged() -> tuple[Model, Model, Any]:
    """A product whose rows are quantized in every run, and a static one behind it."""
    pytest.importorskip("triton")
    text = "agraph (float[4,64] x) => (float[4,32] y) { a = MatMul(x, w1)  b = Add(a, b1)  r = Relu(b)  y = MatMul(r, w2) }"
    model = model_of(text, 17, w1=(64, 64), b1=(64,), w2=(64, 32))
    target = TensorRt(plugins=True, architectures=(86, 90))
    observe(model, target)
    first, second = target.groups(model)[0]
    plan = {first: Form(DYNAMIC, target.weight_spec(1)), second: Form(STATIC, target.weight_spec(1))}
    made = target.lower(model, plan)
    feed = {"x": np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)}
    return model, made, target.artifacts(made, [feed], lambda _: None)


def test_plugins_stand_beside_pairs(plugged: tuple[Model, Model, Any]) -> None:
    model, made, _ = plugged
    verify(made)
    assert [node.op_type for node in made.graph if node.domain] == ["DynamicMatMul"]
    assert planned_8_bits(made) == ["y"]
    assert noise(model, made) < 0.001


def test_a_plugin_is_a_call_with_arguments_in_order(plugged: tuple[Model, Model, Any], tmp_path: Path) -> None:
    """Inputs, int32 sizes, outputs: as many as the kernel has parameters, once what Triton appends is gone."""
    made = plugged[2]
    made.write(tmp_path)
    folder = tmp_path / "tensorrt"
    (item,) = json.loads((folder / "plugins.json").read_text())
    staged = onnx.load(folder / "model.onnx")
    (node,) = [node for node in staged.graph.node if node.op_type == item["name"]]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    assert attributes == {"plugin_namespace": b"qcompiler", "plugin_version": b"1", "aot": 1}
    assert not node.domain and not staged.functions
    held = {one.name: one for one in staged.graph.initializer}
    kinds = [onnx.numpy_helper.to_array(held[name]).dtype.name if name in held else "float32" for name in node.input]
    assert kinds == item["inputs"] and item["sizes"] == [4, 64, 64]
    for capability, card in item["cards"].items():
        text = (folder / "plugins" / card["ptx"]).read_text()
        entry = text[text.index(".entry") : text.index(")", text.index(".entry"))]
        assert card["entry"] in entry
        assert entry.count(".param") == len(item["inputs"]) + len(item["sizes"]) + len(item["outputs"])
        _assembles(folder / "plugins" / card["ptx"], f"sm_{capability}{'a' if capability == '90' else ''}")
    assert made.record()["tensorrt"]["command"] == "python3 build_engine.py"
    if package().startswith("tensorrt_rtx"):
        assert any("plugins cannot be registered: No module named 'tensorrt'" in text for text in made.problems)


def _assembles(path: Path, architecture: str) -> None:
    import triton

    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    subprocess.run([assembler, f"-arch={architecture}", path, "-o", "/dev/null"], check=True, capture_output=True)


def test_a_residual_in_int8_makes_no_int8_product() -> None:
    assert not Layer("c", "corrltn", (), ("int8", "float16", "int8"), (), True, False).in_8_bits


@pytest.mark.parametrize("options", [{"products": "float8"}, {"floats": "bfloat16"}])
def test_what_plugins_cannot(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="plugins multiply int8"):
        TensorRt(plugins=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("x:2x16x64", ""),
        ("x:1x16x64,2x16x64,4x16x64", "a plugin stands for one shape, and the profile of input 'x' has several"),
    ],
)
def test_plugins_of_a_dynamic_model(profile: str, said: str) -> None:
    pytest.importorskip("triton")
    model = model_of("agraph (float[N,16,64] x) => (float[N,16,32] y) { y = MatMul(x, w) }", 17, w=(64, 32))
    target = TensorRt(plugins=True, architectures=(86,), profile=profile)
    observe(model, target)
    (group,) = target.groups(model)[0]
    made = target.lower(model, {group: Form(DYNAMIC, target.weight_spec(1))})
    feeds = ({"x": np.zeros((count, 16, 64), np.float32)} for count in (1, 4))  # an iterator, as the compiler gives it
    found = target.artifacts(made, feeds, lambda _: None)
    assert (found.plugins is None) == bool(said)
    assert any(said in text for text in found.problems) if said else found.plugins is not None
    none = replace(target, architectures=()).artifacts(made, [{"x": np.zeros((2, 16, 64), np.float32)}], lambda _: None)
    assert none.plugins is None and not none.engines


def test_ptx_from_hopper_on_is_for_one_architecture() -> None:
    script = Path(sys.modules[refusal.__module__].__file__ or "").with_name("register_plugins.py")
    spec = importlib.util.spec_from_file_location("register_plugins", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runs = {
        (made, here)
        for made in (80, 86, 90, 120)
        for here in (80, 86, 89, 90, 103, 120, 121)
        if module._runs(made, here)
    }
    assert runs == {(80, 80), (80, 86), (80, 89), (86, 86), (86, 89), (90, 90), (120, 120)}


def test_memory_that_triton_hands_over_cannot_be_taken_away() -> None:
    ptx = ".visible .entry f(\n\t.param .u64 f_param_0,\n\t.param .u64 f_param_1,\n\t.param .u64 f_param_2\n)\n{ ld.param.u64 %rd1, [f_param_1]; }"
    assert without_hidden(ptx, "f", 1).count(".param .u64") == 2
    with pytest.raises(LoweringError, match="memory that Triton hands over"):
        without_hidden(ptx, "f", 2)
    with pytest.raises(LoweringError, match="no entry 'g'"):
        without_hidden(ptx, "g", 1)


@needs_builder
def test_the_parser_looks_for_the_plugin(plugged: tuple[Model, Model, Any], tmp_path: Path) -> None:
    """TensorRT for RTX has no Python plugins: its parser says whose name and namespace it misses."""
    plugged[2].write(tmp_path)
    settings_file = tmp_path / "tensorrt" / "build.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | {"plugins": None}))
    assert "DynamicMatMul_0_" in refusal(tmp_path / "tensorrt")


# What a reader would trip over


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


@needs_builder
def test_an_input_that_holds_sizes(tmp_path: Path) -> None:
    onnx.save(
        proto_of("agraph (float[1,8] x, int64[2] s) => (float[N,M] y) { r = Relu(x) y = Reshape(r, s) }", 17),
        tmp_path / "model.onnx",
    )
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), False, "model.onnx")))
    (problem,) = build_engines(tmp_path).problems
    assert "input 's' holds sizes, for which there is no profile of shapes" in problem


@needs_builder
def test_refit_without_a_card(tmp_path: Path) -> None:
    onnx.save(to_proto(lowered(model_of(CONV, 17, **WEIGHT))), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), True, "model.onnx")))
    built = build_engines(tmp_path)
    assert built.engines or "can be refitted only where there is a card" in built.problems[0]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--arch", "foo"), 1, ""),
        (("--settings", "nofile.json"), 1, "No such file"),
        (("--package", "json"), 2, "json is here as TensorRT"),
        (("--package", "nope"), 2, "pip install tensorrt"),
    ],
)
@needs_builder
def test_wrong_words_to_the_script(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    onnx.save(to_proto(lowered(model_of(CONV, 17, **WEIGHT))), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), False, "model.onnx")))
    script = Path(sys.modules[refusal.__module__].__file__ or "").with_name("build_engine.py")
    given = words if "--settings" in words else ("--settings", str(tmp_path / "build.json"), *words)
    ended = subprocess.run(
        [sys.executable, str(script), *given], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == status and said in ended.stderr and "Traceback" not in ended.stderr


def test_an_engine_whose_layers_are_not_known_misses_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.sm_86.engine").write_bytes(b"descriptors {\n tensor={ name=} \nmain {\n x={ layers=\0")
    with pytest.raises(LoweringError):
        layers_of_plan((tmp_path / "model.sm_86.engine").read_bytes())
    record = engine_record(Engine("sm_86", tmp_path / "model.sm_86.engine", 0.1, ()), ["a", "b"])
    assert record["found"] is None and record["left_float"] == []


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself leaves one called tensorrt."""
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    package.cache_clear()
    try:
        assert not package().startswith("tensorrt ") and package() != "tensorrt"
    finally:
        package.cache_clear()


def test_samples_of_every_part_make_the_profile(tmp_path: Path) -> None:
    text = "agraph (float[1,8,H,8] x) => (float[1,8,H,8] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  y = Conv(r, w2) }"
    random = np.random.default_rng(0)
    data = [{"x": random.standard_normal((1, 8, 8 + 32 * (index % 2), 8)).astype(np.float32)} for index in range(8)]
    result = qc.compile(
        proto_of(text, 17, **WEIGHT), target="tensorrt", data=data, min_speedup=0.01, settings=["tensorrt.engine=false"]
    )
    low, _, high = result.report["tensorrt"]["profile"]["x"]
    assert (low, high) == ([1, 8, 8, 8], [1, 8, 40, 8])
