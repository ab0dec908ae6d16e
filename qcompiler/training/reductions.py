"""Operators that reduce along axes, and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from qcompiler.ir import Node
from qcompiler.training.operators import Unsupported, axes_of, operator

__all__: list[str] = []


def _prod(x: Any, axes: list[int], keep: bool) -> Any:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Callable[[Any, list[int], bool], Any]] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": _prod,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}


def _reduce(node: Node, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(node, axes, x.dim())
    if not chosen:
        if node.attr("noop_with_empty_axes", 0):
            raise Unsupported("it reduces nothing")
        chosen = list(range(x.dim()))
    if x.dtype is torch.bool:
        raise Unsupported("it reduces truth values")
    return _REDUCTIONS[node.op_type](x, chosen, bool(node.attr("keepdims", 1))).to(x.dtype)


for _name in _REDUCTIONS:
    operator(_name)(_reduce)


@operator("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: Any) -> Any:
    axis, keep = int(node.attr("axis", 0)), bool(node.attr("keepdims", 1))
    if node.attr("select_last_index", 0):
        raise Unsupported("it takes the last of equals")
    return (torch.argmax if node.op_type == "ArgMax" else torch.argmin)(x, dim=axis, keepdim=keep)


@operator("CumSum")
def cumsum(node: Node, x: Any, axis: Any) -> Any:
    along = int(axis)
    turned = x.flip(along) if node.attr("reverse", 0) else x
    found = turned.cumsum(along)
    if node.attr("exclusive", 0):
        found = found - turned
    return (found.flip(along) if node.attr("reverse", 0) else found).to(x.dtype)


@operator("TopK")
def top_k(node: Node, x: Any, k: Any) -> Any:
    axis, count = int(node.attr("axis", -1)), int(k)
    found = torch.sort(x, axis, descending=bool(node.attr("largest", 1)), stable=True)  # the first of equals first
    return found.values.narrow(axis, 0, count), found.indices.narrow(axis, 0, count)


@operator("MatMul")
def matmul(node: Node, a: Any, b: Any) -> Any:
    return torch.matmul(a, b)


@operator("Gemm")
def gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    a = a.t() if node.attr("transA", 0) else a
    b = b.t() if node.attr("transB", 0) else b
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    product = a @ b if alpha == 1 else alpha * (a @ b)
    return product if c is None else product + (c if beta == 1 else beta * c)


@operator("Einsum")
def einsum(node: Node, *xs: Any) -> Any:
    equation = node.attr("equation")
    return torch.einsum(equation if isinstance(equation, str) else equation.decode(), *xs)


@operator("Softmax")
def softmax(node: Node, x: Any) -> Any:
    return functional.softmax(x, int(node.attr("axis", -1)))


@operator("LogSoftmax")
def log_softmax(node: Node, x: Any) -> Any:
    return functional.log_softmax(x, int(node.attr("axis", -1)))


@operator("Hardmax")
def hardmax(node: Node, x: Any) -> Any:
    axis = int(node.attr("axis", -1))
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)
