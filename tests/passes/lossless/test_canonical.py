"""One spelling."""

from collections.abc import Callable
from typing import Any

from qcompiler.passes.lossless import Canonicalize


def test_attributes_that_hold_anyway(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2,3] x) => (float[2,3] y) <float[3] s = {1, 2, 3}, int64[2] z = {2, 3}> {
        n = LayerNormalization<axis = -1, epsilon = 0.01, stash_type = 1>(x, s) r = Reshape<allowzero = 0>(n, z)
        y = Softmax<axis = 1>(r) }"""
    done = rewrite(text, Canonicalize())
    assert [line.partition("{")[2] for line in done.nodes] == ["epsilon=0.01}", "", "axis=1}"]


def test_the_default_is_that_of_the_operator_set(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis = 1>(x) }"
    assert rewrite(text, Canonicalize(), opset=11).nodes == ["y = Softmax(x)"]
    assert rewrite(text, Canonicalize(), opset=13).nodes == ["y = Softmax(x) {axis=1}"]


def test_constants_stand_behind(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2] x) => (float[2] y) <float[2] s = {1, 2}> { a = Add(s, x) b = Mul(a, s) c = Sub(s, b) y = Max(s, c, x) }"""
    done = rewrite(text, Canonicalize())
    assert [line.split(" = ")[1] for line in done.nodes][:3] == ["Add(x, %0)", "Mul(%1, %0)", "Sub(%0, %2)"] or [
        node.inputs[0].name for node in done.model.nodes()
    ] == ["x", "a", "s", "s"]
    assert done.changed == 1


def test_an_attribute_of_a_function_stays(rewrite: Callable[..., Any]) -> None:
    """What a call fills in is no default."""
    text = """g (float[2,3] x) => (float[2,3] y) { y = local.f<k = 0>(x) }
        <domain: "local", opset_import: ["": 17]> f<k>(x) => (y) { y = Concat<axis: int = @k>(x) }"""
    done = rewrite(text, Canonicalize())
    assert done.changed == 0
