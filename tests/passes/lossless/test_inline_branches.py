"""If whose condition is known."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import InlineConstantBranches, RemoveDeadCode

TEXT = """g (float[2] x) => (float[2] y, float[2] z) <bool c = {%d}, float[2] w = {1, 2}> {
    a = Exp(x)
    y, k = If(c) <
        then_branch = t () => (float[2] p, float[2] q) <float[2] v = {3, 4}> { p = Add(a, v) q = Mul(x, w) },
        else_branch = e () => (float[2] p2, float[2] q2) { p2 = Neg(x) q2 = Neg(a) }
    >
    z = Relu(k)
}"""


def test_the_branch_that_is_taken_stands_in_its_place(rewrite: Callable[..., Any]) -> None:
    done = rewrite(TEXT % 1, InlineConstantBranches(), RemoveDeadCode())
    assert done.ops == ["Exp", "Add", "Mul", "Relu"] and done.counts == {"inline-constant-branches": 1}
    assert rewrite(TEXT % 0, InlineConstantBranches(), RemoveDeadCode()).ops == ["Exp", "Neg", "Neg", "Relu"]


def test_nested_ones_are_decided_too(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2] x, bool d) => (float[2] y) <bool c = {1}> {
        y = If(c) <
            then_branch = t () => (float[2] p) {
                p = If(c) <
                    then_branch = tt () => (float[2] pp) { pp = Neg(x) },
                    else_branch = te () => (float[2] pe) { pe = Exp(x) }
                >
            },
            else_branch = e () => (float[2] q) { q = Abs(x) }
        >
    }"""
    assert rewrite(text, InlineConstantBranches()).ops == ["Neg"]


def test_inside_of_a_branch_that_stays(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2] x, bool d) => (float[2] y) <bool c = {0}> {
        y = If(d) <
            then_branch = t () => (float[2] p) {
                p = If(c) <
                    then_branch = tt () => (float[2] pp) { pp = Neg(x) },
                    else_branch = te () => (float[2] pe) { pe = Exp(x) }
                >
            },
            else_branch = e () => (float[2] q) { q = Abs(x) }
        >
    }"""
    assert rewrite(text, InlineConstantBranches()).ops == ["If", "Exp", "Abs"] or sorted(
        rewrite(text, InlineConstantBranches()).ops
    ) == ["Abs", "Exp", "If"]


def test_a_branch_that_gives_what_it_captured(rewrite: Callable[..., Any]) -> None:
    """An output of the graph keeps its name by an Identity."""
    text = """g (float[2] x) => (float[2] y) <bool c = {1}> {
        y = If(c) <
            then_branch = t () => (float[2] p) { p = Identity(x) },
            else_branch = e () => (float[2] q) { q = Abs(x) }
        >
    }"""
    assert rewrite(text, InlineConstantBranches()).ops == ["Identity"]


@pytest.mark.parametrize("head", ["bool c", "bool c = {1}"])
def test_a_condition_that_a_caller_may_give(rewrite: Callable[..., Any], head: str) -> None:
    text = """g (float[2] x, %s) => (float[2] y) {
        y = If(c) <
            then_branch = t () => (float[2] p) { p = Neg(x) }, else_branch = e () => (float[2] q) { q = Abs(x) }
        >
    }"""
    done = rewrite(text % head, InlineConstantBranches(), explain=True)
    assert done.changed == 0 and "run time or can be overridden" in done.reasons[0]


def test_names_of_both_sides_may_clash(rewrite: Callable[..., Any]) -> None:
    """Two branches taken, each with a value of the same name."""
    text = """g (float[2] x) => (float[2] y) <bool c = {1}> {
        a = If(c) <then_branch = t () => (float[2] s) { r = Exp(x) s = Neg(r) }, else_branch = e () => (float[2] q) { q = Abs(x) }>
        b = If(c) <then_branch = t () => (float[2] s) { r = Abs(x) s = Tanh(r) }, else_branch = e () => (float[2] q) { q = Abs(x) }>
        y = Add(a, b)
    }"""
    assert rewrite(text, InlineConstantBranches()).ops == ["Exp", "Neg", "Abs", "Tanh", "Add"]
