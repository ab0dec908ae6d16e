"""Rotary position embedding as PyTorch's exporters write it for models of the Llama family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.ir import Model, clone_model, verify
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import infer_types
from qcompiler.passes.lossless import (
    FuseAttention,
    FuseRotary,
    MergeCommonSubexpressions,
    RemoveDeadCode,
    ShareEqualWeights,
    Simplify,
)
from qcompiler.pipeline import PassContext, Reference
from qcompiler.testing import random_feeds

pytestmark = pytest.mark.skipif(
    "ai.onnx:RotaryEmbedding" not in OrtCpu().own_operators, reason="this onnxruntime has no kernel for RotaryEmbedding"
)

CONSTANTS = """<int64[1] zero = {0}, int64[1] two = {2}, int64[1] end = {9223372036854775807}, int64[1] last = {3}, int64[1] one = {1},
    float scaling = {0.9}, int64[4] split = {0, 0, 3, 4}, int64[3] join = {0, 0, 12}, float half = {0.5}>"""
TABLES = """c = Concat <axis = -1> (f, f)  cos1 = Cos(c)  sin1 = Sin(c)  cos2 = %s  sin2 = %s
    cos = Unsqueeze(cos2, one)  sin = Unsqueeze(sin2, one)"""
PLAIN, SCALED = ("Identity(cos1)", "Identity(sin1)"), ("Mul(cos1, scaling)", "Mul(sin1, scaling)")


def rotated(x: str, y: str) -> str:
    return f"""{x}f = Slice({x}, zero, two, last, one)  {x}b = Slice({x}, two, end, last, one)  {x}n = Neg({x}b)
        {x}r = Concat <axis = -1> ({x}n, {x}f)  {x}c = Mul({x}, cos)  {x}s = Mul({x}r, sin)  {y} = Add({x}c, {x}s)"""


def through(source: Model, *passes: Any) -> Model:
    reference = Reference(source, [*random_feeds(source, 2, 0), *random_feeds(source, 1, 1)])
    model, context = clone_model(source), PassContext(target=OrtCpu())
    for item in (Simplify(), *passes, ShareEqualWeights(), MergeCommonSubexpressions(), Simplify(), RemoveDeadCode()):
        item.run(model, context)
        verify(model)
        infer_types(model)
    assert reference.difference(model) == ""
    return model


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("tables", [PLAIN, SCALED])
@pytest.mark.parametrize("batch", ["b", "1"])
def test_one_operator_comes_of_it(model_of: Callable[..., Model], tables: Any, batch: str) -> None:
    text = f"g (float[b,3,s,4] x, float[{batch},s,2] f) => (float[b,3,s,4] y) {CONSTANTS} {{ {TABLES % tables} {rotated('x', 'y')} }}"
    model = through(model_of(text), FuseRotary())
    scaled = ["Mul", "Mul"] if tables is SCALED else []
    expanded = ["Shape", "Concat", "Expand", "Expand"] if batch == "1" else []
    assert sorted(kinds(model)) == sorted(["Cos", "Sin", "RotaryEmbedding", *scaled, *expanded])
    assert model.opset == 23


def test_with_attention_the_heads_are_never_split(model_of: Callable[..., Model]) -> None:
    text = f"""g (float[b,s,12] q, float[b,s,12] k, float[b,s,12] v, float[b,s,2] f) => (float[b,s,12] y) {CONSTANTS} {{
        {TABLES % PLAIN}
        q1 = Reshape(q, split) qh = Transpose <perm = [0, 2, 1, 3]> (q1) k1 = Reshape(k, split) kh = Transpose <perm = [0, 2, 1, 3]> (k1)
        v1 = Reshape(v, split) vh = Transpose <perm = [0, 2, 1, 3]> (v1) {rotated("qh", "qe")} {rotated("kh", "ke")}
        kt = Transpose <perm = [0, 1, 3, 2]> (ke) d = MatMul(qe, kt) e = Mul(d, half) w = Softmax <axis = -1> (e) o = MatMul(w, vh)
        p = Transpose <perm = [0, 2, 1, 3]> (o) y = Reshape(p, join) }}"""
    model = through(model_of(text), FuseRotary(), Simplify(), FuseAttention())
    assert sorted(kinds(model)) == ["Attention", "Cos", "RotaryEmbedding", "RotaryEmbedding", "Sin"]


@pytest.mark.parametrize(
    "change",
    [
        ("c = Concat <axis = -1> (f, f)", "g = Neg(f) c = Concat <axis = -1> (f, g)"),  # two halves that differ
        ("xf = Slice(x, zero, two, last, one)", "xf = Slice(x, one, last, last, one)"),  # not the first half
        ("xr = Concat <axis = -1> (xn, xf)", "xr = Concat <axis = -1> (xf, xn)"),  # not swapped
        ("cos = Unsqueeze(cos2, one)", "cos = Unsqueeze(cos2, zero)"),  # heads, not batch
        ("float[b,s,2] f", "float[b,t,2] f"),  # perhaps one place for all
    ],
)  # fmt: skip
def test_what_stays(model_of: Callable[..., Model], change: tuple[str, str]) -> None:
    text = f"g (float[b,3,s,4] x, float[b,s,2] f) => (float[b,3,s,4] y) {CONSTANTS} {{ {TABLES % PLAIN} {rotated('x', 'y')} }}"
    assert change[0] in text
    source = model_of(text.replace(*change))
    model, context = clone_model(source), PassContext(target=OrtCpu())
    Simplify().run(model, context)
    assert FuseRotary().run(model, context) == 0
    assert model.opset == 17
