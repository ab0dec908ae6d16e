"""A matrix product and a bias in one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Dim, Value
from qcompiler.passes.lossless.known import broadcasts_into, not_constant
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Match, Rewriter, maybe, op, rule

__all__ = ["FuseMatMulAdd"]

_TYPES = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)


@rule(lambda a, b, c: op.Add(op.MatMul(a, b), c))
def matmul_add(rw: Rewriter, m: Match) -> Any:
    """a @ b + c of two matrices and a bias is Gemm(a, b, c).

    With more axes it stays: Gemm takes matrices only, and the reshapes around it would cost what it saves.
    """
    if m.a.rank != 2 or m.b.rank != 2:
        return m.no("it is no product of two matrices, or is not known to be one")
    why = _no_bias(m, m.c, m.a.shape[0], m.b.shape[1])
    if why:
        return m.no(why)
    return rw.node("Gemm", m.a, m.b, m.c, name=m.MatMul.name)


@rule(lambda a, b, c, d: op.Add(op.Gemm(a, b, maybe(c)), d))
def gemm_add(rw: Rewriter, m: Match) -> Any:
    """alpha * a @ b + beta * c + d is Gemm with the bias beta * c + d."""
    gemm = m.Gemm
    rows = _size(m.a, 1 if gemm.attr("transA", 0) else 0)
    columns = _size(m.b, 0 if gemm.attr("transB", 0) else 1)
    why = _no_bias(m, m.d, rows, columns)
    if why:
        return m.no(why)
    bias = m.d
    beta = gemm.attr("beta", 1.0)
    if m.c is not None and beta != 0:
        why = not_constant(bias=m.c, summand=m.d)
        if why:
            return m.no(why)
        if np.broadcast(m.array("c"), m.array("d")).size > max(m.c.constant.size, m.d.constant.size):
            return m.no("the sum of the biases would be larger than both")
        with np.errstate(over="ignore"):
            made = (beta * m.array("c").astype(np.float64) + m.array("d")).astype(m.d.dtype.numpy)
        if not np.isfinite(made.astype(np.float64)).all():
            return m.no(f"the sum of the biases would leave the range of {m.d.dtype.name.lower()}")
        bias = rw.constant(made, m.c.name)
    attrs = {key: attr for key, attr in gemm.attrs.items() if key != "beta"}
    return rw.node("Gemm", m.a, m.b, bias, name=gemm.name, **attrs)


def _no_bias(m: Match, bias: Value, rows: Dim, columns: Dim) -> str:
    """Why ``bias`` cannot be the bias of a Gemm with a result of [rows, columns]; empty when it can.

    It has to be data, not an activation: only then is the fused form worth having. A caller may override it.
    """
    if bias.const is None:
        return f"the summand {bias!r} is computed at run time"
    if bias.dtype not in _TYPES:
        return "Gemm has no form for the element type"
    if not broadcasts_into(bias.const.shape, (rows, columns)):
        return f"the summand {bias!r} may change the shape by broadcasting"
    return ""


def _size(matrix: Value, axis: int) -> Dim:
    return matrix.shape[axis] if matrix.shape is not None and matrix.rank == 2 else None


@dataclass(frozen=True)
class FuseMatMulAdd(Pass):
    """MatMul or Gemm followed by the addition of a constant bias become one Gemm."""

    rules = (matmul_add, gemm_add)
    lossless: ClassVar[bool] = True
    keeps_types: ClassVar[bool] = True
