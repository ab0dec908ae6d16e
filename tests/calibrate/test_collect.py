"""One run per sample serves every observer, whatever the caller's batches."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from qcompiler.calibrate import collect, with_outputs
from qcompiler.errors import CalibrationError
from qcompiler.ir import Model, Value, verify
from qcompiler.onnx_io import infer_types, load, open_session

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,8] x) => (float[n,4] y) <float[8,4] w> { h = MatMul(x, w) r = Relu(h) y = Softmax(r) }"""


@pytest.fixture
def model() -> Model:
    proto = parser.parse_model(TEXT)
    del proto.graph.initializer[:]
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    import onnx

    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    made = load(proto)
    infer_types(made)
    return made


def values(model: Model) -> list[Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]


def test_statistics_are_those_of_the_tensors(model: Model) -> None:
    rows = np.random.default_rng(1).standard_normal((12, 8)).astype(np.float32)
    found = collect(model, values(model), [{"x": row[None]} for row in rows])
    exposed, names = with_outputs(model, values(model))
    verify(exposed)
    outputs = open_session(exposed).run({"x": rows})
    for value, statistics in found.items():
        array = rows if names[value] == "x" else outputs[names[value]]
        assert statistics.minmax() == pytest.approx((float(array.min()), float(array.max())), rel=1e-5)
        assert statistics.count == array.size


def test_any_cut_gives_the_same_bits(model: Model) -> None:
    rows = np.random.default_rng(2).standard_normal((24, 8)).astype(np.float32)
    results = []
    for cut in (1, 5, 8, 24):
        parts = [{"x": rows[start : start + cut]} for start in range(0, 24, cut)]
        found = collect(model, values(model), parts)
        results.append([(s.codes.tobytes(), s.counts.tobytes(), s.minmax()) for s in found.values()])
    assert all(result == results[0] for result in results)


def test_a_sample_that_fails_is_passed_over_and_all_failing_is_an_error(model: Model) -> None:
    good, bad = {"x": np.ones((1, 8), np.float32)}, {"x": np.ones((1, 9), np.float32)}
    assert collect(model, values(model), [bad, good])[model.graph.inputs[0]].count == 8
    with pytest.raises(CalibrationError, match="none of 2 samples runs"):
        collect(model, values(model), [bad, bad])
    with pytest.raises(CalibrationError, match="no samples"):
        collect(model, values(model), [])


def test_what_only_moves_or_joins_elements_is_counted_from_its_parts() -> None:
    """The same statistics to the last count as if each tensor had been looked at itself."""
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,6] x) => (float[1,6,8] y)'
        " { a = Relu(x) b = Neg(x) c = Concat<axis=1>(a, b, a) d = Transpose<perm=[0,2,1]>(c) y = Sigmoid(d) }"
    )
    model = load(proto)
    nodes = {node.output.name: node.output for node in model.graph}
    samples = [{"x": np.random.default_rng(i).normal(size=(1, 4, 6)).astype(np.float32)} for i in range(5)]
    together = collect(model, [nodes[name] for name in "abcd"], samples)
    assert [value.name for value in together] == list("abcd")
    for name in "cd":
        alone = collect(model, [nodes[name]], samples)[nodes[name]]
        shared = together[nodes[name]]
        assert (shared.count, shared.minimum, shared.maximum) == (alone.count, alone.minimum, alone.maximum)
        assert shared.codes.tolist() == alone.codes.tolist()
        assert shared.counts.tolist() == alone.counts.tolist()
