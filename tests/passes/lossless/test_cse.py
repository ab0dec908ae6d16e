"""Nodes that compute the same thing."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import MergeCommonSubexpressions


def of(nodes: str, outputs: str = "float[2] y") -> str:
    return f"g (float[2] x, float[2] z) => ({outputs}) <float[2] w = {{1, 2}}> {{ {nodes} }}"


def test_a_whole_chain_in_one_go(rewrite: Callable[..., Any]) -> None:
    done = rewrite(of("a = Exp(x) b = Mul(a, w) c = Exp(x) d = Mul(w, c) y = Sub(b, d)"), MergeCommonSubexpressions())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[2], z: float[2]) {",
        "  %0: float[2] = [1,2]",
        "  %1 = Exp(x)",
        "  %2 = Mul(%1, %0)",
        "  y = Sub(%2, %2)",
        "  return y: float[2]",
        "}",
    ]
    assert done.counts == {"merge-common-subexpressions": 2}


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Sub(x, z) b = Sub(z, x) y = Add(a, b)",  # not commutative
        "a = LeakyRelu<alpha = 0.1>(x) b = LeakyRelu<alpha = 0.2>(x) y = Add(a, b)",
        "a = Elu<alpha = 0.0>(x) b = Elu<alpha = -0.0>(x) y = Add(a, b)",
        "a = Exp(x) b = Exp(z) y = Add(a, b)",
        "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Add(a, b)",
        "a = Dropout(x, r, t) b = Dropout(x, r, t) y = Add(a, b)",
        "a, i = TopK(x, k) b, j = TopK<largest = 0>(x, k) y = Add(a, b)",
        "a = Clip(x, l) b = Clip(x, , l) y = Add(a, b)",
    ],
)
def test_what_differs_or_may(rewrite: Callable[..., Any], nodes: str) -> None:
    constants = "<float r = {0.5}, bool t = {1}, int64[1] k = {2}, float l = {0}, float[2]"
    run = "Random" not in nodes and "Dropout" not in nodes
    assert rewrite(of(nodes).replace("<float[2]", constants), MergeCommonSubexpressions(), run=run).changed == 0


@pytest.mark.parametrize(
    "nodes",
    [
        "a = LeakyRelu<alpha = 0.1>(x) b = LeakyRelu<alpha = 0.1>(x) y = Add(a, b)",
        "a = Max(x, z, w) b = Max(w, x, z) y = Add(a, b)",
        "a = Clip(x, w0) b = Clip(x, w0, ) y = Add(a, b)",
        "a = Concat<axis = 0>(x, z) b = Concat<axis = 0>(x, z) c = Add(a, b) y, u = Split<axis = 0>(c)",
        "a, b = Split<axis = 0>(x) c, d = Split<axis = 0>(x) e = Mul(b, d) y = Add(e, a)",
    ],
)
def test_what_is_the_same(rewrite: Callable[..., Any], nodes: str) -> None:
    text = of(nodes).replace("<float[2] w", "<float w0 = {0}, float[2] w")
    assert rewrite(text, MergeCommonSubexpressions()).changed == 1


def test_tensors_in_attributes(rewrite: Callable[..., Any]) -> None:
    text = """g (int64[1] s) => (float[n] y) {{
        a = ConstantOfShape<value = float[1] {{1}}>(s) b = ConstantOfShape<value = float[1] {{{}}}>(s) y = Add(a, b)
    }}"""
    assert rewrite(text.format("1"), MergeCommonSubexpressions()).changed == 1
    assert rewrite(text.format("2"), MergeCommonSubexpressions()).changed == 0


def test_outputs_keep_their_names(rewrite: Callable[..., Any]) -> None:
    """One of two may be an output; if both are, both stay."""
    done = rewrite(
        of("a = Exp(x) y = Exp(x) b = Neg(a) c = Add(b, y)", "float[2] y, float[2] c"), MergeCommonSubexpressions()
    )
    assert done.nodes == ["y = Exp(x)", "%0 = Neg(y)", "c = Add(%0, y)"]
    done = rewrite(of("y = Exp(x) a = Exp(x) c = Neg(a)", "float[2] y, float[2] c"), MergeCommonSubexpressions())
    assert done.nodes == ["y = Exp(x)", "c = Neg(y)"]
    done = rewrite(of("y = Exp(x) c = Exp(x)", "float[2] y, float[2] c"), MergeCommonSubexpressions())
    assert done.nodes == ["y = Exp(x)", "c = Exp(x)"]
    assert ["gives an output of the graph" in reason for reason in done.reasons] == [True]


BRANCHES = """g (bool c, float[2] x) => (float[2] y) {{
    {before}
    v = If(c) <
        then_branch = t () => (float[2] p) {{ a = Exp(x) p = Neg(a) }},
        else_branch = e () => (float[2] q) {{ b = Exp(x) d = Exp(x) q = Mul(b, d) }}
    >
    {after} y = Add(v, w)
}}"""


def test_a_branch_takes_what_was_computed_before_it(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BRANCHES.format(before="w = Exp(x)", after=""), MergeCommonSubexpressions())
    assert sorted(done.ops) == ["Add", "Exp", "If", "Mul", "Neg"]


def test_nobody_takes_what_a_branch_computed(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BRANCHES.format(before="", after="w = Exp(x)"), MergeCommonSubexpressions())
    assert sorted(done.ops) == ["Add", "Exp", "Exp", "Exp", "If", "Mul", "Neg"]
    assert done.changed == 1


def test_the_output_of_a_branch_stays_in_it(rewrite: Callable[..., Any]) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        w = Exp(x)
        v = If(c) <then_branch = t () => (float[2] p) { p = Exp(x) }, else_branch = e () => (float[2] q) { q = Neg(x) }>
        y = Add(v, w)
    }"""
    assert rewrite(text, MergeCommonSubexpressions()).changed == 0


def test_an_attribute_that_a_call_fills_in(rewrite: Callable[..., Any]) -> None:
    """In one body it is the same for both, and it is not the default."""
    text = """g (float[2] x) => (float[2] y) { y = local.f<k = 0.5>(x) }
        <domain: "local", opset_import: ["": 17]> f <k> (x) => (y) {
            a = Elu<alpha: float = @k>(x) b = Elu<alpha: float = @k>(x) c = Elu(x) d = Add(a, b) y = Add(d, c)
        }"""
    assert rewrite(text, MergeCommonSubexpressions()).ops == ["f", "Elu", "Elu", "Add", "Add"]


def test_each_change_asks(rewrite: Callable[..., Any]) -> None:
    text = of("a = Exp(x) b = Exp(x) y = Sub(a, b)")
    done = rewrite(text, MergeCommonSubexpressions(), disabled=("merge-common-subexpressions",))
    assert done.ops == ["Exp", "Exp", "Sub"]
