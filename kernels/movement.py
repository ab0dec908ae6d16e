"""Joining int8 tensors, each with its own scale, and repeating pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import dequantize, to_int8
from qcompiler.kernels.cards import Card
from qcompiler.kernels.operands import known, number, scalar
from qcompiler.kernels.registry import Argument, Attributes, Given, Held, Kernel, Launch, Made, Port, Size

__all__ = ["MOST_PARTS", "Int8Concat", "Int8Upsample"]

Array = np.ndarray[Any, np.dtype[Any]]

MOST_PARTS = 4
"""Tensors that one Int8Concat joins at most."""

_BLOCK = 1024


class Int8Concat(Kernel):
    """y = concat of up to four tensors along ``axis``, each requantized to y's scale."""

    name = "Int8Concat"
    about = "int8 tensors side by side, requantized to one scale"
    inputs = (
        Port("y_scale", ("float32",), "of the output"),
        Port("y_zero_point", ("int8",), "of the output"),
        *(
            port
            for letter in "abcd"
            for port in (
                Port(letter, ("int8",), "a part", letter != "a"),
                Port(f"{letter}_scale", ("float32",), "of that part", letter != "a"),
                Port(f"{letter}_zero_point", ("int8",), "of that part; left out: 0", True),
            )
        ),
    )
    outputs = (Port("y", ("int8",), "the parts along the axis"),)
    attributes: ClassVar[Mapping[str, Any]] = {"axis": -1}

    def _parts(self, given: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        return [tuple(given[at : at + 3]) for at in range(2, 2 + 3 * MOST_PARTS, 3) if given[at] is not None]

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        shapes = [list(item.shape) for item, _, _ in self._parts(operands)]
        whole = list(shapes[0])
        whole[attributes["axis"]] = sum(shape[attributes["axis"]] for shape in shapes)
        return [("int8", tuple(whole))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        real = [dequantize(item, scale, np.int8(scalar(zero))) for item, scale, zero in self._parts(arrays)]
        return [to_int8(np.concatenate(real, axis=attributes["axis"]), arrays[0], np.int8(scalar(arrays[1])))]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        scales = [part for _, scale, zero in self._parts(operands) for part in (scale, zero)]
        return "" if known(*operands[:2], *scales) else "its scales are computed at run time"

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        parts = self._parts(operands)
        rank = len(parts[0][0].shape)
        axis = attributes["axis"] % rank
        widths = [math.prod(item.shape[axis:]) for item, _, _ in parts]
        scalars = np.zeros(10, np.float32)
        pairs = [(scale, zero) for _, scale, zero in parts]
        for place, (scale, zero) in zip([0, 2, 4, 6], pairs, strict=False):
            scalars[place : place + 2] = number(scale), scalar(zero)
        scalars[8:] = number(operands[0]), scalar(operands[1])
        missing = MOST_PARTS - len(parts)
        places = [at for at in range(2, 2 + 3 * MOST_PARTS, 3) if operands[at] is not None]
        size = math.prod(parts[0][0].shape[:axis]) * sum(widths)
        arguments: tuple[Argument, ...] = (
            *map(Given, [*places, *[places[0]] * missing]), Held(scalars), Size(size),
            *map(Size, [*widths, *[0] * missing]), Made(0),
        )  # fmt: skip
        constants = {"BLOCK": _BLOCK, "PARTS": len(parts)}
        return Launch("movement:int8_concat", arguments, constants, (-(-size // _BLOCK), 1, 1), 4, 1)


class Int8Upsample(Kernel):
    """Each pixel ``factors`` times, down and across (Resize by nearest with whole factors)."""

    name = "Int8Upsample"
    about = "pixels of int8 in NHWC repeated by whole factors"
    inputs = (Port("x", ("int8",), "[batch, H, W, C]"),)
    outputs = (Port("y", ("int8",), "[batch, H * factors[0], W * factors[1], C]"),)
    attributes: ClassVar[Mapping[str, Any]] = {"factors": (1, 1)}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        batch, high, wide, channels = operands[0].shape
        up, across = attributes["factors"]
        return [("int8", (batch, high * up, wide * across, channels))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        up, across = attributes["factors"]
        return [np.repeat(np.repeat(arrays[0], up, axis=1), across, axis=2)]

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        size = math.prod(self.results(operands, attributes)[0][1])
        sizes = (size, *operands[0].shape[1:], *attributes["factors"])
        arguments: tuple[Argument, ...] = (Given(0), *map(Size, sizes), Made(0))
        return Launch("movement:int8_upsample", arguments, {"BLOCK": _BLOCK}, (-(-size // _BLOCK), 1, 1), 4, 1)
