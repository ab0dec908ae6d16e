"""Each rule, on models at the old opset: onnxruntime must give the same bits before and after."""

import math
from typing import Any

import numpy as np
import onnx.parser
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qcompiler.ir import Model, verify
from qcompiler.onnx_io import from_proto, open_session, to_proto
from qcompiler.onnx_io.opset import upgrade_opset
from qcompiler.runtime import Session

Feeds = dict[str, np.ndarray[Any, np.dtype[Any]]]


def parse(opset: int, text: str, **attributes: Any) -> onnx.ModelProto:
    """The model in ``text``; ``attributes`` that are not None go to its first node."""
    proto = onnx.parser.parse_model(f'<ir_version: 4, opset_import: ["": {opset}]> g {text}')
    for name, value in attributes.items():
        if value is not None:
            kind = onnx.AttributeProto.INTS if value == [] else None
            proto.graph.node[0].attribute.append(onnx.helper.make_attribute(name, value, attr_type=kind))
    return proto


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def random_feeds(session: Session) -> Feeds:
    """Numbers around zero for every input; a size that is not known is 2."""
    rng = np.random.default_rng(0)
    shapes = {spec: [size if isinstance(size, int) else 2 for size in spec.shape or ()] for spec in session.inputs}
    return {spec.name: (rng.standard_normal(shape) * 3).astype(spec.dtype) for spec, shape in shapes.items()}


def check(model: Model, seen: Feeds) -> None:
    """The IR holds together, and onnx agrees with every type and with the shapes that were seen."""
    verify(model)
    proto = to_proto(model)
    for info in (*proto.graph.input, *proto.graph.output):
        made = onnx.helper.make_tensor_type_proto(info.type.tensor_type.elem_type, seen[info.name].shape)
        info.type.CopyFrom(made)
    onnx.checker.check_model(proto, full_check=True)


def agree(proto: onnx.ModelProto, feeds: Feeds | None = None, version: int = 17) -> list[str]:
    """Raise the model and hold its outputs against those of the model before; the operators that it has then."""
    before = Session(proto.SerializeToString(), optimize=False)
    feeds = random_feeds(before) if feeds is None else feeds
    expected = before.run(feeds)
    model = from_proto(proto)
    assert upgrade_opset(model, version) == ""
    check(model, {**feeds, **expected})
    for name, found in open_session(model, optimize=False).run(feeds).items():
        assert (found.dtype, found.shape) == (expected[name].dtype, expected[name].shape)
        assert found.tobytes() == expected[name].tobytes(), name
    return [node.op_type for node in model.graph.all_nodes()]


def raised(opset: int, text: str, feeds: Feeds) -> Any:
    model = from_proto(parse(opset, text))
    assert upgrade_opset(model) == ""
    found = open_session(model, optimize=False).run(feeds)
    check(model, {**feeds, **found})
    return found["y"]


def refused(opset: int, text: str, version: int = 17) -> str:
    model = from_proto(parse(opset, text))
    reason = upgrade_opset(model, version)
    assert reason and model.opset == opset
    return reason


# Versions that took more and changed nothing

