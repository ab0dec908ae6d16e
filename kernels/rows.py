"""What is done row by row: quantization by each row's own range, softmax, normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import row_scales, to_int8
from qcompiler.kernels.cards import Card
from qcompiler.kernels.operands import known, number, scalar
from qcompiler.kernels.registry import Attributes, Given, Held, Kernel, Launch, Made, Port, Size

__all__ = ["Int8LayerNorm", "Int8RMSNorm", "Int8Softmax", "QuantizeRows", "powers"]

Array = np.ndarray[Any, np.dtype[Any]]

_LONGEST = 4096  # elements of a row that are looked at together
_UNIT = 2.0**23


def _block(inner: int) -> int:
    return min(_LONGEST, max(64, 1 << max(inner - 1, 1).bit_length()))


def _warps(block: int) -> int:
    return 8 if block >= 2048 else 4


class QuantizeRows(Kernel):
    """y = int8 of x / scale, scale = largest magnitude of the row / 127, 1 for a row of zeros."""

    name = "QuantizeRows"
    about = "rows of floats to int8, each by its own range"
    inputs = (Port("x", ("float32", "float16"), "[..., K]"),)
    outputs = (Port("y", ("int8",), "[..., K]"), Port("scale", ("float32",), "[...]"))
    attributes: ClassVar[Mapping[str, Any]] = {}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        shape = tuple(operands[0].shape)
        return [("int8", shape), ("float32", shape[:-1])]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x = arrays[0].astype(np.float32)
        scale = row_scales(x)
        return [to_int8(x, scale, np.int8(0)), scale[..., 0]]

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        shape = operands[0].shape
        rows, block = math.prod(shape[:-1]), _block(shape[-1])
        arguments = (Given(0), Size(rows), Size(shape[-1]), Made(0), Made(1))
        return Launch("rows:quantize_rows", arguments, {"BLOCK": block}, (rows, 1, 1), _warps(block), 1)


def powers(scale: float) -> Array:
    """Int32 [256]: exp(-d * scale) in units of 2**-23, for a distance d from the largest."""
    return np.rint(np.exp(-np.arange(256) * np.float64(scale)) * _UNIT).astype(np.int32)


class Int8Softmax(Kernel):
    """y = softmax of the last axis. Powers are integers in units of 2**-23, so that their sum is exact."""

    name = "Int8Softmax"
    about = "softmax of rows of int8, requantized"
    inputs = (
        Port("x", ("int8",), "[..., K]; its zero point cancels"),
        Port("x_scale", ("float32",), "of the tensor"),
        Port("y_scale", ("float32",), "of the output"),
        Port("y_zero_point", ("int8",), "of the output; left out: 0", True),
    )
    outputs = (Port("y", ("int8",), "[..., K]"),)
    attributes: ClassVar[Mapping[str, Any]] = {}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [("int8", tuple(operands[0].shape))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, x_scale, y_scale, y_zero = arrays
        distance = x.max(axis=-1, keepdims=True, initial=-128).astype(np.int16) - x
        power = powers(float(np.asarray(x_scale).reshape(-1)[0]))[distance]
        whole = power.sum(axis=-1, keepdims=True, dtype=np.int64).astype(np.float32)
        return [to_int8(power.astype(np.float32) / whole, y_scale, np.int8(scalar(y_zero)))]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        return "" if known(*operands[1:]) else "its scales are computed at run time"

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        x, x_scale, y_scale, y_zero = operands
        rows, block = math.prod(x.shape[:-1]), _block(x.shape[-1])
        scalars = np.asarray([number(y_scale), scalar(y_zero)], np.float32)
        table = Held(powers(number(x_scale)))
        arguments = (Given(0), table, Held(scalars), Size(rows), Size(x.shape[-1]), Made(0))
        return Launch("softmax:int8_softmax", arguments, {"BLOCK": block}, (rows, 1, 1), _warps(block), 1)


class Int8LayerNorm(Kernel):
    """y = (x - mean) / sqrt(variance + epsilon) * gain + bias over the last axis, its sums exact."""

    name = "Int8LayerNorm"
    about = "normalization of rows of int8 by mean and deviation, requantized"
    inputs = (
        Port("x", ("int8",), "[..., K]"),
        Port("x_scale", ("float32",), "of the tensor"),
        Port("x_zero_point", ("int8",), "of the tensor; left out: 0", True),
        Port("gain", ("float32",), "[K]"),
        Port("bias", ("float32",), "[K]", True),
        Port("y_scale", ("float32",), "of the output"),
        Port("y_zero_point", ("int8",), "of the output; left out: 0", True),
    )
    outputs = (Port("y", ("int8",), "[..., K]"),)
    attributes: ClassVar[Mapping[str, Any]] = {"epsilon": 1e-5}
    centered = True

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [("int8", tuple(operands[0].shape))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        x, x_scale, x_zero, gain, bias, y_scale, y_zero = arrays
        centred = x.astype(np.int64) - scalar(x_zero)
        size = np.int64(x.shape[-1])
        total = centred.sum(axis=-1, keepdims=True)
        squares = np.square(centred).sum(axis=-1, keepdims=True)
        if self.centered:
            variance = (size * squares - total * total).astype(np.float32) / np.float32(size * size)
            mean = total.astype(np.float32) / np.float32(size)
        else:
            variance, mean = squares.astype(np.float32) / np.float32(size), np.float32(0.0)
        deviation = np.sqrt(variance + _epsilon(attributes["epsilon"], x_scale))
        real = (centred.astype(np.float32) - mean) / deviation * gain
        if bias is not None:
            real = real + bias
        return [to_int8(real, y_scale, np.int8(scalar(y_zero)))]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        return "" if known(*operands[1:3], *operands[5:]) else "its scales are computed at run time"

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        x, x_scale, x_zero, _, bias, y_scale, y_zero = operands
        rows, block = math.prod(x.shape[:-1]), _block(x.shape[-1])
        small = _epsilon(attributes["epsilon"], x_scale.array)
        scalars = np.asarray([scalar(x_zero), small, number(y_scale), scalar(y_zero)], np.float32)
        arguments = (
            Given(0), Given(3), Given(4) if bias is not None else Given(3), Held(scalars),
            Size(rows), Size(x.shape[-1]), Made(0),
        )  # fmt: skip
        constants = {"BLOCK": block, "CENTERED": int(self.centered), "BIAS": int(bias is not None)}
        return Launch("norm:int8_norm", arguments, constants, (rows, 1, 1), _warps(block), 1)


class Int8RMSNorm(Int8LayerNorm):
    """y = x / sqrt(mean of squares + epsilon) * gain over the last axis, its sums exact."""

    name = "Int8RMSNorm"
    about = "normalization of rows of int8 by their root mean square, requantized"
    centered = False


def _epsilon(epsilon: float, scale: Any) -> np.float32:
    """Epsilon in units of the integers."""
    step = np.float64(np.asarray(scale).reshape(-1)[0])
    return np.float32(min(float(epsilon) / (step * step), float(np.finfo(np.float32).max)))
