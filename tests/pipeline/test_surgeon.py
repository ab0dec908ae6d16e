"""A function on a graphsurgeon Graph is a pass: in order with others, checked, rolled back when it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from qcompiler.errors import PassError
from qcompiler.ir import Model
from qcompiler.onnx_io import load
from qcompiler.passes import builtin_passes
from qcompiler.pipeline import PassContext, Pipeline
from qcompiler.plugins import surgeon_pass
from qcompiler.testing import assert_keeps_numbers

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3] x) => (float[n,3] y) <float[3] w = {1, 2, 3}> {
    a = Identity(x)  b = Mul(a, w)  c = Floor(b)  d = Floor(c)  y = Add(d, w)
}"""
SAMPLES = [{"x": np.float32([[0.5, -1.5, 2.25]])}]


@surgeon_pass(lossless=True)
def floor_once(graph: Any) -> None:
    """Floor of Floor is Floor."""
    for node in graph.nodes:
        if node.op == "Floor" and node.i().op == "Floor":
            node.inputs[0] = node.i().inputs[0]


@surgeon_pass(lossless=True, name="wrong-on-purpose")
def no_floor(graph: Any) -> Any:
    for node in graph.nodes:
        if node.op == "Floor":
            node.op = "Ceil"
    return graph


@surgeon_pass()
def rename(graph: Any) -> None:
    graph.outputs[0].name = "z"


@surgeon_pass(lossless=True)
def look(graph: Any) -> None:
    """Only looks."""
    assert graph.nodes


def run(*kinds: type[Any]) -> tuple[Model, list[Any], PassContext]:
    context = PassContext(samples=SAMPLES)
    model, records = Pipeline([kind() for kind in kinds]).run(load(parser.parse_model(TEXT)), context)
    return model, records, context


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_it_is_a_pass_like_any_other() -> None:
    assert (floor_once.name, floor_once.lossless, floor_once.__doc__) == (
        "floor-once",
        True,
        "Floor of Floor is Floor.",
    )
    assert (no_floor.name, rename.lossless) == ("wrong-on-purpose", False)
    assert floor_once.configured({}) == floor_once()


def test_in_a_pipeline_between_passes_of_rules() -> None:
    model, records, _ = run(floor_once, builtin_passes()["simplify"])
    assert kinds(model) == ["Mul", "Floor", "Add"]
    assert [record.changed for record in records][:2] == [1, 1]
    assert [str(value.shape) for value in model.graph.inputs] == ["('n', 3)"]


def test_a_wrong_one_is_rolled_back_and_named() -> None:
    model, records, context = run(no_floor, floor_once)
    assert kinds(model) == ["Identity", "Mul", "Floor", "Add"]
    assert records[0].status == "rolled-back"
    assert any("wrong-on-purpose" in text for text in context.warnings)


def test_one_that_only_looks_changes_nothing() -> None:
    model, (record,), _ = run(look)
    assert (record.changed, record.status) == (0, "no-op")
    assert len(model.graph) == 5


def test_the_interface_is_not_its_to_change() -> None:
    with pytest.raises(PassError, match="pass 'rename' changed the model's outputs"):
        run(rename)


def test_a_model_too_large_for_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    import qcompiler.plugins.surgeon as module

    monkeypatch.setattr(module, "needs_external_data", lambda _: True)
    _, (record,), _ = run(floor_once)
    assert "cannot hold a model over 2 GB" in record.reason


def test_with_the_assertion_for_authors() -> None:
    assert kinds(assert_keeps_numbers(floor_once(), TEXT, times=1)) == ["Identity", "Mul", "Floor", "Add"]
    with pytest.raises(AssertionError, match="output 'y' is off by"):
        assert_keeps_numbers(no_floor(), TEXT)
    assert_keeps_numbers(look(), TEXT, times=0)