WIDENED = {
    "pooling": (7, "(float[1,2,5,5] x) => (float[n,c,h,w] a, float[n,c,i,j] m) {"
        " a = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x)"
        " m = MaxPool <kernel_shape=[2,2], auto_pad=\"SAME_UPPER\"> (x) }"),
    "recurrent": (7, "(float[3,2,4] x, float[1,12,4] w, float[1,12,3] r) => (float[a,b,c,d] y, float[e,f,g] h) {"
        " y, h = LSTM <hidden_size=3> (x, w, r) }"),
    "gated": (7, "(float[3,2,4] x, float[1,9,4] w, float[1,9,3] r) => (float[e,f,g] h) {"
        " , h = GRU <hidden_size=3> (x, w, r) }"),
    "arithmetic": (7, "(float[2,3] x, float[3] y) => (float[a,b] z) {"
        " p = Add(x, y) q = Mul(p, x) r = Sub(q, y) s = Div(r, x) t = Abs(s) u = Pow(t, y) z = Max(u, x) }"),
    "linear": (7, "(float[2,3] x, float[3,4] w, float[4] b) => (float[m,n] z, float[i,j] u) {"
        " y = Gemm <alpha=0.5> (x, w, b) z = Relu(y) u = MatMul(x, w) }"),
    "argmax": (7, "(float[2,3,4] x) => (int64[a,b,c] i, int64[d,e] j) {"
        " i = ArgMax <axis=1> (x) j = ArgMin <axis=2, keepdims=0> (x) }"),
    "depth": (7, "(float[1,8,2,3] x) => (float[a,b,c,d] y) { y = DepthToSpace <blocksize=2> (x) }"),
    "shapes": (7, "(float[2,3,4] x) => (int64[3] s, float[a,b] f, float[c,d,e] t) <int64[3] k = {0, -1, 2}> {"
        " s = Shape(x) f = Flatten(x) r = Reshape(x, k) t = Transpose(r) }"),
    "activations": (7, "(float[2,3] x, float[3] s) => (float[a,b] z) {"
        " p = PRelu(x, s) q = LeakyRelu(p) r = Elu(q) t = Selu(r) u = HardSigmoid(t) z = Softplus(u) }"),
    "normalization": (7, "(float[2,3,4,2] x, float[3] s, float[3] b) => (float[n,c,d,e] y, float[n,c,d,e] z) {"
        " y = InstanceNormalization(x, s, b) z = LRN <size=3> (x) }"),
    "odd transposed padding": (7, "(float[1,2,3,3] x, float[2,2,3,3] w) => (float[a,b,c,d] y) {"
        " y = ConvTranspose <strides=[2,2], output_shape=[6,6]> (x, w) }"),
    "indices from the end": (10, "(int64[4] i) => (float[a,b] y) <int64[1] d = {3}, float[2] v = {0, 1}> {"
        " y = OneHot(i, d, v) }"),
    "reductions": (7, "(float[2,3,4] x) => (float[a,b,c] p, float[d] q, float r) {"
        " p = ReduceMean <axes=[1]> (x) q = ReduceMax <axes=[0,2], keepdims=0> (x) r = ReduceL2 <keepdims=0> (x) }"),
    "quantized": (10, "(float[2,3] x) => (float[a,b] y) <float s = {0.1}, uint8 z = {128}> {"
        " q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"),
    "scatter": (11, "(float[4,2] x, float[2,2] u) => (float[a,b] y) <int64[2,1] i = {1, 3}> {"
        " y = ScatterND(x, i, u) }"),
}  # fmt: skip


@pytest.mark.parametrize("case", WIDENED)
def test_more_types_and_options_change_nothing(case: str) -> None:
    opset, text = WIDENED[case]
    proto = parse(opset, text)
    assert agree(proto) == [node.op_type for node in proto.graph.node]


# Softmax, LogSoftmax, Hardmax


