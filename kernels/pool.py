"""Pooling of int8 in NHWC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import to_int8
from qcompiler.kernels.cards import Card
from qcompiler.kernels.operands import known, number, scalar
from qcompiler.kernels.registry import Argument, Attributes, Given, Held, Kernel, Launch, Made, Port, Size

__all__ = ["Int8AveragePool", "Int8MaxPool"]

Array = np.ndarray[Any, np.dtype[Any]]

_TILE = (32, 64)  # pixels and channels


class Int8MaxPool(Kernel):
    """The largest of each window; scale and zero point stay. An empty ``kernel_shape`` is the whole picture."""

    name = "Int8MaxPool"
    about = "pooling by maximum of int8 in NHWC"
    inputs: ClassVar[tuple[Port, ...]] = (Port("x", ("int8",), "[batch, H, W, C]"),)
    outputs = (Port("y", ("int8",), "[batch, OH, OW, C]"),)
    attributes: ClassVar[Mapping[str, Any]] = {
        "kernel_shape": (), "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "ceil_mode": 0,
    }  # fmt: skip
    mean = False

    def window(self, operands: Sequence[Any], attributes: Attributes) -> tuple[int, int]:
        """Height and width of the window."""
        high, wide = attributes["kernel_shape"] or operands[0].shape[1:3]
        return high, wide

    def size(self, operands: Sequence[Any], attributes: Attributes) -> tuple[int, int]:
        """Height and width of the output (ONNX: a window that starts in the padding behind is none)."""
        pads, steps, window = attributes["pads"], attributes["strides"], self.window(operands, attributes)
        found = []
        for i in (0, 1):
            given = operands[0].shape[1 + i]
            room = given + pads[i] + pads[i + 2] - ((window[i] - 1) * attributes["dilations"][i] + 1)
            count = (-(-room // steps[i]) if attributes["ceil_mode"] else room // steps[i]) + 1
            if attributes["ceil_mode"] and (count - 1) * steps[i] >= given + pads[i]:
                count -= 1
            found.append(count)
        return found[0], found[1]

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        x = operands[0]
        return [("int8", (x.shape[0], *self.size(operands, attributes), x.shape[3]))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x = arrays[0]
        best = np.full(self.results(arrays, attributes)[0][1], -128, np.int8)
        for data, inside in self._taps(x, attributes):
            best = np.where(inside[..., None], np.maximum(best, data), best)
        return [best]

    def _taps(self, x: Array, attributes: Attributes) -> list[tuple[Array, Array]]:
        """What each tap reads, [batch, OH, OW, C], and which places are inside, [OH, OW]."""
        sizes, window = self.size([x], attributes), self.window([x], attributes)
        found = []
        for tap_h in range(window[0]):
            for tap_w in range(window[1]):
                places, seen = [], []
                for axis, tap in ((0, tap_h), (1, tap_w)):
                    at = np.arange(sizes[axis]) * attributes["strides"][axis] - attributes["pads"][axis]
                    at = at + tap * attributes["dilations"][axis]
                    inside = (at >= 0) & (at < x.shape[1 + axis])
                    places.append(np.where(inside, at, 0))
                    seen.append(inside)
                found.append((x[:, places[0]][:, :, places[1]], seen[0][:, None] & seen[1][None, :]))
        return found

    def scalars(self, operands: Sequence[Any]) -> Array:
        """What the kernel reads its scales from."""
        return np.zeros(4, np.float32)

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        x = operands[0]
        high, wide = self.size(operands, attributes)
        rows, (block_m, block_n) = x.shape[0] * high * wide, _TILE
        if rows <= 16:
            block_m = 1
        sizes = (
            rows, *x.shape[1:4], high, wide, *self.window(operands, attributes), *attributes["strides"],
            *attributes["pads"][:2], *attributes["dilations"],
        )  # fmt: skip
        constants = {
            "BLOCK_M": block_m, "BLOCK_N": block_n, "MEAN": int(self.mean),
            "COUNT_PAD": int(attributes.get("count_include_pad", 0)),
        }  # fmt: skip
        arguments: tuple[Argument, ...] = (Given(0), Held(self.scalars(operands)), *map(Size, sizes), Made(0))
        return Launch("pool:int8_pool", arguments, constants, (-(-rows // block_m), -(-x.shape[3] // block_n), 1), 4, 1)


class Int8AveragePool(Int8MaxPool):
    """The mean of each window, taken of the integers and requantized."""

    name = "Int8AveragePool"
    about = "pooling by mean of int8 in NHWC, requantized"
    inputs = (
        Port("x", ("int8",), "[batch, H, W, C]"),
        Port("x_scale", ("float32",), "of the tensor"),
        Port("x_zero_point", ("int8",), "of the tensor; left out: 0", True),
        Port("y_scale", ("float32",), "of the output"),
        Port("y_zero_point", ("int8",), "of the output; left out: 0", True),
    )
    attributes: ClassVar[Mapping[str, Any]] = {**Int8MaxPool.attributes, "count_include_pad": 0}
    mean = True

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        if attributes["ceil_mode"] and attributes["count_include_pad"]:
            return "a mean that counts padding is not defined beyond the last whole window"
        return "" if known(*operands[1:5]) else "its scales are computed at run time"

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, scale, zero, y_scale, y_zero = arrays
        total = np.zeros(self.results(arrays, attributes)[0][1], np.int32)
        count = np.zeros(total.shape[1:3], np.int32)
        for data, inside in self._taps(x, attributes):
            total += np.where(inside[..., None], data.astype(np.int32), 0)
            count += inside
        high, wide = self.window([x], attributes)
        share = np.full_like(count, high * wide) if attributes["count_include_pad"] else count
        real = (total - count[..., None] * scalar(zero)).astype(np.float32) * np.asarray(scale, np.float32)
        real = real / np.maximum(share, 1).astype(np.float32)[..., None]
        return [to_int8(real, y_scale, np.int8(scalar(y_zero)))]

    def scalars(self, operands: Sequence[Any]) -> Array:
        _, scale, zero, y_scale, y_zero = operands
        found = (number(scale), scalar(zero))
        return np.asarray([*found, number(y_scale), scalar(y_zero)], np.float32)
