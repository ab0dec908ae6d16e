"""Element by element: sums and products of two int8 tensors, and functions of one by a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import ACTIVATIONS, activate, dequantize, to_int8
from qcompiler.kernels.cards import Card
from qcompiler.kernels.operands import known, number, scalar
from qcompiler.kernels.registry import Attributes, Given, Held, Kernel, Launch, Made, Operand, Port, Size

__all__ = ["Int8Add", "Int8Lookup", "Int8Mul", "table_of"]

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 1024


class Int8Add(Kernel):
    """y = activation(a + b), requantized; b may be smaller than a where it stands for whole runs."""

    name = "Int8Add"
    about = "sum of two int8 tensors, requantized"
    inputs = (
        Port("a", ("int8",), "of the output's shape"),
        Port("a_scale", ("float32",), "of the tensor"),
        Port("a_zero_point", ("int8",), "of the tensor; left out: 0", True),
        Port("b", ("int8",), "of the same shape, or one that broadcasts to it"),
        Port("b_scale", ("float32",), "of the tensor"),
        Port("b_zero_point", ("int8",), "of the tensor; left out: 0", True),
        Port("y_scale", ("float32",), "of the output"),
        Port("y_zero_point", ("int8",), "of the output; left out: 0", True),
    )
    outputs = (Port("y", ("int8",), "of a's shape"),)
    attributes: ClassVar[Mapping[str, Any]] = {"activation": "none", "low": 0.0, "high": 0.0}
    product = False

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [("int8", tuple(operands[0].shape))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = arrays
        left = dequantize(a, a_scale, np.int8(scalar(a_zero)))
        right = dequantize(b, b_scale, np.int8(scalar(b_zero)))
        real = left * right if self.product else left + right
        real = activate(real, attributes["activation"], attributes["low"], attributes["high"])
        return [to_int8(real, y_scale, np.int8(scalar(y_zero)))]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        if not known(*operands[1:3], *operands[4:]):
            return "its scales are computed at run time"
        return "" if _spread(operands[0].shape, operands[3].shape) else "its factors broadcast in another way"

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands
        found = _spread(a.shape, b.shape)
        assert found is not None
        spread, outer, inner = found
        held: list[float] = []
        for scale, zero in ((a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero)):
            held += [number(scale), scalar(zero)]
        size = math.prod(a.shape)
        return Launch(
            "elementwise:int8_binary",
            (
                Given(0), Given(3), Held(np.asarray([*held, attributes["low"], attributes["high"]], np.float32)),
                *map(Size, (size, outer, inner)), Made(0),
            ),
            {
                "BLOCK": _BLOCK, "PRODUCT": int(self.product), "SPREAD": spread,
                "ACTIVATION": ACTIVATIONS[attributes["activation"]],
            },
            (-(-size // _BLOCK), 1, 1), 4, 1,
        )  # fmt: skip


class Int8Mul(Int8Add):
    """y = activation(a * b), requantized."""

    name = "Int8Mul"
    about = "product of two int8 tensors, requantized"
    product = True


def _spread(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int, int] | None:
    """How ``b`` broadcasts to ``a``, for the kernel: SPREAD, OUTER and INNER; None where it cannot."""
    size = math.prod(a)
    if a == b:
        return 0, max(size, 1), max(size, 1)
    shape = (1,) * (len(a) - len(b)) + b
    if len(b) > len(a) or any(there not in (1, full) for there, full in zip(shape, a, strict=True)):
        return None
    # Leading axes that b has, then ones, then trailing axes that it has: a run of OUTER reads INNER elements.
    own = [i for i, there in enumerate(shape) if there != 1]
    first_gap = next((i for i, there in enumerate(shape) if there == 1 and a[i] != 1), len(a))
    behind = [i for i in own if i > first_gap]
    if not behind:  # one for each run
        return 2, max(size, 1), max(math.prod(a[first_gap:]), 1)
    if any(shape[i] == 1 and a[i] != 1 for i in range(behind[0], len(a))):
        return None
    return 1, max(math.prod(a[first_gap:]), 1), max(math.prod(a[behind[0] :]), 1)


class Int8Lookup(Kernel):
    """y = table[x + 128]: any function of one int8 tensor, exactly (GELU, SiLU, sigmoid, HardSwish, tanh, ...)."""

    name = "Int8Lookup"
    about = "a function of an int8 tensor by a table of its 256 values"
    inputs = (Port("x", ("int8",), "any shape"), Port("table", ("int8",), "[256], the first for -128"))
    outputs = (Port("y", ("int8",), "of x's shape"),)
    attributes: ClassVar[Mapping[str, Any]] = {}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [("int8", tuple(operands[0].shape))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, table = arrays
        return [table[x.astype(np.int16) + 128]]

    def launch(self, operands: Sequence[Operand | None], attributes: Attributes, card: Card) -> Launch:
        assert operands[0] is not None
        size = math.prod(operands[0].shape)
        arguments = (Given(0), Given(1), Size(size), Made(0))
        return Launch("elementwise:int8_lookup", arguments, {"BLOCK": _BLOCK}, (-(-size // _BLOCK), 1, 1), 4, 1)


def table_of(
    activation: str, scale: Any, zero: Any, y_scale: Any, y_zero: Any, low: float = 0.0, high: float = 0.0
) -> Array:
    """Int8 [256] for :class:`Int8Lookup`: ``activation`` of each value of x by its scale, in y's."""
    every = np.arange(-128, 128).astype(np.int8)
    return to_int8(activate(dequantize(every, scale, zero), activation, low, high), y_scale, y_zero)
