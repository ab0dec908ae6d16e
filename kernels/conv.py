"""Convolutions of int8 in NHWC: as products of matrices, depthwise, and transposed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import LONGEST_SUM, int_matmul
from qcompiler.kernels.cards import Card
from qcompiler.kernels.configurations import product_tile
from qcompiler.kernels.epilogue import EPILOGUE_ATTRIBUTES, Epilogue, epilogue_ports
from qcompiler.kernels.matmul import TOO_LONG
from qcompiler.kernels.operands import NO_INTEGERS, known, number, per_channel, scalar
from qcompiler.kernels.registry import Argument, Attributes, Given, Held, Kernel, Launch, Made, Operand, Port, Size

__all__ = ["Int8Conv", "Int8ConvTranspose", "window_ports"]

Array = np.ndarray[Any, np.dtype[Any]]

_FEW = 512  # taps times channels up to which they are multiplied as one axis
_DEPTHWISE = (32, 64)  # pixels and channels of a tile


def window_ports(axis_0: str) -> tuple[Port, ...]:
    """The inputs of a convolution."""
    return (
        Port("x", ("int8",), "[batch, H, W, C]"),
        Port("x_scale", ("float32",), "of the tensor"),
        Port("x_zero_point", ("int8",), "of the tensor; left out: 0", True),
        Port("w", ("int8",), f"[{axis_0}, KH, KW, C / group], symmetric"),
        Port("w_scale", ("float32",), "of the tensor, or one an output channel"),
        *epilogue_ports("output channels"),
    )


class Int8Conv(Kernel):
    """y = epilogue(conv(x - x_zero, w) (x_scale w_scale)), x and y in NHWC."""

    name = "Int8Conv"
    about = "convolution of int8 in NHWC with bias, activation, residual and requantization"
    inputs = window_ports("output channels")
    outputs = (Port("y", ("int8", "float32", "float16"), "[batch, OH, OW, output channels]"),)
    attributes: ClassVar[Mapping[str, Any]] = {
        **EPILOGUE_ATTRIBUTES, "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1,
    }  # fmt: skip
    transposed = False

    def size(self, operands: Sequence[Any], attributes: Attributes) -> tuple[int, int]:
        """Height and width of the output."""
        pads, steps = attributes["pads"], attributes["strides"]
        reach = [(operands[3].shape[1 + axis] - 1) * attributes["dilations"][axis] + 1 for axis in (0, 1)]
        given = operands[0].shape[1:3]
        high, wide = ((given[i] + pads[i] + pads[i + 2] - reach[i]) // steps[i] + 1 for i in (0, 1))
        return high, wide

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        x, w = operands[0], operands[3]
        shape = (x.shape[0], *self.size(operands, attributes), w.shape[0])
        return [(Epilogue(5, attributes).dtype(operands), shape)]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, x_scale, x_zero, w, w_scale = arrays[:5]
        taps = self._taps([x, None, None, w], attributes)
        total = _accumulate(x.astype(np.int16) - scalar(x_zero), w, taps, attributes["group"])
        multiplier = np.asarray(np.asarray(x_scale, np.float32) * np.asarray(w_scale, np.float32))
        return [Epilogue(5, attributes).reference(total.astype(np.float32) * multiplier, arrays)]

    def _taps(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[Array, Array, Array, Array]]:
        """For each tap the rows and columns read by each output place, and which of them are inside."""
        x, w = operands[0], operands[3]
        sizes = self.size(operands, attributes)
        axes: list[list[tuple[Array, Array]]] = []
        for axis in (0, 1):
            at, step = np.arange(sizes[axis]), attributes["strides"][axis]
            before, spread = attributes["pads"][axis], attributes["dilations"][axis]
            found = []
            for tap in range(w.shape[1 + axis]):
                if self.transposed:
                    far = at + before - tap * spread
                    place, inside = far // step, (far % step == 0)
                else:
                    place = at * step - before + tap * spread
                    inside = np.ones(at.shape, bool)
                inside = inside & (place >= 0) & (place < x.shape[1 + axis])
                found.append((np.where(inside, place, 0), inside))
            axes.append(found)
        return [(rows, inside_h, columns, inside_w) for rows, inside_h in axes[0] for columns, inside_w in axes[1]]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        _, x_scale, x_zero, w, w_scale = operands[:5]
        if not known(x_scale, x_zero, w, w_scale):
            return "its weights or scales are computed at run time"
        if w.shape[1] * w.shape[2] * w.shape[3] > LONGEST_SUM:
            return TOO_LONG
        return Epilogue(5, attributes).objection(operands)

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        x, x_scale, x_zero, w, w_scale = operands[:5]
        high, wide = self.size(operands, attributes)
        group, filters = attributes["group"], w.shape[0] // attributes["group"]
        each = w.shape[3]
        kernel_h, kernel_w = w.shape[1:3]
        rows, zero = x.shape[0] * high * wide, scalar(x_zero)
        multiplier = np.float32(number(x_scale)) * per_channel(w_scale.array, w.shape[0])
        offset = NO_INTEGERS
        if zero:
            offset = Held((-zero * w.array.astype(np.int64).sum(axis=(1, 2, 3))).astype(np.int32))
        epilogue = Epilogue(5, attributes)
        depthwise = each == 1 and group > 1
        tail: tuple[Argument, ...] = (
            Held(multiplier.astype(np.float32)),
            offset,
            Held(np.asarray([zero], np.int32)),
            *epilogue.arguments(operands),
        )
        places = (*attributes["strides"], *attributes["pads"][:2], *attributes["dilations"])
        constants = {
            "KH": kernel_h, "KW": kernel_w, "PADDED": int(zero != 0 and self._sees_outside(operands, attributes)),
            "TRANSPOSED": int(self.transposed), "OFFSET": int(zero != 0), **epilogue.constants(operands),
        }  # fmt: skip
        if depthwise:
            block_m, block_n = _DEPTHWISE
            spread = Held(np.ascontiguousarray(w.array.reshape(w.shape[0], kernel_h * kernel_w).T))
            sizes = (rows, *x.shape[1:4], high, wide, w.shape[0], *places)
            return Launch(
                "depthwise:int8_depthwise", (Given(0), spread, *tail, *map(Size, sizes), Made(0)),
                {"BLOCK_M": block_m, "BLOCK_N": block_n, "TIMES": filters, **constants},
                (-(-rows // block_m), -(-w.shape[0] // block_n), 1), 4, 1,
            )  # fmt: skip
        flat = each < 32
        inner = kernel_h * kernel_w * each if flat else each
        tile = product_tile(rows, filters, inner, group, card, room=epilogue.room(operands), gathered=flat)
        sizes = (rows, *x.shape[1:3], each, x.shape[3], high, wide, filters, *places)
        return Launch(
            "conv:int8_conv",
            (Given(0), Given(3), *tail, *map(Size, sizes), Made(0)),
            {
                "BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k, "GROUP_M": 8, "FLAT": int(flat), **constants,
            },
            (-(-rows // tile.m) * -(-filters // tile.n), group, 1), tile.warps, tile.stages,
        )  # fmt: skip

    def _sees_outside(self, operands: Sequence[Operand], attributes: Attributes) -> bool:
        """True when some tap of some output place reads beyond the picture, or between its pixels."""
        return self.transposed or any(pad > 0 for pad in attributes["pads"])


class Int8ConvTranspose(Int8Conv):
    """y = epilogue(conv_transpose(x - x_zero, w) (x_scale w_scale)); w is [output channels, KH, KW, C / group]."""

    name = "Int8ConvTranspose"
    about = "transposed convolution of int8 in NHWC with bias, activation, residual and requantization"
    attributes: ClassVar[Mapping[str, Any]] = {**Int8Conv.attributes, "output_padding": (0, 0)}
    transposed = True

    def size(self, operands: Sequence[Any], attributes: Attributes) -> tuple[int, int]:
        pads, steps, more = attributes["pads"], attributes["strides"], attributes["output_padding"]
        reach = [(operands[3].shape[1 + axis] - 1) * attributes["dilations"][axis] + 1 for axis in (0, 1)]
        given = operands[0].shape[1:3]
        high, wide = (steps[i] * (given[i] - 1) + more[i] + reach[i] - pads[i] - pads[i + 2] for i in (0, 1))
        return high, wide


def _accumulate(x: Array, w: Array, taps: Sequence[tuple[Array, Array, Array, Array]], group: int) -> Array:
    """Int32 [batch, OH, OW, filters] of int16 ``x`` in NHWC, from which its zero point was taken."""
    filters, each = w.shape[0] // group, w.shape[3]
    weights = w.reshape(group, filters, len(taps), each)

    def seen(tap: tuple[Array, Array, Array, Array]) -> Array:
        rows, inside_h, columns, inside_w = tap
        found = x[:, rows][:, :, columns]
        outside = ~(inside_h[:, None] & inside_w[None, :])
        if outside.any():
            found[:, outside] = 0
        return np.asarray(found)

    if each == 1 and group > 1:  # depthwise
        shape = (x.shape[0], len(taps[0][0]), len(taps[0][2]), w.shape[0])
        total = np.zeros(shape, np.int32)
        for index, tap in enumerate(taps):
            data = np.repeat(seen(tap), filters, axis=3) if filters > 1 else seen(tap)
            total += data.astype(np.int32) * weights[:, :, index, 0].reshape(-1)
        return total
    parts = []
    for part in range(group):
        kernel = weights[part].astype(np.float32)
        channels = slice(part * each, (part + 1) * each)
        if len(taps) * each <= _FEW:
            data = np.concatenate([seen(tap)[..., channels] for tap in taps], axis=-1)
            parts.append(_product(data, kernel.reshape(filters, -1).T))
            continue
        sums = [_product(seen(tap)[..., channels], kernel[:, index].T) for index, tap in enumerate(taps)]
        parts.append(np.asarray(np.sum(sums, axis=0, dtype=np.int32)))
    return np.concatenate(parts, axis=-1) if group > 1 else parts[0]


def _product(data: Array, weights: Array) -> Array:
    flat = data.reshape(math.prod(data.shape[:-1]), data.shape[-1])
    return int_matmul(flat, weights).reshape(*data.shape[:-1], weights.shape[-1])
