"""Small networks in the shapes of well-known ones, with random weights: what pruning has to find its way through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from qcompiler.ir import Model
from qcompiler.onnx_io import infer_types, load, to_proto
from tests.lower.models import model_of

__all__ = ["SHAPES"]


def resnet() -> Model:
    """Bottlenecks with batch normalization; the second adds to what the first gave."""
    text = """g (float[n,3,16,16] x) => (float[n,10] y) {
        a0 = Conv<pads=[1,1,1,1]>(x, w0) a1 = BatchNormalization(a0, s0, b0, m0, v0) a = Relu(a1)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)
        c1 = Conv(p, w1) r1 = Relu(c1) c2 = Conv<pads=[1,1,1,1]>(r1, w2) r2 = Relu(c2) c3 = Conv(r2, w3)
        d = Conv(p, w4) e = Add(c3, d) f = Relu(e)
        c5 = Conv(f, w5) r5 = Relu(c5) c6 = Conv<pads=[1,1,1,1]>(r5, w6) r6 = Relu(c6) c7 = Conv(r6, w7)
        h = Add(c7, f) i = Relu(h)
        q = GlobalAveragePool(i) k = Flatten(q) y = Gemm<transB=1>(k, w8, b8) }"""
    made = model_of(
        text, w0=(16, 3, 3, 3), s0=(16,), b0=(16,), m0=(16,), v0=(16,), w1=(8, 16, 1, 1), w2=(8, 8, 3, 3),
        w3=(32, 8, 1, 1), w4=(32, 16, 1, 1), w5=(8, 32, 1, 1), w6=(8, 8, 3, 3), w7=(32, 8, 1, 1), w8=(10, 32), b8=(10,),
    )  # fmt: skip
    return with_constants(made, v0=np.linspace(0.5, 2, 16, dtype=np.float32))


def mobilenet() -> Model:
    """Inverted residuals with depthwise convolutions and squeeze-and-excitation."""
    text = """g (float[n,3,16,16] x) => (float[n,10] y) {
        c0 = Conv<pads=[1,1,1,1]>(x, w0) a = HardSwish(c0)
        e1 = Conv(a, w1, b1) f1 = HardSwish(e1) d1 = Conv<group=24, pads=[1,1,1,1]>(f1, w2, b2) g1 = HardSwish(d1)
        s0 = GlobalAveragePool(g1) s1 = Conv(s0, w3) s2 = Relu(s1) s3 = Conv(s2, w4) s4 = HardSigmoid(s3)
        s = Mul(g1, s4) p1 = Conv(s, w5) h = Add(p1, a)
        q = GlobalAveragePool(h) k = Flatten(q) y = Gemm(k, w6, b6) }"""
    return model_of(
        text, w0=(8, 3, 3, 3), w1=(24, 8, 1, 1), b1=(24,), w2=(24, 1, 3, 3), b2=(24,), w3=(6, 24, 1, 1),
        w4=(24, 6, 1, 1), w5=(8, 24, 1, 1), w6=(8, 10), b6=(10,),
    )  # fmt: skip


def densenet() -> Model:
    """Every layer reads all before it, joined; normalized in front of each."""
    text = """g (float[n,3,8,8] x) => (float[n,10] y) {
        c0 = Conv<pads=[1,1,1,1]>(x, w0) n1 = BatchNormalization(c0, s1, b1, m1, v1) r1 = Relu(n1)
        c1 = Conv<pads=[1,1,1,1]>(r1, w1) j1 = Concat<axis=1>(c0, c1)
        n2 = BatchNormalization(j1, s2, b2, m2, v2) r2 = Relu(n2) c2 = Conv<pads=[1,1,1,1]>(r2, w2)
        j2 = Concat<axis=1>(j1, c2) q = GlobalAveragePool(j2) k = Flatten(q) y = Gemm<transB=1>(k, w3) }"""
    made = model_of(
        text, w0=(8, 3, 3, 3), s1=(8,), b1=(8,), m1=(8,), v1=(8,), w1=(4, 8, 3, 3), s2=(12,), b2=(12,), m2=(12,),
        v2=(12,), w2=(4, 12, 3, 3), w3=(10, 16),
    )  # fmt: skip
    variances = {"v1": np.linspace(0.5, 2, 8, dtype=np.float32), "v2": np.linspace(0.5, 2, 12, dtype=np.float32)}
    return with_constants(made, **variances)


def vit() -> Model:
    """Patches, one block of attention in pieces with heads split off by Reshape and Transpose, and its MLP."""
    text = """g (float[1,3,16,16] x) => (float[1,10] y) {
        c = Conv<strides=[4,4], kernel_shape=[4,4]>(x, w0) f = Reshape(c, flat) t = Transpose<perm=[0,2,1]>(f)
        l = LayerNormalization<axis=-1>(t, g1, h1)
        q0 = MatMul(l, wq) q1 = Add(q0, bq) q2 = Reshape(q1, heads) q = Transpose<perm=[0,2,1,3]>(q2)
        k0 = MatMul(l, wk) k2 = Reshape(k0, heads) k = Transpose<perm=[0,2,3,1]>(k2)
        v0 = MatMul(l, wv) v2 = Reshape(v0, heads) v = Transpose<perm=[0,2,1,3]>(v2)
        s0 = MatMul(q, k) s = Softmax<axis=-1>(s0) o0 = MatMul(s, v) o1 = Transpose<perm=[0,2,1,3]>(o0)
        o2 = Reshape(o1, back) o = MatMul(o2, wo) a = Add(o, t)
        m = LayerNormalization<axis=-1>(a, g2, h2) u0 = MatMul(m, w1) u1 = Add(u0, b1) u2 = Erf(u1) u = Mul(u1, u2)
        d = MatMul(u, w2) e = Add(d, a) r = ReduceMean<axes=[1], keepdims=0>(e) y = Gemm(r, w3) }"""
    made = model_of(
        text, w0=(32, 3, 4, 4), g1=(32,), h1=(32,), wq=(32, 32), bq=(32,), wk=(32, 32), wv=(32, 32), wo=(32, 32),
        g2=(32,), h2=(32,), w1=(32, 64), b1=(64,), w2=(64, 32), w3=(32, 10), flat=(3,), heads=(4,), back=(3,),
    )  # fmt: skip
    return with_constants(made, flat=[1, 32, 16], heads=[1, 16, 4, 8], back=[1, 16, 32])


def lstm() -> Model:
    """Two layers, the second in both directions, between linear ones."""
    text = """g (float[s,1,8] x) => (float[s,1,5] y) {
        p0 = MatMul(x, w0) p = Relu(p0)
        h0, i0, c0 = LSTM<hidden_size=16>(p, w1, r1, b1) h1 = Squeeze(h0, one)
        h2 = GRU<hidden_size=12, direction="bidirectional">(h1, w2, r2, b2) h3 = Transpose<perm=[0,2,1,3]>(h2)
        h = Reshape(h3, joined) y = MatMul(h, w3) }"""
    made = model_of(
        text, w0=(8, 10), w1=(1, 64, 10), r1=(1, 64, 16), b1=(1, 128), w2=(2, 36, 16), r2=(2, 36, 12), b2=(2, 72),
        w3=(24, 5), one=(1,), joined=(3,),
    )  # fmt: skip
    return with_constants(made, one=[1], joined=[0, 0, 24])


def with_constants(model: Model, **arrays: Any) -> Model:
    """``model`` with other constants in the place of some of its random ones, its types inferred anew."""
    proto = to_proto(model)
    for item in proto.graph.initializer:
        if item.name in arrays:
            item.CopyFrom(onnx.numpy_helper.from_array(np.asarray(arrays[item.name]), item.name))
    del proto.graph.value_info[:]
    made = load(proto)
    infer_types(made)
    return made


SHAPES: dict[str, Callable[[], Model]] = {
    "resnet": resnet, "mobilenet": mobilenet, "densenet": densenet, "vit": vit, "lstm": lstm,
}  # fmt: skip
