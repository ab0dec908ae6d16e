"""Transposes that change nothing, and two in a row."""

from __future__ import annotations

from typing import Any

from qcompiler.rewrite import Match, Rewriter, Rule, op, rule

__all__ = ["TRANSPOSES"]


@rule(lambda x: op.Transpose(x))
def same_transpose(rw: Rewriter, m: Match) -> Any:
    """Transpose that leaves every axis in its place."""
    perm = m.Transpose.attr("perm")
    if perm is None:
        return m.x if m.x.rank is not None and m.x.rank < 2 else m.no("it reverses the axes")
    return m.x if list(perm) == list(range(len(perm))) else m.no("it moves axes")


@rule(lambda x: op.Transpose(op.Transpose(x, _as="inner", _shared=True), _as="outer"))
def transpose_twice(rw: Rewriter, m: Match) -> Any:
    """Two transposes are one: axis i of the result is axis inner[outer[i]] of x (ONNX, Transpose)."""
    inner, outer = m.inner.attr("perm"), m.outer.attr("perm")
    if inner is None and outer is None:
        return m.x  # both reverse the axes, however many there are
    reverse = tuple(reversed(range(len(outer if inner is None else inner))))
    inner, outer = reverse if inner is None else inner, reverse if outer is None else outer
    perm = tuple(inner[axis] for axis in outer)
    if perm == tuple(sorted(perm)):
        return m.x
    middle = m.inner.output
    if middle.output_uses or len(middle.uses) > 1:
        return m.no(f"{middle!r} is used elsewhere too, so nothing would be saved")
    return rw.op.Transpose(m.x, perm=perm)


TRANSPOSES: tuple[Rule, ...] = (same_transpose, transpose_twice)
