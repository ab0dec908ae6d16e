"""Rules of placement for TensorRT, one small graph each: the graph as it is lowered, and what an engine makes of it.

``tests/golden/tensorrt`` holds both in text; ``UPDATE_GOLDEN=1`` writes them anew. Engines are those of the pinned
version of TensorRT for RTX, which builds without a card.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest

from qcompiler.ir import Model, format_graph, verify
from qcompiler.lower import TensorRt
from qcompiler.lower.tensorrt import package
from qcompiler.lower.tensorrt.engine import planned_8_bits
from qcompiler.onnx_io import open_session, to_proto
from tests.lower.models import model_of
from tests.lower.tensorrt import engine_of, lowered, noise

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorrt"
PINNED = "tensorrt_rtx 1.7.1.116"

CONV = {"w1": (32, 32, 3, 3), "w2": (32, 32, 3, 3), "w3": (32, 32, 3, 3)}
PICTURE = "agraph (float[1,32,16,16] x) => (float[1,32,16,16] y)"

CASES: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    # the sum is part of the second convolution: its result is not rounded before it, what joins it is read in int8
    "residual": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  b = Conv<pads=[1,1,1,1]>(r, w2)
            s = Add(b, r)  t = Relu(s)  y = Conv<pads=[1,1,1,1]>(t, w3) }""",
        CONV,
    ),
    # both sides come from a convolution: the later one takes the sum in
    "residual of two convolutions": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  b = Conv<pads=[1,1,1,1]>(x, w2)
            s = Add(a, b)  t = Relu(s)  y = Conv<pads=[1,1,1,1]>(t, w3) }""",
        CONV,
    ),
    # neither side does: both are read in int8
    "residual of two activations": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  b = Conv<pads=[1,1,1,1]>(x, w2)  q = Relu(b)
            s = Add(p, q)  y = Conv<pads=[1,1,1,1]>(s, w3) }""",
        CONV,
    ),
    "concat": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  b = Conv<pads=[1,1,1,1]>(x, w2)  q = Relu(b)
            c = Concat<axis=1>(p, q)  y = Conv(c, w3) }""",
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 3, 3), "w3": (32, 64, 1, 1)},
    ),
    # q is read alone too, with the scale of the whole
    "concat of what others read": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  b = Conv<pads=[1,1,1,1]>(p, w2)  q = Relu(b)
            c = Concat<axis=1>(p, q)  d = Conv(c, w3)  e = Conv<pads=[1,1,1,1]>(q, w4)  y = Add(d, e) }""",
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 3, 3), "w3": (32, 64, 1, 1), "w4": (32, 32, 3, 3)},
    ),
    "split": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  b, c = Split<axis=1>(p)
            d = Conv<pads=[1,1,1,1]>(b, w2)  e = Conv<pads=[1,1,1,1]>(c, w3)  y = Add(d, e) }""",
        {"w1": (32, 32, 3, 3), "w2": (32, 16, 3, 3), "w3": (32, 16, 3, 3)},
    ),
    "transpose chain": (
        "agraph (float[1,32,16,16] x) => (float[1,256,8] y) {"
        " shape = Constant<value_ints=[1,256,32]>() a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  t = Transpose<perm=[0,2,3,1]>(p)  r = Reshape(t, shape)"
        " y = MatMul(r, m) }",
        {"w1": (32, 32, 3, 3), "m": (32, 8)},
    ),
    "depthwise": (
        PICTURE + "{ a = Conv<pads=[1,1,1,1], group=32>(x, w1)  p = Relu(a)  y = Conv(p, w2) }",
        {"w1": (32, 1, 3, 3), "w2": (32, 32, 1, 1)},
    ),
    # float by default: TensorRT for RTX has no int8 kernel and would make both factors float first
    "transposed convolution": (
        "agraph (float[1,32,16,16] x) => (float[1,8,32,32] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)"
        " y = ConvTranspose<strides=[2,2]>(p, w2) }",
        {"w1": (32, 32, 3, 3), "w2": (32, 8, 2, 2)},
    ),
    "attention": (
        """agraph (float[1,16,64] x) => (float[1,16,64] y) {
            heads = Constant<value_ints=[1,16,4,16]>()  whole = Constant<value_ints=[1,16,64]>()
            q0 = MatMul(x, wq)  q1 = Reshape(q0, heads)  q = Transpose<perm=[0,2,1,3]>(q1)
            k0 = MatMul(x, wk)  k1 = Reshape(k0, heads)  k = Transpose<perm=[0,2,3,1]>(k1)
            v0 = MatMul(x, wv)  v1 = Reshape(v0, heads)  v = Transpose<perm=[0,2,1,3]>(v1)
            s = MatMul(q, k)  p = Softmax<axis=-1>(s)  o = MatMul(p, v)
            o1 = Transpose<perm=[0,2,1,3]>(o)  o2 = Reshape(o1, whole)  y = MatMul(o2, wo) }""",
        {"wq": (64, 64), "wk": (64, 64), "wv": (64, 64), "wo": (64, 64)},
    ),
    "silu": (
        PICTURE + "{ a = Conv<pads=[1,1,1,1]>(x, w1)  g = Sigmoid(a)  p = Mul(a, g)  y = Conv(p, w2) }",
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 1, 1)},
    ),
    "hardswish": (
        PICTURE + "{ a = Conv<pads=[1,1,1,1]>(x, w1)  p = HardSwish(a)  y = Conv(p, w2) }",
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 1, 1)},
    ),
    # the stream that is normalized stays float: nothing reads it in int8
    "layer norm": (
        """agraph (float[1,16,64] x) => (float[1,16,64] y) {
            a = MatMul(x, w1)  b = Add(a, b1)  s = Add(b, x)  n = LayerNormalization(s, g, c)  y = MatMul(n, w2) }""",
        {"w1": (64, 64), "b1": (64,), "g": (64,), "c": (64,), "w2": (64, 64)},
    ),
    "max pooling": (
        "agraph (float[1,32,16,16] x) => (float[1,32,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)"
        " m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(p)  y = Conv(m, w2) }",
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 1, 1)},
    ),
    # averages are float, and have a pair behind them alone
    "average pooling": (
        "agraph (float[1,32,16,16] x) => (float[1,32,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)"
        " m = AveragePool<kernel_shape=[2,2], strides=[2,2]>(p)  y = Conv(m, w2) }",
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 1, 1)},
    ),
    "squeeze and excite": (
        PICTURE + """{
            a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  m = GlobalAveragePool(p)
            u = Conv(m, w2)  v = Relu(u)  w = Conv(v, w3)  g = HardSigmoid(w)  e = Mul(p, g)  y = Conv(e, w4) }""",
        {"w1": (32, 32, 3, 3), "w2": (8, 32, 1, 1), "w3": (32, 8, 1, 1), "w4": (32, 32, 1, 1)},
    ),
    "resize": (
        "agraph (float[1,32,16,16] x) => (float[1,32,32,32] y) {"
        ' by = Constant<value_floats=[1.0,1.0,2.0,2.0]>() a = Conv<pads=[1,1,1,1]>(x, w1)  p = Relu(a)  m = Resize<mode="nearest",'
        ' coordinate_transformation_mode="asymmetric", nearest_mode="floor">(p, , by)  y = Conv(m, w2) }',
        {"w1": (32, 32, 3, 3), "w2": (32, 32, 1, 1)},
    ),
    "gemm": (
        "agraph (float[1,64] x) => (float[1,8] y) { a = Gemm(x, w1, b1)  p = Relu(a)  y = Gemm<transB=1>(p, w2) }",
        {"w1": (64, 32), "b1": (32,), "w2": (8, 32)},
    ),
}  # fmt: skip


def case(name: str) -> Model:
    text, weights = CASES[name]
    return model_of(text, 17, **weights)


def agrees(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_graph(name: str) -> None:
    model = case(name)
    made = lowered(model)
    verify(made)
    onnx.checker.check_model(to_proto(made), full_check=True)
    open_session(made, optimize=False)  # as it is, halves and all
    agrees(GOLDEN / f"{name.replace(' ', '-')}.txt", format_graph(made.graph) + "\n")
    assert noise(model, made) < 0.02


@pytest.mark.parametrize("name", CASES)
def test_the_engine(name: str) -> None:
    if package() != PINNED:
        pytest.skip(f"engines of {PINNED} are known, not of {package() or 'no package'}")
    made = lowered(case(name))
    layers = engine_of(made)
    lines = [
        f"{'int8' if layer.in_8_bits else 'multiplies' if layer.multiplies else 'moves' if layer.moves else 'computes'}"
        f" {', '.join(sorted(layer.nodes))}: {' '.join(layer.reads)} -> {' '.join(layer.gives)}"
        for layer in layers
        if layer.nodes
    ]
    agrees(GOLDEN / f"{name.replace(' ', '-')}.engine.txt", "\n".join(lines) + "\n")
    found = {node for layer in layers if layer.in_8_bits for node in layer.nodes}
    assert set(planned_8_bits(made)) <= found
    assert planned_8_bits(made)


def test_a_transposed_convolution_is_quantized_along_its_output_channels() -> None:
    made = lowered(case("transposed convolution"), TensorRt(transposed=True))
    back = next(node for node in made.graph if node.name == "w2/dequantize")
    assert back.attr("axis") == 1
    scale = back.inputs[1]
    assert scale is not None and scale.shape == (8,)
    if package() == PINNED:  # what the option says of TensorRT for RTX
        assert any(layer.multiplies and not layer.in_8_bits and "y" in layer.nodes for layer in engine_of(made))
