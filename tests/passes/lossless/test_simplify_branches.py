"""If: negated conditions, Ifs of one condition, and views behind them, as TorchScript writes for squeeze."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.ir import format_model
from qcompiler.passes.lossless import MergeCommonSubexpressions, RemoveDeadCode, Simplify, SimplifyBranches

SQUEEZE = """g (float[a,b] x, bool c) => (float[p,q,r] y, float[s] z) <int64[1] zero = {0}, int64[1] two = {2}> {
    n = Not(c)
    v = If(%s) <then_branch = t () => (float[d,e,f] p) { p = Unsqueeze(x, zero) }, else_branch = e () => (float[g,h] q) { q = Identity(x) }>
    w = Unsqueeze(v, zero)  %s
}"""


def test_the_branches_of_a_negated_condition_change_places(rewrite: Callable[..., Any]) -> None:
    text = """g (float[3] x, bool c) => (float[3] y) { n = Not(c)
        y = If(n) <then_branch = t () => (float[3] p) { p = Neg(x) }, else_branch = e () => (float[3] q) { q = Exp(x) }> }"""
    done = rewrite(text, SimplifyBranches())
    assert done.ops == ["If", "Exp", "Neg"]
    assert done.model.graph._first.attr("then_branch")._first.op_type == "Exp"
    kept = rewrite(text.replace("=> (float[3] y)", "=> (float[3] y, bool n)"), SimplifyBranches())
    assert sorted(kept.ops) == ["Exp", "If", "Neg", "Not"]  # somebody else asks for it


def test_ifs_of_one_condition_are_one(rewrite: Callable[..., Any]) -> None:
    text = """g (float[3] x, bool c) => (float[3] y, float[3] z) {
        a = If(c) <then_branch = t () => (float[3] p) { p = Neg(x) }, else_branch = e () => (float[3] q) <float[1] k = {2}> { q = Mul(x, k) }>
        b = Abs(a)
        d, z = If(c) <then_branch = t2 () => (float[3] p2, float[3] p3) { p2 = Exp(x) p3 = Sin(p2) },
                      else_branch = e2 () => (float[3] q2, float[3] q3) { q2 = Cos(x) q3 = Neg(q2) }>
        y = Add(b, d)
    }"""
    done = rewrite(text, SimplifyBranches())
    assert done.ops.count("If") == 1
    assert [value.name for value in done.model.graph.outputs] == ["y", "z"]
    text = text.replace("p2 = Exp(x)", "p2 = Exp(b)")  # it needs what the first gave
    assert rewrite(text, SimplifyBranches()).ops.count("If") == 2


def test_ifs_in_ifs(rewrite: Callable[..., Any]) -> None:
    text = """g (float[3] x, bool c, bool d) => (float[3] y) {
        y = If(c) <then_branch = t () => (float[3] p) {
            n = Not(d)
            a = If(n) <then_branch = t1 () => (float[3] p1) { p1 = Neg(x) }, else_branch = e1 () => (float[3] q1) { q1 = Exp(x) }>
            b = If(d) <then_branch = t2 () => (float[3] p2) { p2 = Sin(x) }, else_branch = e2 () => (float[3] q2) { q2 = Cos(x) }>
            p = Add(a, b)
        }, else_branch = e () => (float[3] q) { q = Abs(x) }>
    }"""
    done = rewrite(text, SimplifyBranches())
    assert done.ops.count("If") == 2 and "Not" not in done.ops


@pytest.mark.parametrize("condition", ["c", "n"])
def test_a_view_behind_goes_in_and_merges(rewrite: Callable[..., Any], condition: str) -> None:
    text = (SQUEEZE % (condition, "y = Abs(w)")).replace(", float[s] z", "").replace("float[p,q,r] y", "float y")
    done = rewrite(text, SimplifyBranches(), Simplify(), RemoveDeadCode(), run=False)
    assert done.ops == ["If", "Abs", "Unsqueeze", "Unsqueeze"]
    assert "Identity" not in format_model(done.model)


def test_the_numbers_of_a_view_that_went_in(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2,3] x, bool c) => (float[2,3] y) <int64[1] zero = {0}> {
        v = If(c) <then_branch = t () => (float[1,2,3] p) { p = Unsqueeze(x, zero) },
                   else_branch = e () => (float[1,2,3] q) { n = Neg(x) q = Unsqueeze(n, zero) }>
        w = Squeeze(v, zero)  y = Exp(w)
    }"""
    done = rewrite(text, SimplifyBranches(), Simplify(), RemoveDeadCode())
    assert done.ops == ["If", "Exp", "Identity", "Neg"]


@pytest.mark.parametrize(
    "rest",
    ["z = Squeeze(v) y = Abs(w)", "z = Shape(w) y = Unsqueeze(v, two)"],  # somebody else takes v
)
def test_what_others_take_stays_outside(rewrite: Callable[..., Any], rest: str) -> None:
    text = (
        (SQUEEZE % ("c", rest))
        .replace("float[s] z", "int64[3] z" if "Shape" in rest else "float z")
        .replace("float[p,q,r] y", "float y")
    )
    done = rewrite(text, SimplifyBranches(), run=False)
    assert done.changed == 0


def test_a_branch_that_ends_otherwise_keeps_it_outside(rewrite: Callable[..., Any]) -> None:
    """Going in would make two of one."""
    text = (
        (SQUEEZE % ("c", "y = Abs(w)"))
        .replace(", float[s] z", "")
        .replace("q = Identity(x)", "q = Neg(x)")
        .replace("float[p,q,r] y", "float y")
    )
    assert rewrite(text, SimplifyBranches(), run=False).changed == 0


def test_integers_times_zero(rewrite: Callable[..., Any]) -> None:
    text = "g (int64 s, float[3] x) => (float[3] y) <int64 zero = {0}> { z = Mul(s, zero) f = Cast <to = 1> (z) y = Add(x, f) }"
    done = rewrite(text, Simplify(), MergeCommonSubexpressions())
    assert done.counts["times-zero"] == 1 and "Mul" not in done.ops
    assert rewrite(text.replace("int64", "float"), Simplify()).counts.get("times-zero") is None
    assert (
        rewrite(
            text.replace("int64 s", "int64[n] s").replace("float[3] y", "float[n] y"), Simplify(), run=False
        ).counts.get("times-zero")
        is None
    )
