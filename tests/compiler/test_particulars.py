"""What the report shows beside the figures: graphs around nodes and weights as they are stored."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest

import qcompiler as qc
from qcompiler.compiler.particulars import graph_record, weight_records
from qcompiler.dtypes import DType
from qcompiler.ir import Model, QuantSpec
from qcompiler.lower import WEIGHTS, Form, OrtCpu
from qcompiler.onnx_io import infer_types
from qcompiler.report import MOST_PICTURES
from tests.lower.models import proto_of


def chain(count: int) -> Model:
    nodes = [onnx.helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(count)]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in ("v0", f"v{count}")]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return qc.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))


def test_every_name_has_its_neighbours_and_the_record_is_bounded() -> None:
    model = chain(20_000)
    start = time.perf_counter()
    found = graph_record(model, model, (f"n{i}" for i in range(10, 20_000, 5)))["graph"]
    assert time.perf_counter() - start < 20  # not quadratic
    assert len(found["named"]) == MOST_PICTURES
    nodes = found["compiled"]
    assert len(nodes) == 5 * MOST_PICTURES
    places = {node["name"]: place for place, node in enumerate(nodes)}
    for name in found["named"]:
        number = int(name[1:])
        for near in range(number - 2, number + 3):
            assert f"n{near}" in places
        assert nodes[places[name]]["inputs"] == [places[f"n{number - 1}"]]


def test_a_hub_says_how_many_readers_it_has() -> None:
    readers = [onnx.helper.make_node("Neg", ["h"], [f"r{i}"], name=f"r{i}") for i in range(50)]
    nodes = [onnx.helper.make_node("Relu", ["x"], ["h"], name="hub"), *readers]
    nodes.append(onnx.helper.make_node("Sum", [f"r{i}" for i in range(50)], ["y"], name="sum"))
    ends = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = qc.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8))
    found = graph_record(model, model, ["hub"])["graph"]["compiled"]
    hub = next(node for node in found if node["name"] == "hub")
    assert (hub["feeders"], hub["readers"]) == (0, 50)
    assert len(found) == 1 + 4 + 1
    assert next(node for node in found if node["name"] == "sum")["feeders"] == 50


@pytest.mark.parametrize(("block", "scales"), [(None, 8), (16, 16)])
def test_weights_are_told_as_they_were_and_as_they_are_stored(block: int | None, scales: int) -> None:
    model = qc.load(proto_of("g (float[n,32] x) => (float[n,8] y) { y = MatMul(x, w) }", w=(32, 8)))
    infer_types(model)
    (group,) = OrtCpu().groups(model)[0]
    spec = QuantSpec(DType.INT8, symmetric=True, axis=1) if block is None else QuantSpec(
        DType.INT8, symmetric=True, axis=0, block=block
    )  # fmt: skip
    (record,) = weight_records({group: Form(WEIGHTS, spec)})
    assert group.weight is not None and group.weight.constant is not None
    array = group.weight.constant.numpy()
    assert (record["elements"], record["scales"], sum(record["histogram"])) == (256, scales, 256)
    assert (record["low"], record["high"]) == (pytest.approx(array.min()), pytest.approx(array.max()))
    assert record["stored_low"] == pytest.approx(array.min(), abs=0.02)
    assert 35 < record["sqnr_db"] < 60
    assert record["levels"] <= 255


def test_weights_that_are_not_finite_stay_float(tmp_path: object) -> None:
    proto = proto_of(
        "g (float[n,64] x) => (float[n,64] y) { h = MatMul(x, w) y = MatMul(h, v) }", w=(64, 64), v=(64, 64)
    )
    array = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    array[0, 0] = np.inf
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, proto.graph.initializer[0].name))
    report = qc.compile(proto, recipe="int8-weights", min_speedup=0).report
    reasons = [layer["reason"] for layer in report.get("layers", ())]
    assert "its weights hold NaN or infinity" in reasons
