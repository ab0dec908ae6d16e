"""Between floats and int8, and between channels first and last on the way: the edges of what runs in integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import dequantize, to_int8
from qcompiler.kernels.cards import Card
from qcompiler.kernels.operands import known, number, scalar
from qcompiler.kernels.registry import Argument, Attributes, Given, Held, Kernel, Launch, Made, Port, Size

__all__ = ["Dequantize", "Quantize"]

Array = np.ndarray[Any, np.dtype[Any]]

_TILE, _LINE = (32, 32), 1024


class Quantize(Kernel):
    """y = int8 of x / scale + zero; with ``last`` 1 the channels of [batch, C, H, W] go last."""

    name = "Quantize"
    about = "floats to int8, channels last where the integers run so"
    inputs = (
        Port("x", ("float32", "float16"), "any shape, [batch, C, H, W] with last"),
        Port("y_scale", ("float32",), "of the output"),
        Port("y_zero_point", ("int8",), "of the output; left out: 0", True),
    )
    outputs = (Port("y", ("int8",), "of x's shape, or [batch, H, W, C]"),)
    attributes: ClassVar[Mapping[str, Any]] = {"last": 0}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        shape = tuple(operands[0].shape)
        return [("int8", (shape[0], *shape[2:], shape[1]) if attributes["last"] else shape)]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, scale, zero = arrays
        made = to_int8(x.astype(np.float32), scale, np.int8(scalar(zero)))
        return [np.ascontiguousarray(np.moveaxis(made, 1, -1)) if attributes["last"] else made]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        return "" if known(*operands[1:]) else "its scales are computed at run time"

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        x, scale, zero = operands
        return _launch("quantize", x.shape, attributes["last"], scale, zero)


class Dequantize(Kernel):
    """y = (x - zero) scale; with ``first`` 1 the channels of [batch, H, W, C] go behind the batch."""

    name = "Dequantize"
    about = "int8 to floats, channels where the model has them"
    inputs = (
        Port("x", ("int8",), "any shape, [batch, H, W, C] with first"),
        Port("x_scale", ("float32",), "of the input"),
        Port("x_zero_point", ("int8",), "of the input; left out: 0", True),
    )
    outputs = (Port("y", ("float32", "float16"), "of x's shape, or [batch, C, H, W]"),)
    attributes: ClassVar[Mapping[str, Any]] = {"first": 0, "half": 0}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        shape = tuple(operands[0].shape)
        kind = "float16" if attributes["half"] else "float32"
        return [(kind, (shape[0], shape[-1], *shape[1:-1]) if attributes["first"] else shape)]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, scale, zero = arrays
        real = dequantize(x, scale, np.int8(scalar(zero)))
        made = np.ascontiguousarray(np.moveaxis(real, -1, 1)) if attributes["first"] else real
        with np.errstate(over="ignore"):  # what is too large for float16 is infinite there too
            return [made.astype(np.float16) if attributes["half"] else made]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        return "" if known(*operands[1:]) else "its scales are computed at run time"

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        _, scale, zero = operands
        (_, shape), *_ = self.results(operands, attributes)
        return _launch("dequantize", shape, attributes["first"], scale, zero)


def _launch(function: str, shape: tuple[int, ...], turned: int, scale: Any, zero: Any) -> Launch:
    """``shape`` is that of the floats."""
    scalars = np.asarray([number(scale), scalar(zero)], np.float32)
    head: tuple[Argument, ...] = (Given(0), Held(scalars))
    if not turned:
        size = math.prod(shape)
        grid = (-(-size // _LINE), 1, 1)
        return Launch(f"quantize:{function}_line", (*head, Size(size), Made(0)), {"BLOCK": _LINE}, grid, 4, 1)
    channels, pixels, (block_m, block_n) = shape[1], math.prod(shape[2:]), _TILE
    rows = shape[0] * pixels
    arguments = (*head, *map(Size, (rows, channels, pixels)), Made(0))
    grid = (-(-rows // block_m), -(-channels // block_n), 1)
    return Launch(f"quantize:{function}", arguments, {"BLOCK_M": block_m, "BLOCK_N": block_n}, grid, 4, 1)
