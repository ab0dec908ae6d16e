"""Einsum that is a matrix product, a transpose or both."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Value
from qcompiler.passes.lossless.origins import origin, same_size
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, op, rule

__all__ = ["FuseEinsum"]

_MULTIPLIED = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.INT32, DType.INT64)
_TERM = re.compile(r"([A-Za-z]*)(\.\.\.)?([A-Za-z]*)")
_AXES = "".join(map(chr, range(0x3B1, 0x3C9)))  # Greek letters stand for the axes of an ellipsis


@rule(lambda x: op.Einsum(x))
def einsum_of_one(rw: Rewriter, m: Match) -> Any:
    """Einsum that only puts the axes of one tensor into another order is Transpose."""
    terms = _terms(m)
    if terms is None or len(set(terms[0])) < len(terms[0]) or sorted(terms[0]) != sorted(terms[1]):
        return m.no("it does more than to put the axes of one tensor in order, or its rank is not known")
    return _ordered(rw, m.x, *terms)


@rule(lambda a, b: op.Einsum(a, b))
def einsum_of_two(rw: Rewriter, m: Match) -> Any:
    """Einsum of two tensors over the axes that both have and the result has not is MatMul.

    Axes that all three have come first, in the order of the result. Several free or contracted axes become one by a
    Reshape, where their sizes are numbers, since rows may stay several axes, columns and contracted ones may not.
    onnxruntime multiplies matrices for Einsum too, behind transposes of its own that it can neither fold nor fuse.
    """
    if m.a.dtype not in _MULTIPLIED:
        return m.no("not every runtime that has Einsum for this type multiplies matrices of it")
    terms = _terms(m)
    if terms is None:
        return m.no("the ranks are not known, or the axes of an ellipsis are not as many in both terms")
    plans = [_Plan(m.a, m.b, terms[0], terms[1], terms[2]), _Plan(m.b, m.a, terms[1], terms[0], terms[2])]
    whys = [plan.objection() for plan in plans]
    if all(whys):
        return m.no(whys[0])
    return min((plan for plan, why in zip(plans, whys, strict=True) if not why), key=_Plan.cost).build(rw)


def _terms(m: Match) -> list[str] | None:
    """The letters of the inputs and of the result, one for each axis; None where ranks leave that open.

    Without an arrow the result has what an ellipsis stands for, then the letters that occur once, by the alphabet
    (ONNX, Einsum-12).
    """
    given, arrow, result = str(m.Einsum.attr("equation", "")).replace(" ", "").partition("->")
    inputs = given.split(",")
    if len(inputs) != len(m.Einsum.inputs):
        return None
    if not arrow:
        letters = [letter for letter in given if letter.isalpha()]
        once = sorted(letter for letter in letters if letters.count(letter) == 1)
        result = ("..." if "..." in given else "") + "".join(once)
    hidden = 0
    terms = []
    for value, text in zip((*m.Einsum.inputs, None), (*inputs, result), strict=True):
        found = _TERM.fullmatch(text)
        if found is None or (value is not None and value.rank is None):
            return None
        count = hidden if value is None else (value.rank or 0) - len(found[1] + found[3])
        if value is not None and found[2]:
            if hidden not in (0, count) or not 0 <= count <= len(_AXES):
                return None
            hidden = count
        terms.append(found[1] + (_AXES[:count] if found[2] else "") + found[3])
        if value is not None and len(terms[-1]) != value.rank:
            return None
    return terms


class _Plan:
    """MatMul of ``left`` and ``right``: [shared, rows, inner] times [shared, inner, columns]."""

    def __init__(self, left: Value, right: Value, one: str, other: str, result: str) -> None:
        self.left, self.right, self.one, self.other, self.result = left, right, one, other, result
        self.shared = "".join(letter for letter in result if letter in one and letter in other)
        self.inner = "".join(letter for letter in one if letter in other and letter not in result)
        self.rows = "".join(letter for letter in result if letter in one and letter not in other)
        self.columns = "".join(letter for letter in result if letter in other and letter not in one)

    def objection(self) -> str:
        """Why it is no product of matrices; empty when it is one."""
        letters = self.one, self.other, self.result
        if any(len(set(term)) < len(term) for term in letters):
            return "it takes a diagonal"
        if set(self.result) != set(self.shared + self.rows + self.columns):
            return "the result has an axis that no input has"
        left, right = {*self.shared, *self.rows, *self.inner}, {*self.shared, *self.columns, *self.inner}
        if {*self.one} != left or {*self.other} != right:
            return "it sums over an axis of one input alone"
        if not (self.inner and self.columns and self.rows):
            return "there are no rows, no columns or nothing to sum over"
        if any(not _equal(self.left, self.one, self.right, self.other, letter) for letter in self.inner):
            return "the sizes that are summed over may differ, and one of them may be 1"
        if self.shared and len(self.rows) > 1:
            return "several axes of rows, and some that both inputs have"
        for group, value, term in ((self.inner, self.left, self.one), (self.columns, self.right, self.other)):
            if len(group) > 1 and self._sizes(group, value, term) is None:
                return "several axes would become one, and their sizes are not known"
        if self.shared and (len(self.inner) > 1 or len(self.columns) > 1):
            return "several axes would become one behind some that both inputs have"
        return ""

    def cost(self) -> int:
        """How many nodes move elements of what is no constant."""
        left, right = self.shared + self.rows + self.inner, self.shared + self.inner + self.columns
        moved = [self.left.constant is None and self.one != left, self.right.constant is None and self.other != right]
        return sum(moved) + (self.shared + self.rows + self.columns != self.result)

    def build(self, rw: Rewriter) -> Any:
        left = _ordered(rw, self.left, self.one, self.shared + self.rows + self.inner)
        right = _ordered(rw, self.right, self.other, self.shared + self.inner + self.columns)
        inner, columns = self._sizes(self.inner, self.left, self.one), self._sizes(self.columns, self.right, self.other)
        rows = [0] * len(self.rows)  # whatever they are
        if len(self.inner) > 1:
            left = _shaped(rw, left, [*rows, math.prod(inner or ())])
        if len(self.inner) > 1 or len(self.columns) > 1:
            right = _shaped(rw, right, [math.prod(inner) if inner else 0, math.prod(columns) if columns else -1])
        made = rw.op.MatMul(left, right)
        if len(self.columns) > 1:
            made = _shaped(rw, made, [*rows, *(columns or ())])
        return _ordered(rw, made, self.shared + self.rows + self.columns, self.result)

    def _sizes(self, group: str, value: Value, term: str) -> tuple[int, ...] | None:
        """The sizes of the axes of ``group``, where all are numbers above 0."""
        sizes = [value.shape[term.index(letter)] if value.shape is not None else None for letter in group]
        numbers = tuple(size for size in sizes if isinstance(size, int) and size > 0)
        return numbers if len(numbers) == len(sizes) else None


def _equal(a: Value, one: str, b: Value, other: str, letter: str) -> bool:
    return same_size(origin(a, one.index(letter)), origin(b, other.index(letter)))


def _ordered(rw: Rewriter, value: Value, present: str, wanted: str) -> Any:
    """``value``, whose axes are ``present``, with its axes in the order ``wanted``."""
    if present == wanted:
        return value
    return rw.op.Transpose(value, perm=[present.index(letter) for letter in wanted])


def _shaped(rw: Rewriter, value: Value, sizes: list[int]) -> Any:
    """Reshape, in which 0 copies a size."""
    return rw.op.Reshape(value, np.array(sizes, np.int64))


@dataclass(frozen=True)
class FuseEinsum(Pass):
    """Einsum becomes Transpose, MatMul and Reshape, which are up to two and a half times as fast and known to all."""

    rules = (einsum_of_one, einsum_of_two)
    lossless: ClassVar[bool] = True
    looks_far: ClassVar[bool] = True
