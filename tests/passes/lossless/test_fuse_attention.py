"""Multi-head attention in pieces, as exporters write it, becomes one operator where the target has a kernel for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.ir import Model, clone_model, verify
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import infer_types
from qcompiler.passes.lossless import FuseAttention, FuseEinsum, MergeCommonSubexpressions, RemoveDeadCode, Simplify
from qcompiler.pipeline import PassContext, Reference
from qcompiler.testing import random_feeds

HAS_IT = "ai.onnx:Attention" in OrtCpu().own_operators
needs_kernel = pytest.mark.skipif(not HAS_IT, reason="this onnxruntime has no kernel for Attention")

HEAD = """g (float[b,s,6] q, float[b,t,6] k, float[b,t,6] v%s) => (float[b,s,6] y)
    <int64[4] split = {0, 0, 2, 3}, int64[4] split2 = {0, 0, -1, 3}, int64[3] join = {0, 0, 6}, int64[3] join2 = {0, 0, -1},
     float third = {0.57735}, float root = {1.7320508}, float quarter = {0.75}> {
        qr = Reshape(q, split)  kr = Reshape(k, split2)  vr = Reshape(v, split)
        vh = Transpose <perm = [0, 2, 1, 3]> (vr)
        %s
        w = Softmax <axis = -1> (m)  o = MatMul(w, vh)  p = Transpose <perm = [0, 2, 1, 3]> (o)  y = Reshape(p, join%s)
    }"""
QUERY, KEY = "qh = Transpose <perm = [0, 2, 1, 3]> (qr) ", "kh = Transpose <perm = [0, 2, 3, 1]> (kr) "
SPELLINGS = {  # mask, pieces, join
    "dynamo, scale behind": (", float[b,1,s,t] mask", QUERY + KEY + "d = MatMul(qh, kh) e = Mul(d, third) m = Add(e, mask)", ""),
    "dynamo, scale on both sides": (
        ", float[b,1,s,t] mask",
        QUERY + KEY + "qs = Mul(qh, quarter) ks = Mul(kh, quarter) d = MatMul(qs, ks) m = Add(mask, d)",
        "2",
    ),
    "TorchScript": (
        ", float[b,1,1,t] mask",
        QUERY + "ka = Transpose <perm = [0, 2, 1, 3]> (kr) kh = Transpose <perm = [0, 1, 3, 2]> (ka)"
        " d = MatMul(qh, kh) e = Div(d, root) m = Add(e, mask)",
        "2",
    ),
    "tf2onnx": ("", QUERY + KEY + "qs = Mul(third, qh) m = MatMul(qs, kh)", ""),
    "scale before the split": (
        ", float[s,t] mask",
        "q2 = Mul(q, third) q3 = Reshape(q2, split) qh = Transpose <perm = [0, 2, 1, 3]> (q3)" + KEY + "d = MatMul(qh, kh) m = Add(d, mask)",
        "",
    ),
    "no scale": (", float[1,2,s,t] mask", QUERY + KEY + "d = MatMul(qh, kh) m = Add(d, mask)", ""),
}  # fmt: skip


def through(source: Model, *passes: Any, **context: Any) -> tuple[Model, PassContext]:
    """The model after ``passes`` and FuseAttention, whose numbers were compared at three sizes."""
    feeds = [*random_feeds(source, 2, 0), *random_feeds(source, 1, 1)]
    reference = Reference(source, feeds)
    model, given = clone_model(source), PassContext(**context)
    given.trace.explain = True
    for item in (*passes, FuseAttention(), RemoveDeadCode()):
        item.run(model, given)
        verify(model)
        infer_types(model)
    assert reference.difference(model) == ""
    return model, given


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]


@needs_kernel
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_operator_comes_of_it(model_of: Callable[..., Model], spelling: str) -> None:
    source = model_of(HEAD % SPELLINGS[spelling])
    model, _ = through(source, Simplify(), target=OrtCpu())
    expected = ["Shape", "Concat", "Expand", "Attention"] if "1,1,t" in SPELLINGS[spelling][0] else ["Attention"]
    assert kinds(model) == expected
    assert model.opset == 23
    scale = {"no scale": 1.0, "dynamo, scale on both sides": 0.75**2}.get(spelling, 0.57735)
    assert model.graph._last.attr("scale") == pytest.approx(scale, rel=1e-5)


@needs_kernel
def test_a_raised_operator_set_is_told_and_can_be_forbidden(model_of: Callable[..., Model]) -> None:
    source = model_of(HEAD % SPELLINGS["tf2onnx"])
    _, context = through(source, Simplify(), target=OrtCpu())
    (warning,) = context.warnings
    assert "raised from 17 to 23 for Attention" in warning and "--set fuse-attention.raise_opset=false" in warning
    kept = FuseAttention.configured({"raise_opset": "false"})
    assert kept.run(source, PassContext(target=OrtCpu())) == 0
    assert source.opset == 17


@needs_kernel
def test_keras_writes_einsum(model_of: Callable[..., Model]) -> None:
    source = model_of("""g (float[b,s,2,3] q, float[b,t,2,3] k, float[b,t,2,3] v) => (float[b,s,2,3] y) <float third = {0.57735}> {
        qs = Mul(q, third)  d = Einsum <equation = "aecd,abcd->acbe"> (k, qs)  w = Softmax <axis = -1> (d)
        y = Einsum <equation = "acbe,aecd->abcd"> (w, v)
    }""")
    model, _ = through(source, FuseEinsum(), target=OrtCpu())
    assert "Einsum" not in kinds(model)  # its heads are never together, so that it stays products


@needs_kernel
def test_masks_of_many_layers_are_made_once(model_of: Callable[..., Model]) -> None:
    mask, pieces, join = SPELLINGS["TorchScript"]
    text = (HEAD % (mask, pieces, join)).replace("y = Reshape(p, join2)", "n = Reshape(p, join2)")
    layer = """q2 = Reshape(n, split) q2h = Transpose <perm = [0, 2, 1, 3]> (q2) k2 = Reshape(k, split)
        k2h = Transpose <perm = [0, 2, 3, 1]> (k2) v2 = Reshape(v, split) v2h = Transpose <perm = [0, 2, 1, 3]> (v2)
        d2 = MatMul(q2h, k2h) e2 = Div(d2, root) m2 = Add(e2, mask) w2 = Softmax <axis = -1> (m2) o2 = MatMul(w2, v2h)
        p2 = Transpose <perm = [0, 2, 1, 3]> (o2) y = Reshape(p2, join) }"""
    model = model_of(text[: text.rindex("}")] + layer)
    given = PassContext(target=OrtCpu())
    for item in (Simplify(), FuseAttention(), MergeCommonSubexpressions()):
        item.run(model, given)
    assert kinds(model).count("Attention") == 2
    assert kinds(model).count("Expand") == 2  # as many queries in both, which nobody can tell


@needs_kernel
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("float[b,1,s,t] mask", "float[n,1,s,t] mask"), "the mask is not surely"),
        (("float[b,1,s,t] mask", "float[b,1,s,n] mask"), "the mask is not surely"),
        (("float[b,1,s,t] mask", "float[b,1,n,t] mask"), "the mask is not surely"),
        (("float[b,s,6] y", "float[n,m,3] y"), "the heads are not put together"),
        (("float[b,t,6] k", "float[1,t,6] k"), "of different batches"),
        (("float[b,t,6] v", "float[1,t,6] v"), "of different batches"),
        (("split2 = {0, 0, -1, 3}", "split2 = {0, -1, 2, 3}"), "not split into heads"),
        (("third = {0.57735}", "third = {-0.5}"), "the scale is -0.5"),
        (("w = Softmax <axis = -1>", "w = Softmax <axis = 2>"), ""),
        (("=> (float[b,s,6] y)", "=> (float[b,s,6] y, float w)"), "is an output of the graph"),
    ],
)  # fmt: skip
def test_what_stays(model_of: Callable[..., Model], change: tuple[str, str], why: str) -> None:
    text = (HEAD % SPELLINGS["dynamo, scale behind"]).replace(*change)
    model, context = through(model_of(text), target=OrtCpu())
    assert "Attention" not in kinds(model)
    assert model.opset == 17  # raised for nothing, it would only need a newer runtime
    assert not why or any(why in miss.reason for miss in context.trace.near_misses)


def test_without_a_kernel_it_stays_in_pieces(model_of: Callable[..., Model]) -> None:
    source = model_of(HEAD % SPELLINGS["tf2onnx"])
    assert FuseAttention().run(source, PassContext()) == 0
    assert "Softmax" in kinds(source)


@needs_kernel
def test_a_rule_that_was_rolled_back_does_not_raise_the_operator_set(model_of: Callable[..., Model]) -> None:
    source = model_of(HEAD % SPELLINGS["tf2onnx"])
    assert FuseAttention().run(source, PassContext(target=OrtCpu(), disabled={"attention"})) == 0
    assert source.opset == 17
