"""What stands in branches and loops is calibrated and quantized like everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.calibrate import collect, second_moments, with_outputs
from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.ir import Model, verify
from qcompiler.lower import OrtCpu, optimized_nodes
from qcompiler.onnx_io import open_session, to_proto
from qcompiler.passes import builtin_passes
from qcompiler.pipeline import PassContext
from tests.lower.models import model_of

TARGET = OrtCpu()

BRANCHES = """g (float[1,8,6,6] x, bool c) => (float[1,8,6,6] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w)
    y = If(c) <then_branch = t () => (float[1,8,6,6] u) { p = Conv<pads = [1, 1, 1, 1]>(a, v) u = Relu(p) },
               else_branch = e () => (float[1,8,6,6] z) { z = Neg(a) }>
}"""

TURNS = """g (float[3,16] x, int64 n) => (float[3,16] y) {
    go = Constant<value = bool {1}>()
    y = Loop(n, go, x) <body = b (int64 i, bool k, float[3,16] s) => (bool m, float[3,16] r) {
        m = Identity(k) h = MatMul(s, w) j = Add(h, q) r = Tanh(j) }>
}"""


def branches() -> tuple[Model, list[dict[str, Any]]]:
    draw = np.random.default_rng(1).standard_normal
    samples = [{"x": draw((1, 8, 6, 6)).astype("f4"), "c": np.array(i % 2 == 0)} for i in range(6)]
    return model_of(BRANCHES, w=(8, 8, 3, 3), v=(8, 8, 3, 3)), samples


def turns() -> tuple[Model, list[dict[str, Any]]]:
    draw = np.random.default_rng(1).standard_normal
    samples = [{"x": draw((3, 16)).astype("f4"), "n": np.array(i)} for i in range(1, 5)]
    return model_of(TURNS, w=(16, 16), q=(16,)), samples


def quantized(model: Model, samples: list[dict[str, Any]], name: str) -> Model:
    context = PassContext(data=open_dataset(samples, input_specs(model)), target=TARGET)
    options = {"least": 1} if name == "quantize-weights" else {}
    builtin_passes()[name].configured(options).run(model, context)
    forms = context.facts["forms"]
    assert len(forms) == len(TARGET.groups(model)[0])
    made = TARGET.lower(model, {group: offered[0] for group, offered in forms.items()})
    verify(made)
    onnx.checker.check_model(to_proto(made))
    return made


@pytest.mark.parametrize("make", [branches, turns])
def test_inner_values_are_given(make: Any) -> None:
    model, samples = make()
    inner = [node.output for graph in model.graphs() if graph is not model.graph for node in graph
             if node.op_type in ("Conv", "MatMul")]  # fmt: skip
    exposed, names = with_outputs(model, inner)
    verify(exposed)
    statistics = collect(model, inner, samples)
    session = open_session(exposed)
    for value in inner:
        given = [session.run(sample)[names[value]] for sample in samples]
        assert {array.size == 0 for array in given} == ({True, False} if make is branches else {False})
        there = np.concatenate([array.ravel() for array in given])
        assert statistics[value].count == there.size
        assert statistics[value].minmax() == pytest.approx((float(there.min()), float(there.max())), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (branches, "quantize-static"),
        (branches, "quantize-weights"),
        (turns, "quantize-static"),
        (turns, "quantize-dynamic"),
        (turns, "quantize-weights"),
    ],
)
def test_groups_in_subgraphs_are_quantized(make: Any, name: str) -> None:
    model, samples = make()
    made = quantized(model, samples, name)
    inner = {node.op_type for node in made.nodes() if node.graph is not made.graph}
    assert inner & {"MatMulIntegerToFloat", "DequantizeLinear", "MatMulNBits"}
    before, after = open_session(model), open_session(made)
    assert after.outputs == before.outputs
    for sample in samples:
        expected, found = before.run(sample)["y"], after.run(sample)["y"]
        assert expected.shape == found.shape
        assert np.square(expected - found).sum() < 1e-2 * np.square(expected).sum()


def test_the_runtime_fuses_inside_of_a_branch(tmp_path: Any) -> None:
    model, samples = branches()
    made = quantized(model, samples, "quantize-static")
    open_session(made, optimized_to=tmp_path / "optimized.onnx")
    kinds = [node.op_type for node in optimized_nodes(tmp_path / "optimized.onnx")]
    assert kinds.count("QLinearConv") == 2


def test_moments_of_a_loop_count_every_turn() -> None:
    model, samples = turns()
    (group,) = TARGET.groups(model)[0]
    moments = second_moments(model, [group.anchor], samples)[group.anchor]
    assert moments.count == 3 * (1 + 2 + 3 + 4)


NESTED = """g (float[2,16] x, bool c, bool d) => (float[2,16] y) {
    y = If(c) <then_branch = t () => (float[2,16] u) {
            k = If(d) <then_branch = a () => (float[2,16] p) { p = MatMul(x, w) },
                       else_branch = b () => (float[2,16] q) { q = Neg(x) }>
            u = MatMul(k, v) },
        else_branch = e () => (float[2,16] z) { z = Abs(x) }>
}"""

GIVEN = """g (float[2,16] x, bool c) => (float[2,16] y, float[2,16] r) {
    y = If(c) <then_branch = t () => (float[2,16] u) { u = MatMul(x, w) },
               else_branch = e () => (float[2,16] z) { z = Neg(x) }>
    r = MatMul(y, v)
}"""

GROWING = """g (float[1,16] x, int64 n, float[3,16] q) => (float[m,16] y, float[3,16] r) {
    go = Constant<value = bool {1}>()
    y = Loop(n, go, x) <body = b (int64 i, bool k, float[p,16] s) => (bool o, float[j,16] t) {
        o = Identity(k) h = MatMul(s, w) t = Concat<axis = 0>(s, h) }>
    r = MatMul(q, v)
}"""


@pytest.mark.parametrize("text", [NESTED, GIVEN])
def test_what_an_if_gives_is_observed_beside_what_stands_in_it(text: str) -> None:
    model = model_of(text, w=(16, 16), v=(16, 16))
    draw = np.random.default_rng(0).standard_normal
    samples: list[dict[str, Any]] = [
        {"x": draw((2, 16)).astype("f4"), "c": np.array(i % 3 > 0), "d": np.array(i % 2 > 0)} for i in range(12)
    ]
    if text is GIVEN:
        samples = [{name: array for name, array in sample.items() if name != "d"} for sample in samples]
    made = quantized(model, samples, "quantize-static")
    before, after = open_session(model), open_session(made)
    assert after.outputs == before.outputs
    for sample in samples:
        for name, array in before.run(sample).items():
            assert np.abs(array - after.run(sample)[name]).max() < 0.15


def test_a_loop_that_cannot_be_observed_leaves_the_rest_alone() -> None:
    model = model_of(GROWING, w=(16, 16), v=(16, 16))
    draw = np.random.default_rng(0).standard_normal
    samples: list[dict[str, Any]] = [
        {"x": draw((1, 16)).astype("f4"), "q": draw((3, 16)).astype("f4"), "n": np.array(3)} for _ in range(4)
    ]
    context = PassContext(data=open_dataset(samples, input_specs(model)), target=TARGET)
    builtin_passes()["quantize-static"].configured({}).run(model, context)
    assert [group.output.name for group in context.facts["forms"]] == ["r"]
    assert [node.output.name for node in context.facts["refused"]] == ["h"]
    groups = TARGET.groups(model)[0]
    found = second_moments(model, [group.anchor for group in groups], samples)
    assert [node.output.name for node in found] == ["r"]
