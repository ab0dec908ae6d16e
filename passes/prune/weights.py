"""Single weights set to zero: any of them, or so many of each few. Shapes stay; storage and clustering gain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from qcompiler.calibrate import Moments, second_moments
from qcompiler.ir import Model, Node, tensor
from qcompiler.passes.matrix import as_rows, from_rows
from qcompiler.passes.quantize.least_squares import damped, inverse_factor
from qcompiler.pipeline import Pass, PassContext

__all__ = ["PruneWeights", "sparse"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_BLOCK = 128  # columns that are judged together where any weight may go


@dataclass(frozen=True)
class PruneWeights(Pass):
    """Set the part ``sparsity`` of the weights of Conv, MatMul and Gemm to zero.

    With ``pattern`` "N:M" it is N of each M neighbours along the inner axis that go instead. With data and ``refit``
    the weights that stay make good what goes (SparseGPT: Frantar and Alistarh, 2023, algorithm 1); else the smallest
    go. Layers of fewer than ``least`` weights, of several groups, and shared weights stay. ``exclude`` is a regular
    expression on node names and operator types. Later passes keep zeros.
    """

    sparsity: float = 0.5
    pattern: str = ""
    refit: bool = True
    least: int = 1024
    exclude: str = ""

    cost: ClassVar[str] = (
        "One walk over the samples with `refit`; then linear in the weights, times the inputs of a product."
    )
    lossless: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.sparsity < 1.0:
            raise ValueError(f"sparsity is the part that goes, between 0 and 1, not {self.sparsity:g}")
        if self.pattern and not self._pattern():
            raise ValueError(f"pattern is N:M, N of each M go, not '{self.pattern}'")

    def _pattern(self) -> tuple[int, int] | None:
        found = re.fullmatch(r"(\d+):(\d+)", self.pattern)
        if found is None or not 0 < int(found[1]) < int(found[2]):
            return None
        return int(found[1]), int(found[2])

    def run(self, model: Model, context: PassContext) -> int:
        """How many layers were thinned. Raises UsageError for an expression that is none, CalibrationError."""
        pattern = self.expression("exclude")
        nodes = [node for node in model.graph if self._takes(node) and not _named(node, pattern)]
        seen: dict[Node, Moments] = {}
        if self.refit and context.data is not None:
            seen = second_moments(model, nodes, context.data, threads=context.threads, progress=context.per_sample)
        elif self.refit:
            context.warn(f"{self.name} took the smallest weights, since refit needs data; give --data")
        for node in nodes:
            weight = node.inputs[1]
            assert weight is not None and weight.constant is not None
            array = weight.constant.numpy()
            moments = seen[node].second[0] if node in seen and seen[node].count else None
            made = sparse(as_rows(node, array)[0], moments, self.sparsity, self._pattern())
            new = tensor(from_rows(node, made[None], array).astype(array.dtype), weight.constant.dtype)
            node.set_input(1, model.graph.add_constant(new, weight.name))
            model.graph.remove_constant(weight)
        return len(nodes)

    def _takes(self, node: Node) -> bool:
        weight = node.input(1)
        if not node.is_op("Conv", "MatMul", "Gemm") or weight is None or weight.constant is None:
            return False
        if node.attr("group", 1) != 1 or node.attr("transA", 0) or len(weight.uses) != 1:
            return False
        return weight.constant.size >= self.least and (node.is_op("Conv") or len(weight.constant.shape) == 2)


def _named(node: Node, pattern: re.Pattern[str] | None) -> bool:
    return pattern is not None and any(pattern.search(text) for text in (node.name, node.op_type) if text)


def sparse(rows: Array, second: Array | None, part: float, pattern: tuple[int, int] | None) -> Array:
    """``rows`` [outputs, inner] with ``part`` of them zero, or by ``pattern`` (N, M) N of each M along the inner axis.

    ``second`` [inner, inner] are the inputs' second moments, by which what is left is corrected; None: nothing is, and
    the smallest magnitudes go. A last run of fewer than M elements stays whole.
    """
    left = np.array(rows, np.float64)
    inner = left.shape[1]
    width = pattern[1] if pattern else min(_BLOCK, inner) if second is not None else inner
    if second is None:
        for start in range(0, inner, width):
            left[:, start : start + width] *= ~_going(np.abs(left[:, start : start + width]), part, pattern)
        return left
    factor = inverse_factor(damped(second[None]))[0]
    for start in range(0, inner, width):
        end = min(start + width, inner)
        price = np.square(left[:, start:end] / np.diag(factor)[start:end])
        going = _going(price, part, pattern)
        for column in range(start, end):
            gone = going[:, column - start]
            error = np.where(gone, left[:, column], 0.0) / factor[column, column]
            left[:, column:] -= error[:, None] * factor[column, column:]
            left[gone, column] = 0.0
    return left


def _going(price: Array, part: float, pattern: tuple[int, int] | None) -> Array:
    """Which elements of ``price`` [outputs, columns] go: the cheapest."""
    if pattern is not None:
        if price.shape[1] < pattern[1]:
            return np.zeros(price.shape, bool)
        order = np.argsort(price, axis=1, kind="stable")
        going = np.zeros(price.shape, bool)
        np.put_along_axis(going, order[:, : pattern[0]], True, axis=1)
        return going
    count = round(part * price.size)
    going = np.zeros(price.size, bool)
    going[np.argsort(price.reshape(-1), kind="stable")[:count]] = True
    return going.reshape(price.shape)
