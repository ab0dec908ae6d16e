"""Transposes that change nothing, and two in a row."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import Simplify


def of(nodes: str, shape: str, result: str) -> str:
    return f"g (float[{shape}] x) => (float[{result}] y) {{ {nodes} }}"


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        (of("t = Neg(x) y = Transpose<perm = [0, 1, 2]>(t)", "2,3,n", "2,3,n"), ["y = Neg(x)"]),
        (of("t = Neg(x) y = Transpose(t)", "3", "3"), ["y = Neg(x)"]),
        (of("t = Transpose<perm = [1, 2, 0]>(x) y = Transpose<perm = [0, 2, 1]>(t)", "2,3,4", "3,2,4"),
         ["y = Transpose(x) {perm=[1,0,2]}"]),
        (of("t = Transpose(x) y = Transpose<perm = [1, 0, 2]>(t)", "2,3,4", "3,4,2"), ["y = Transpose(x) {perm=[1,2,0]}"]),
        (of("t = Transpose<perm = [1, 0, 2]>(x) y = Transpose(t)", "2,3,4", "4,2,3"), ["y = Transpose(x) {perm=[2,0,1]}"]),
        (of("s = Neg(x) t = Transpose(s) u = Transpose(t) y = Abs(u)", "2,3,4", "2,3,4"), ["%0 = Neg(x)", "y = Abs(%0)"]),
        (of("a = Transpose<perm = [1, 2, 0]>(x) b = Transpose<perm = [1, 2, 0]>(a) c = Transpose<perm = [1, 2, 0]>(b) "
            "y = Neg(c)", "2,3,4", "2,3,4"), ["y = Neg(x)"]),
    ],
)  # fmt: skip
def test_merged(rewrite: Callable[..., Any], text: str, nodes: list[str]) -> None:
    assert rewrite(text, Simplify()).nodes == nodes


def test_what_stays(rewrite: Callable[..., Any]) -> None:
    done = rewrite(of("y = Transpose(x)", "2,3", "3,2"), Simplify())
    assert done.reasons == ["it reverses the axes"]
    done = rewrite(of("y = Transpose<perm = [1, 0]>(x)", "2,3", "3,2"), Simplify())
    assert done.reasons == ["it moves axes"]


def test_an_inner_transpose_that_others_use(rewrite: Callable[..., Any]) -> None:
    """Going around it saves a node only where the two cancel."""
    text = """g (float[2,3,4] x) => (float[n,m,k] y, float[a,b,c] z) {{
        t = Transpose<perm = [1, 0, 2]>(x) u = Transpose<perm = [{}]>(t) y = Neg(u) z = Abs(t)
    }}"""
    done = rewrite(text.format("1, 0, 2"), Simplify())
    assert done.ops == ["Transpose", "Neg", "Abs"]
    done = rewrite(text.format("2, 1, 0"), Simplify())
    assert done.changed == 0
    assert any("is used elsewhere too" in reason for reason in done.reasons)