@st.composite
def flattening(draw: st.DrawFn) -> tuple[str, int, list[int], int | None, str]:
    """(operator, opset, shape, axis, what the model says of the shape)"""
    opset = draw(st.integers(7, 12))
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    axis = draw(st.integers(-len(shape) if opset >= 11 else 0, len(shape) - 1))
    op_type = draw(st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"]))
    known = draw(st.sampled_from(["sizes", "rank", "nothing"]))
    return op_type, opset, shape, None if axis == 1 and draw(st.booleans()) else axis, known


@settings(max_examples=150)
@given(case=flattening())
@example(case=("Softmax", 7, [2, 3, 1, 1], None, "sizes"))
@example(case=("Hardmax", 12, [2, 3], -1, "nothing"))
@example(case=("LogSoftmax", 11, [2, 3, 2], -3, "rank"))
def test_softmax(case: tuple[str, int, list[int], int | None, str]) -> None:
    op_type, opset, shape, axis, known = case
    rank, chosen = len(shape), 1 if axis is None else axis
    dims = {"sizes": ",".join(map(str, shape)), "rank": ",".join("abcd"[:rank]), "nothing": ""}[known]
    text = f"(float[{dims}] x) => (float[{dims}] y) {{ y = {op_type}(x) }}"
    ops = agree(parse(opset, text, axis=axis), {"x": floats(*shape)})
    alone = all(size == 1 for size in shape[chosen % rank + 1 :])
    if chosen == -1 or (known != "nothing" and chosen % rank == rank - 1) or (known == "sizes" and alone):
        assert ops == [op_type]
    else:
        assert ops == ["Flatten", op_type, *(["Shape"] if known != "sizes" else []), "Reshape"]


def test_a_shape_that_only_inference_knows_is_enough() -> None:
    text = "(float[2,3] x) => (float[2,3,1,1] y) { u = Unsqueeze <axes=[2,3]> (x) y = Softmax(u) }"
    assert agree(parse(7, text)) == ["Unsqueeze", "Softmax"]


def test_an_empty_tensor_is_no_reason_to_copy_its_sizes() -> None:
    text = "(float[0,3,2] x) => (float[0,3,2] y) { y = Hardmax(x) }"
    assert agree(parse(7, text)) == ["Flatten", "Hardmax", "Shape", "Reshape"]


def test_the_axis_may_lie_behind_the_last() -> None:
    """Flattened, a vector is a column then; onnxruntime refuses the old form."""
    np.testing.assert_array_equal(raised(7, "(float[3] x) => (float[3] y) { y = Softmax(x) }", {"x": floats(3)}), 1)


def test_the_name_stays_with_the_operator() -> None:
    proto = parse(7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }")
    proto.graph.node[0].name = "attention"
    model = from_proto(proto)
    assert upgrade_opset(model) == ""
    assert {node.name: node.op_type for node in model.graph if node.name} == {"attention": "Softmax"}


# Attributes that became inputs


@settings(max_examples=100)
@given(data=st.data(), opset=st.integers(7, 9), shape=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_slice(data: st.DataObject, opset: int, shape: list[int]) -> None:
    axes = data.draw(st.none() | st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    count = data.draw(st.integers(1, len(shape))) if axes is None else len(axes)
    bounds = st.integers(-7, 7) | st.sampled_from([2**31 - 1, 2**63 - 1, -(2**31)])
    starts = data.draw(st.lists(bounds, min_size=count, max_size=count))
    ends = data.draw(st.lists(bounds, min_size=count, max_size=count))
    text = f"(float{shape} x) => (float[] y) {{ y = Slice(x) }}"
    assert agree(parse(opset, text, starts=starts, ends=ends, axes=axes)) == ["Slice"]


@settings(max_examples=100)
@given(
    data=st.data(),
    opset=st.integers(7, 10),
    shape=st.lists(st.integers(3, 4), min_size=1, max_size=3),
    dtype=st.sampled_from(["float", "double"]),
    mode=st.sampled_from([None, "constant", "edge", "reflect"]),
    value=st.none() | st.sampled_from([0.0, -0.0, 1.5, math.inf]),
)
def test_pad(
    data: st.DataObject, opset: int, shape: list[int], dtype: str, mode: str | None, value: float | None
) -> None:
    low = -1 if mode in (None, "constant") else 0
    pads = data.draw(st.lists(st.integers(low, 2), min_size=2 * len(shape), max_size=2 * len(shape)))
    text = f"({dtype}{shape} x) => ({dtype}[] y) {{ y = Pad(x) }}"
    assert agree(parse(opset, text, pads=pads, mode=mode, value=value)) == ["Pad"]


@pytest.mark.parametrize("limits", ["", "<min=-1.0>", "<max=2.0>", "<min=0.0, max=6.0>"])
@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_clip(dtype: str, limits: str) -> None:
    x = np.array([-np.inf, -7, -0.0, 0, 3, 7, np.inf, np.nan], {"float": np.float32, "float16": np.float16}[dtype])
    assert agree(parse(7, f"({dtype}[8] x) => ({dtype}[8] y) {{ y = Clip {limits} (x) }}"), {"x": x}) == ["Clip"]


def test_clip_of_doubles_keeps_the_limits_of_floats() -> None:
    """Held against numbers: onnxruntime has no old kernel for doubles."""
    model = from_proto(parse(10, "(double[3] x) => (double[3] y) { y = Clip <min=0.0> (x) }"))
    assert upgrade_opset(model) == ""
    found = open_session(model).run({"x": np.array([-1, 1e30, 1e300])})["y"]
    np.testing.assert_array_equal(found, [0, 1e30, np.finfo(np.float32).max])


@pytest.mark.parametrize(
    ("opset", "op_type", "axes"),
    [
        (7, "Squeeze", [0, 3]),
        (7, "Squeeze", None),
        (7, "Squeeze", []),
        (11, "Squeeze", [-1]),
        (7, "Unsqueeze", [0, 5]),
        (12, "Unsqueeze", [-1, 1]),
        (7, "ReduceSum", [1, 2]),
        (7, "ReduceSum", None),
        (7, "ReduceSum", []),
        (11, "ReduceSum", [-2]),
    ],
)
def test_axes(opset: int, op_type: str, axes: list[int] | None) -> None:
    text = f"(float[1,2,3,1] x) => (float[] y) {{ y = {op_type}(x) }}"
    assert agree(parse(opset, text, axes=axes)) == [op_type]


@pytest.mark.parametrize(("opset", "axis", "split"), [(7, 1, None), (7, 1, [1, 3]), (11, -1, [3, 1])])
@pytest.mark.parametrize("version", [13, 17, 18])
def test_split(opset: int, axis: int, split: list[int] | None, version: int) -> None:
    text = "(float[2,4] x) => (float[a,b] y, float[c,d] z) { y, z = Split(x) }"
    assert agree(parse(opset, text, axis=axis, split=split), version=version) == ["Split"]


@pytest.mark.parametrize("opset", [7, 9])
def test_top_k(opset: int) -> None:
    x = np.array([[3, 1, 3, 2], [0, 0, 0, 0]], np.float32)
    agree(parse(opset, "(float[2,4] x) => (float[a,b] y, int64[a,b] i) { y, i = TopK <k=2> (x) }"), {"x": x})


def test_top_k_by_an_input() -> None:
    text = "(float[2,4] x) => (float[a,b] y, int64[a,b] i) <int64[1] k = {2}> { y, i = TopK <axis=0> (x, k) }"
    agree(parse(10, text))


@pytest.mark.parametrize(("opset", "ratio"), [(7, 0.3), (7, None), (10, 0.9), (12, None)])
def test_dropout(opset: int, ratio: float | None) -> None:
    agree(parse(opset, "(float[2,3] x) => (float[2,3] z) { y, mask = Dropout(x) z = Relu(y) }", ratio=ratio))


def test_a_mask_that_nobody_takes_becomes_boolean() -> None:
    proto = parse(7, "(float[2] x) => (float[2] y) { y, mask = Dropout (x) }")
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, [2]))
    agree(proto)


def test_a_mask_in_use_is_refused() -> None:
    assert "mask" in refused(7, "(float[2] x) => (float[2] y, float[2] m) { y, m = Dropout (x) }")
    assert "mask" in refused(10, "(float[2] x) => (float[2] y, bool[2] m) { y, m = Dropout (x) }")
    agree(parse(12, "(float[2] x) => (float[2] y, bool[2] m) { y, m = Dropout (x) }"))


# Resize


@pytest.mark.parametrize("version", [11, 12, 13, 17, 19])
@pytest.mark.parametrize("scales", ["1,1,2,2", "1,1,1.5,3", "1,1,0.5,0.5", "1,1,0.6,0.3", "1,1,1,0.7"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_10(mode: str, scales: str, version: int) -> None:
    text = f"(float[1,1,4,5] x) => (float[] y) <float[4] s = {{{scales}}}> {{ y = Resize(x, s) }}"
    assert agree(parse(10, text, mode=mode), version=version) == ["Resize"]


def test_resize_10_that_enlarges_and_shrinks() -> None:
    text = '(float[1,1,4,5] x) => (float[] y) <float[4] s = {1,1,2,0.5}> { y = Resize <mode="MODE"> (x, s) }'
    agree(parse(10, text.replace("MODE", "linear")))
    assert "at once" in refused(10, text.replace("MODE", "nearest"))


def test_resize_10_by_unknown_scales() -> None:
    text = '(float[1,1,4,5] x, float[4] s) => (float[] y) { y = Resize <mode="MODE"> (x, s) }'
    feeds = {"x": floats(1, 1, 4, 5), "s": np.array([1, 1, 0.5, 2], np.float32)}
    agree(parse(10, text.replace("MODE", "linear")), feeds)
    assert "not constant" in refused(10, text.replace("MODE", "nearest"))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 2.4]])
