"""Products of int8 matrices: by weights or by activations, with scales of tensors, channels or rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import LONGEST_SUM, int_matmul, row_scales, to_int8
from qcompiler.kernels.cards import Card
from qcompiler.kernels.configurations import product_tile
from qcompiler.kernels.epilogue import EPILOGUE_ATTRIBUTES, Epilogue, epilogue_ports
from qcompiler.kernels.operands import NO_FLOATS, NO_INTEGERS, known, number, per_channel, scalar
from qcompiler.kernels.registry import (
    MOST_PROGRAMS,
    Argument,
    Attributes,
    Given,
    Held,
    Kernel,
    Launch,
    Made,
    Operand,
    Port,
    Size,
)

__all__ = ["TOO_LONG", "DynamicMatMul", "Int8MatMul", "has_row_scales", "held_multiplier"]

Array = np.ndarray[Any, np.dtype[Any]]

TOO_LONG = f"sums of more than {LONGEST_SUM} products may not fit int32"


class Int8MatMul(Kernel):
    """y = epilogue((a - a_zero) b' (a_scale b_scale)); b is [N, K] with ``transB`` 1 (the default), else [K, N]."""

    name = "Int8MatMul"
    about = "product of int8 matrices with bias, activation, residual and requantization"
    inputs = (
        Port("a", ("int8",), "[..., M, K]"),
        Port("a_scale", ("float32",), "of the tensor, or [..., M] of the rows"),
        Port("a_zero_point", ("int8",), "of the tensor; left out: 0, as it has to be with scales of rows", True),
        Port("b", ("int8",), "[N, K] (transB) or [K, N], or with the axes of a before them"),
        Port("b_scale", ("float32",), "of the tensor, or [N]"),
        Port("b_zero_point", ("int8",), "of the tensor; left out: 0", True),
        *epilogue_ports("N"),
    )
    outputs = (Port("y", ("int8", "float32", "float16"), "[..., M, N]"),)
    attributes: ClassVar[Mapping[str, Any]] = {**EPILOGUE_ATTRIBUTES, "transB": 1}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        a, b = operands[0], operands[3]
        columns = b.shape[-2] if attributes["transB"] else b.shape[-1]
        return [(Epilogue(6, attributes).dtype(operands), (*a.shape[:-1], columns))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        a, a_scale, a_zero, b, b_scale, b_zero = arrays[:6]
        if attributes["transB"]:
            b = np.swapaxes(b, -1, -2)
        left, right = a.astype(np.int16) - scalar(a_zero), b.astype(np.int16) - scalar(b_zero)
        if scalar(a_zero) and scalar(b_zero):
            # 255 * 255 each: half as many are exact; the part of b's zero point is taken apart.
            total = int_matmul(left, b) - scalar(b_zero) * left.sum(-1, keepdims=True, dtype=np.int32)
        else:
            total = int_matmul(left, right)
        scale = np.asarray(a_scale, np.float32)
        if a.ndim > 1 and scale.ndim == a.ndim - 1 and scale.ndim:
            scale = scale[..., None]
        multiplier = np.asarray(scale * np.asarray(b_scale, np.float32))
        return [Epilogue(6, attributes).reference(total.astype(np.float32) * multiplier, arrays)]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        a, a_scale, a_zero, b, b_scale, b_zero = operands[:6]
        if not known(a_zero, b_scale, b_zero) or (not has_row_scales(a, a_scale) and a_scale.array is None):
            return "its scales are computed at run time"
        both = scalar(a_zero) and scalar(b_zero)  # then a product reaches 255 * 255
        if a.shape[-1] > (LONGEST_SUM // 2 if both else LONGEST_SUM):
            return TOO_LONG
        if has_row_scales(a, a_scale) and scalar(a_zero):
            return "scales of rows go with a zero point of 0"
        if len(b.shape) > 2 and b.shape[:-2] != a.shape[:-2]:
            return "its factors have other axes before the matrices"
        if len(b.shape) > 2 and math.prod(a.shape[:-2]) > MOST_PROGRAMS:
            return f"it is more than {MOST_PROGRAMS} products at once"
        return Epilogue(6, attributes).objection(operands)

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        a, a_scale, a_zero, b, b_scale, b_zero = operands[:6]
        columns, inner = (b.shape[-2:]) if attributes["transB"] else (b.shape[-1], b.shape[-2])
        batched = len(b.shape) > 2
        count = math.prod(a.shape[:-2]) if batched else 1
        rows = a.shape[-2] if batched else math.prod(a.shape[:-1])
        by_rows = has_row_scales(a, a_scale)
        zero_a, zero_b = scalar(a_zero), scalar(b_zero)
        multiplier = held_multiplier(a_scale, b_scale, columns, by_rows=by_rows)
        offset, fixed = NO_INTEGERS, b.array is not None and not batched
        if fixed and zero_a:
            weights = b.array if attributes["transB"] else b.array.T
            offset = Held((-zero_a * (weights.astype(np.int64) - zero_b).sum(axis=1)).astype(np.int32))
        epilogue = Epilogue(6, attributes)
        tile = product_tile(rows, columns, inner, count, card, room=epilogue.room(operands))
        arguments: tuple[Argument, ...] = (
            Given(0),
            Given(3),
            Given(1) if by_rows else NO_FLOATS,
            multiplier,
            offset,
            Held(np.asarray([zero_a, zero_b], np.int32)),
            *epilogue.arguments(operands),
            *map(Size, (rows, columns, inner, rows * inner, columns * inner if batched else 0)),
            Made(0),
        )
        constants = {
            "BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k, "GROUP_M": 8,
            "EVEN_K": int(inner % tile.k == 0), "TRANSPOSED": int(bool(attributes["transB"])),
            "ROW_SCALE": int(by_rows),
            "SUM_A": int(zero_b != 0), "SUM_B": int(zero_a != 0 and not fixed), "OFFSET": int(zero_a != 0 and fixed),
            **epilogue.constants(operands),
        }  # fmt: skip
        grid = (-(-rows // tile.m) * -(-columns // tile.n), count, 1)
        return Launch("matmul:int8_matmul", arguments, constants, grid, tile.warps, tile.stages)


def has_row_scales(a: Operand, scale: Operand) -> bool:
    """True when each row of ``a`` has a scale of its own. One scale that never changes is the tensor's."""
    if scale.array is not None and scale.array.size == 1:
        return False
    return len(scale.shape) > 0 and len(scale.shape) == len(a.shape) - 1 and scale.shape == a.shape[:-1]


def held_multiplier(a_scale: Operand, b_scale: Operand, columns: int, *, by_rows: bool) -> Held:
    """What sums are multiplied by, float32 [columns]: both scales' product, or b's scale where rows have their own."""
    multiplier = per_channel(np.asarray(b_scale.array), columns)
    return Held(multiplier if by_rows else (np.float32(number(a_scale)) * multiplier).astype(np.float32))


class DynamicMatMul(Kernel):
    """y = epilogue(q b' (row_scale b_scale)) where q and row_scale are what QuantizeRows makes of float ``a``."""

    name = "DynamicMatMul"
    about = "product of float rows, quantized in the same run, with int8 weights"
    inputs = (
        Port("a", ("float32", "float16"), "[..., M, K]"),
        Port("b", ("int8",), "[N, K]"),
        Port("b_scale", ("float32",), "of the tensor, or [N]"),
        *epilogue_ports("N"),
    )
    outputs = (Port("y", ("int8", "float32", "float16"), "[..., M, N]"),)
    attributes: ClassVar[Mapping[str, Any]] = EPILOGUE_ATTRIBUTES

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [(Epilogue(3, attributes).dtype(operands), (*operands[0].shape[:-1], operands[1].shape[0]))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        a, b, b_scale = arrays[:3]
        real = a.astype(np.float32)
        scale = row_scales(real)
        total = int_matmul(to_int8(real, scale, np.int8(0)), b.T)
        multiplier = np.asarray(scale * np.asarray(b_scale, np.float32))
        return [Epilogue(3, attributes).reference(total.astype(np.float32) * multiplier, arrays)]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        if not known(operands[2]):
            return "its scales are computed at run time"
        if operands[0].shape[-1] > LONGEST_SUM:
            return TOO_LONG
        return Epilogue(3, attributes).objection(operands)

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        a, b, b_scale = operands[:3]
        columns, inner = b.shape
        rows = math.prod(a.shape[:-1])
        size, width, depth = 64 if rows > 16 else 16, 64, 64  # the float tile takes four times the registers
        epilogue = Epilogue(3, attributes)
        arguments: tuple[Argument, ...] = (
            Given(0), Given(1), Held(per_channel(b_scale.array, columns)), *epilogue.arguments(operands),
            *map(Size, (rows, columns, inner)), Made(0),
        )  # fmt: skip
        constants = {"BLOCK_M": size, "BLOCK_N": width, "BLOCK_K": depth, "GROUP_M": 8, **epilogue.constants(operands)}
        grid = (-(-rows // size) * -(-columns // width), 1, 1)
        return Launch("dynamic:dynamic_matmul", arguments, constants, grid, 4, 3)
