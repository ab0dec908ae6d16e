"""What nobody uses, and what only looks like it."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import RemoveDeadCode


def test_a_chain_dies_with_its_constants(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2] x, float[2] unused) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}> {
        a = Mul(x, w) y = Neg(x) b = Add(a, x) c = Relu(b)
    }"""
    done = rewrite(text, RemoveDeadCode())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[2], unused: float[2]) {",
        "  y = Neg(x)",
        "  return y: float[2]",
        "}",
    ]
    assert done.changed == 4 and len(done.model.graph.constants) == 0


def test_an_unused_default_is_still_an_input(rewrite: Callable[..., Any]) -> None:
    done = rewrite("g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Neg(x) }", RemoveDeadCode())
    assert [value.name for value in done.model.graph.inputs] == ["x", "w"]


def test_a_node_with_one_used_output_stays(rewrite: Callable[..., Any]) -> None:
    text = "g (float[4] x) => (float[2] y) { a, b = Split<axis = 0>(x) y = Neg(b) c = Abs(a) }"
    assert rewrite(text, RemoveDeadCode(), opset=11).ops == ["Split", "Neg"]


@pytest.mark.parametrize("node", ["RandomNormalLike(x)", "Bernoulli(x)"])
def test_what_draws_random_numbers_stays(rewrite: Callable[..., Any], node: str) -> None:
    """Taking it out would change what others draw."""
    assert len(rewrite(f"g (float[2] x) => (float[2] y) {{ d = {node} y = Neg(x) }}", RemoveDeadCode()).ops) == 2


def test_an_operator_that_is_not_known_stays(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2] x) => (float[2] y) { d = local.Log(x) y = Neg(x) }"
    assert rewrite(text, RemoveDeadCode(), run=False).ops == ["Log", "Neg"]


def test_inside_of_branches(rewrite: Callable[..., Any]) -> None:
    """A capture that dies in a branch takes what it captured with it, and an If without users goes as a whole."""
    text = """g (bool c, float[2] x) => (float[2] y) {
        w = Exp(x)
        y = If(c) <
            then_branch = t () => (float[2] p) { d = Neg(w) p = Relu(x) },
            else_branch = e () => (float[2] q) { q = Abs(x) }
        >
        z = If(c) <
            then_branch = t () => (float[2] p) { p = Relu(x) },
            else_branch = e () => (float[2] q) { q = Abs(x) }
        >
    }"""
    assert sorted(rewrite(text, RemoveDeadCode()).ops) == ["Abs", "If", "Relu"]


def test_functions_that_nobody_calls(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2] x) => (float[2] y) { y = local.used(x) }
        <domain: "local", opset_import: ["": 17, "local": 1]> used (x) => (y) { d = Exp(x) y = local.inner(x) }
        <domain: "local", opset_import: ["": 17]> inner (x) => (y) { y = Neg(x) }
        <domain: "local", opset_import: ["": 17, "local": 1]> dead (x) => (y) { y = local.alone(x) }
        <domain: "local", opset_import: ["": 17]> alone (x) => (y) { y = Abs(x) }"""
    done = rewrite(text, RemoveDeadCode())
    assert [key[1] for key in done.model.functions] == ["used", "inner"]
    assert done.ops == ["used", "inner", "Neg"]


def test_each_node_asks(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2] x) => (float[2] y) { d = Exp(x) y = Neg(x) }"
    done = rewrite(text, RemoveDeadCode(), disabled=("remove-dead-code",))
    assert done.ops == ["Exp", "Neg"] and done.changed == 0


def test_a_graph_of_dead_nodes_only(rewrite: Callable[..., Any]) -> None:
    nodes = " ".join(f"v{i} = Exp({f'v{i - 1}' if i else 'x'})" for i in range(200))
    done = rewrite(f"g (float[2] x) => (float[2] y) {{ y = Neg(x) {nodes} }}", RemoveDeadCode())
    assert done.ops == ["Neg"] and done.changed == 200