def test_upsample(mode: str, scales: list[float]) -> None:
    old = parse(7, "(float[1,2,3,4] x) => (float[] y) { y = Upsample(x) }", mode=mode, scales=scales)
    assert agree(old) == ["Resize"]
    text = "(float[1,2,3,4] x, float[4] s) => (float[] y) { y = Upsample(x, s) }"
    feeds = {"x": floats(1, 2, 3, 4), "s": np.array(scales, np.float32)}
    for version in (10, 11, 17):
        assert agree(parse(9, text, mode=mode), feeds, version) == ["Resize"]


def test_empty_scales_make_room_for_sizes() -> None:
    text = """(float[1,1,4,5] x) => (float[a,b,c,d] y) <float[0] none = {}, int64[4] s = {1,1,3,7}> {
        y = Resize <coordinate_transformation_mode="MODE", nearest_mode="floor"> (x, none, none, s) }"""
    assert agree(parse(11, text.replace("MODE", "half_pixel"))) == ["Resize"]
    assert "tf_half_pixel" in refused(11, text.replace("MODE", "tf_half_pixel_for_nn"))


# Other meanings


def test_roi_align() -> None:
    rois = np.array([[0.2, 0.1, 3.4, 3.7], [1, 1, 4, 3]], np.float32)
    text = """(float[1,2,5,5] x, float[2,4] r, int64[2] b) => (float[n,c,h,w] y) {
        y = RoiAlign <output_height=2, output_width=2> (x, r, b) }"""
    agree(parse(10, text), {"x": floats(1, 2, 5, 5), "r": rois, "b": np.zeros(2, np.int64)})


