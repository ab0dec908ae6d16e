"""Which weights can be clustered, and how their errors weigh."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from qcompiler.calibrate import second_moments
from qcompiler.data import Dataset
from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.passes.matrix import as_rows, rows_shape
from qcompiler.passes.quantize.least_squares import damped

__all__ = ["Layer", "layers_of", "weigh"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_PLACES = {
    "Conv": (1,), "ConvTranspose": (1,), "MatMul": (1,), "Gemm": (1,), "Gather": (0,),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
}  # fmt: skip
_HALF_LIMIT = 2.0**14  # above it a level may be more than float16 holds
_KINDS = (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16)


@dataclass(eq=False)
class Layer:
    """A constant weight, shared or not, and one of the nodes that read it.

    ``rows`` are float64 [groups, channels, inner], ``second`` [groups, inner, inner] the damped moments of what they
    are multiplied with, None where there are none. ``noise`` is the relative error of what the layer gives when every
    weight has a squared error of one. ``tried`` and ``made`` keep what k-means of so many bits gave: its error, and the
    coded weight, with or without compensation.
    """

    value: Value
    node: Node
    array: Array
    second: Array | None = None
    noise: float = 0.0
    tried: dict[int, float] = field(default_factory=dict)
    made: dict[tuple[int, bool], Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For reports."""
        return self.value.name

    @property
    def rows(self) -> Array:
        """The weights as rows, made anew each time: one layer's alone are held in float64."""
        return as_rows(self.node, self.array)

    @property
    def size(self) -> int:
        """How many weights."""
        return int(self.array.size)

    @property
    def nodes(self) -> list[str]:
        """Names of all who read it."""
        return list(dict.fromkeys(user.name or user.outputs[0].name for user in self.value.users()))

    @property
    def importance(self) -> Array:
        """What the square of an error in each weight counts, of the shape of ``rows``: E[x^2], or one."""
        shape = rows_shape(self.node, self.array)
        if self.second is None:
            return np.broadcast_to(np.float64(1.0), shape)
        return np.broadcast_to(np.einsum("gii->gi", self.second)[:, None, :], shape)


def layers_of(model: Model, least: int, pattern: re.Pattern[str] | None) -> tuple[list[Layer], dict[str, str]]:
    """The weights of at least ``least`` elements, and for those of them that are left as they are, why, by name."""
    found: list[Layer] = []
    left: dict[str, str] = {}
    for graph in model.graphs():
        for value in graph.constants:
            held = value.constant
            if held is None or held.dtype not in _KINDS or held.size < least:
                continue
            users = [(user, place) for user, place in value.uses if isinstance(user, Node)]
            node = next((user for user, place in users if place in _places(user)), None)
            if node is None:
                continue
            names = [value.name, *(text for user, _ in users for text in (user.name, user.op_type))]
            array = held.numpy()
            largest = float(np.abs(array.astype(np.float32)).max())
            if value.is_output or any(place not in _places(user) for user, place in users):
                left[value.name] = "something reads it that is no layer"
            elif pattern is not None and any(pattern.search(text) for text in names if text):
                left[value.name] = "excluded"
            elif not np.isfinite(largest):
                left[value.name] = "it holds NaN or infinity"
            elif held.dtype is DType.FLOAT16 and largest > _HALF_LIMIT:
                left[value.name] = "its weights are at the limit of float16"
            else:
                found.append(Layer(value, node, array))
    return found, left


def _places(node: Node) -> tuple[int, ...]:
    return _PLACES.get(node.op_type, ()) if not node.domain else ()


def weigh(
    model: Model,
    layers: list[Layer],
    data: Dataset | None,
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fill in ``second`` and ``noise``. Raises CalibrationError when no sample runs."""
    nodes = [layer.node for layer in layers if layer.node.is_op("Conv", "MatMul", "Gemm")]
    seen = second_moments(model, nodes, data, threads=threads, progress=progress) if data is not None and nodes else {}
    for layer in layers:
        moments = seen.get(layer.node)
        rows = layer.rows
        alive = moments is not None and float(np.einsum("gii->", moments.second)) > 0
        if moments is None or not alive or moments.second.shape[::2] != rows.shape[::2]:
            layer.noise = rows.size / (float(np.square(rows).sum()) or 1.0)
            continue
        layer.second = damped(moments.second)
        power = float(np.einsum("gci,gci->", rows @ moments.second, rows)) or 1.0
        layer.noise = float(np.einsum("gii->", moments.second)) * rows.shape[1] / power
