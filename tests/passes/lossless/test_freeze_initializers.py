"""Initializers that a caller may override."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.errors import UsageError
from qcompiler.passes.lossless import FreezeInitializers

BOTH = "g (float[2] x, float[2] w = {1, 2}, float[2] b = {3, 4}) => (float[2] y) { t = Mul(x, w) y = Add(t, b) }"
ONE = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) <float[2] b = {3, 4}> { t = Mul(x, w) y = Add(t, b) }"


def inputs(done: Any) -> list[str]:
    return [value.name for value in done.model.graph.inputs]


def test_all_of_them_is_a_habit(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BOTH, FreezeInitializers())
    assert inputs(done) == ["x"]
    assert done.changed == 2 and done.counts == {"freeze-initializers": 2}
    assert done.context.warnings == [
        "2 initializers were listed among the model's inputs and are constants now; "
        "`--set freeze-initializers.mode=never` keeps them overridable"
    ]
    assert all(value.constant is not None for value in done.model.graph.constants)


def test_some_of_them_are_an_interface(rewrite: Callable[..., Any]) -> None:
    done = rewrite(ONE, FreezeInitializers())
    assert (done.changed, inputs(done), done.context.warnings) == (0, ["x", "w"], [])
    assert done.reasons == ["others are no inputs, so it is one on purpose"]


def test_constant_nodes_do_not_count(rewrite: Callable[..., Any]) -> None:
    """An exporter that lists all initializers still writes Constant nodes."""
    text = """g (float[2] x, float[2] w = {1, 2}) => (float[2] y) {
        b = Constant<value = float[2] {3, 4}>() t = Mul(x, w) y = Add(t, b)
    }"""
    assert inputs(rewrite(text, FreezeInitializers())) == ["x"]


def test_a_weight_counts_whatever_its_name(rewrite: Callable[..., Any], model_of: Callable[..., Any]) -> None:
    text = """g (float[1,2] x, float[2] b = {1, 2}) => (float[1,2] y) <float[2,2] w = {1, 2, 3, 4}> {
        t = MatMul(x, w) y = Add(t, b)
    }"""
    model = model_of(text)
    (weight,) = (value for value in model.graph.constants if value.name == "w")
    weight.name = "renamed"
    assert inputs(rewrite(model, FreezeInitializers())) == ["x", "b"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"mode": "never"}, ["x", "w", "b"]),
        ({"keep": "w|b"}, ["x", "w", "b"]),
        ({"keep": "b"}, ["x", "b"]),
        ({"mode": "always", "keep": "[a-d]"}, ["x", "b"]),
        ({"keep": "ba"}, ["x"]),
    ],
)
def test_options(rewrite: Callable[..., Any], options: dict[str, str], left: list[str]) -> None:
    assert inputs(rewrite(BOTH, FreezeInitializers(**options))) == left


def test_always_means_always(rewrite: Callable[..., Any]) -> None:
    assert inputs(rewrite(ONE, FreezeInitializers(mode="always"))) == ["x"]


@pytest.mark.parametrize("options", [{"mode": "sometimes"}, {"keep": "("}])
def test_options_that_make_no_sense(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="freeze-initializers"):
        FreezeInitializers.configured(options)


def test_what_was_rolled_back_stays(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BOTH, FreezeInitializers(), disabled=("freeze-initializers",))
    assert inputs(done) == ["x", "w", "b"] and done.context.warnings == []


def test_before_ir_version_4_they_were_constants_anyway(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BOTH, FreezeInitializers(), ir=3, opset=7)
    assert done.changed == 0 and inputs(done) == ["x"]