@pytest.mark.parametrize(("opset", "spatial"), [(7, None), (7, 1), (9, None), (14, None)])
def test_batch_normalization(opset: int, spatial: int | None) -> None:
    text = """(float[2,3,4] x, float[3] s, float[3] b, float[3] m) => (float[2,3,4] y)
        <float[3] v = {1, 2, 0.5}> { y = BatchNormalization <epsilon=0.001> (x, s, b, m, v) }"""
    assert agree(parse(opset, text, spatial=spatial)) == ["BatchNormalization"]


def test_batch_normalization_by_element() -> None:
    call = "y = BatchNormalization <spatial=0> (x, s, s, s, s) }"
    feeds = {"x": floats(2, 3), "s": np.ones(3, np.float32)}
    agree(parse(7, f"(float[2,3] x, float[3] s) => (float[2,3] y) {{ {call}"), feeds)
    assert "spatial" in refused(7, f"(float[2,3,4] x, float[3,4] s) => (float[2,3,4] y) {{ {call}")


def test_batch_normalization_in_training() -> None:
    text = """(float[2,3] x, float[3] s) => (float[2,3] y, float[3] m) {
        y, m, v, c, d = BatchNormalization (x, s, s, s, s) }"""
    assert "training" in refused(9, text)


def test_scatter() -> None:
    text = """(float[3,3] x, float[2,3] u) => (float[3,3] y) <int64[2,3] i = {1,0,2,0,2,1}> {
        y = Scatter <axis=1> (x, i, u) }"""
    assert agree(parse(9, text)) == ["ScatterElements"]


def test_erf() -> None:
    agree(parse(9, "(float[4] x) => (float[4] y) { y = Erf(x) }"))
    assert "integers" in refused(9, "(int32[4] x) => (int32[4] y) { y = Erf(x) }")


def test_scan_over_a_batch_is_refused() -> None:
    body = "body (float[2] s, float[2] e) => (float[2] t, float[2] o) { t = Add(s, e) o = Identity(t) }"
    call = f'Scan <num_scan_inputs=1, body={body}> ("", s, x)'
    assert "Scan" in refused(8, f"(float[1,2] s, float[1,3,2] x) => (float[] t, float[] o) {{ t, o = {call} }}")


# Beyond the opset that passes are written for


@pytest.mark.parametrize("kind", ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"])
def test_reductions_18(kind: str) -> None:
    text = f"""(float[2,3,4] x) => (float[] a, float[] b, float[] c) {{
        p = Abs(x)
        a = Reduce{kind} <axes=[-2]> (p)
        b = Reduce{kind} <axes=[0,2], keepdims=0> (p)
        c = Reduce{kind} (p) }}"""
    agree(parse(11, text), version=18)


@pytest.mark.parametrize("attributes", ["", "<axis=2>", "<axis=-2, inverse=1>"])
def test_dft_20(attributes: str) -> None:
    agree(parse(17, f"(float[2,3,4,2] x) => (float[a,b,c,2] y) {{ y = DFT {attributes} (x) }}"), version=20)


@pytest.mark.parametrize("mode", [None, "bilinear", "nearest", "bicubic"])
def test_grid_sample_20(mode: str | None) -> None:
    text = "(float[1,2,4,4] x, float[1,3,2,2] g) => (float[1,2,3,2] y) { y = GridSample(x, g) }"
    agree(parse(16, text, mode=mode), {"x": floats(1, 2, 4, 4), "g": floats(1, 3, 2, 2)}, version=20)


def test_pooling_beyond_17() -> None:
    text = "(float[1,1,5,5] x) => (float[] y) { y = POOL <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x) }"
    agree(parse(11, text.replace("POOL", "AveragePool")), version=18)
    assert "ceil_mode" in refused(11, text.replace("POOL", "AveragePool"), 19)
    assert "ceil_mode" in refused(19, text.replace("POOL", "AveragePool"), 22)
    agree(parse(11, text.replace("POOL", "MaxPool")), version=21)
    assert "ceil_mode" in refused(12, text.replace("POOL", "MaxPool"), 22)
    agree(parse(12, text.replace("POOL", "MaxPool").replace("ceil_mode=1", "ceil_mode=0")), version=22)


def test_what_is_refused_beyond_17() -> None:
    group = "(float[1,4,2] x, float[2] s) => (float[1,4,2] y) { y = GroupNormalization <num_groups=2> (x, s, s) }"
    assert "deprecated" in refused(18, group, 21)
    quantize = "(TYPE[4] x) => (uint8[4] y) <float s = {0.1}, uint8 z = {0}> { y = QuantizeLinear(x, s, z) }"
    assert "types" in refused(13, quantize.replace("TYPE", "int32"), 19)
    agree(parse(13, quantize.replace("TYPE", "float")), version=19)


@pytest.mark.skipif(onnx.defs.onnx_opset_version() < 24, reason="this onnx ends before opset 24")
def test_causal_attention() -> None:
    attention = "(float[1,2,3,4] x) => (float[1,2,3,4] y) { y = Attention <is_causal=1> (x, x, x) }"
    assert "causal" in refused(23, attention, 24)
    assert upgrade_opset(from_proto(parse(23, attention.replace("=1>", "=0>"))), 24) == ""


# Before opset 7, where onnxruntime ends: held against numpy


@pytest.mark.parametrize(
    ("shape", "attributes", "as_numpy"),
    [
        ((2, 3, 4), "", (2, 3, 4)),
        ((4,), "<broadcast=1>", (4,)),
        ((3, 4), "<broadcast=1>", (3, 4)),
        ((3,), "<broadcast=1, axis=1>", (3, 1)),
        ((2, 3), "<broadcast=1, axis=0>", (2, 3, 1)),
        ((3,), "<broadcast=1, axis=-2>", (3, 1)),
        ((), "<broadcast=1>", ()),
    ],
)
def test_broadcasting_before_7(shape: tuple[int, ...], attributes: str, as_numpy: tuple[int, ...]) -> None:
    x, k = floats(2, 3, 4), floats(*shape, seed=1)
    text = f"(float[2,3,4] x, float{list(shape) or ''} k) => (float[2,3,4] y) {{ y = Sub {attributes} (x, k) }}"
    np.testing.assert_array_equal(raised(6, text, {"x": x, "k": k}), x - k.reshape(as_numpy))


ELEMENTWISE = {
    "Add": np.add,
    "Div": np.divide,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "Mul": np.multiply,
    "Pow": np.power,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@pytest.mark.parametrize("op_type", ELEMENTWISE)
def test_every_operator_that_broadcasts(op_type: str) -> None:
    kind = "bool" if op_type in ("And", "Or", "Xor") else "int32" if op_type == "Equal" else "float"
    result = "bool" if op_type in ("And", "Or", "Xor", "Equal", "Greater", "Less") else "float"
    x: Any = abs(floats(2, 3, 4)) * 3
    k: Any = np.array([1, 2, 0.5], np.float32)
    if kind == "bool":
        x, k = x > 1, k > 1
    elif kind == "int32":
        x, k = x.astype(np.int32), k.astype(np.int32)
    text = f"({kind}[2,3,4] x, {kind}[3] k) => ({result}[2,3,4] y) {{ y = {op_type} <broadcast=1, axis=1> (x, k) }}"
    np.testing.assert_allclose(raised(6, text, {"x": x, "k": k}), ELEMENTWISE[op_type](x, k[:, None]), 1e-6)


def test_the_slope_of_prelu_before_7_is_along_the_channels() -> None:
    x, slope = floats(2, 3, 4), floats(3, seed=1)
    found = raised(6, "(float[2,3,4] x, float[3] s) => (float[2,3,4] y) { y = PRelu(x, s) }", {"x": x, "s": slope})
    np.testing.assert_array_equal(found, np.where(x < 0, x * slope[:, None], x))
    one = raised(6, "(float[2,3,4] x, float[1] s) => (float[2,3,4] y) { y = PRelu(x, s) }", {"x": x, "s": slope[:1]})
    np.testing.assert_array_equal(one, np.where(x < 0, x * slope[0], x))


X = floats(2, 3)


@pytest.mark.parametrize(
    ("opset", "call", "expected"),
    [
        (1, "Concat(x, x)", np.hstack([X, X])),
        (1, "Reshape <shape=[3,2]> (x)", X.reshape(3, 2)),
        (1, "Relu <consumed_inputs=[0]> (x)", np.maximum(X, 0)),
        (1, 'Cast <to="double"> (x)', X.astype(np.float64)),
        (1, "Pad <paddings=[0,1,0,0]> (x)", np.pad(X, ((0, 0), (1, 0)))),
        (1, "Selu(x)", np.where(X < 0, 1.6732 * np.expm1(X), X) * 1.0507),
        (6, "Gemm <transB=1, broadcast=1> (x, x, k)", X @ X.T + [1, 2]),
        (6, "Dropout <is_test=1> (x)", X),
        (6, "BatchNormalization <is_test=1> (x, t, t, t, t)", (X - 1) / np.sqrt(1 + 1e-5) + 1),
    ],
)
def test_the_oldest_forms(opset: int, call: str, expected: Any) -> None:
    kind = "double" if "double" in call else "float"
    text = f"(float[2,3] x) => ({kind}[] y) <float[2] k = {{1, 2}}, float[3] t = {{1, 1, 1}}> {{ y = {call} }}"
    np.testing.assert_allclose(raised(opset, text, {"x": X}), expected, 1e-5)


def test_what_is_refused_before_7() -> None:
    assert "training" in refused(6, "(float[2,3] x) => (float[] y) { y = Dropout (x) }")
    assert "BYTES" in refused(1, '(float[2,3] x) => (float[] y) { y = Cast <to="bytes"> (x) }')


@pytest.mark.parametrize(("op_type", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_sequences_before_7(op_type: str, gates: int) -> None:
    inputs = f"float[3,2,4] x, float[1,{gates * 3},4] w, float[1,{gates * 3},3] r"
    call = f"y, h = {op_type} <hidden_size=3ATTR> (x, w, r)"
    assert "output_sequence" in refused(6, f"({inputs}) => (float[] y) {{ {call.replace('ATTR', '')} }}")
    feeds = {"x": floats(3, 2, 4), "w": floats(1, gates * 3, 4, seed=1), "r": floats(1, gates * 3, 3, seed=2)}
    expected = Session(parse(7, f"({inputs}) => (float[] y) {{ {call.replace('ATTR', '')} }}").SerializeToString())
    found = raised(6, f"({inputs}) => (float[] y) {{ {call.replace('ATTR', ', output_sequence=1')} }}", feeds)
    np.testing.assert_array_equal(found, expected.run(feeds)["y"])
