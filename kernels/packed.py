"""Products with weights of 2 to 4 bits, which are unpacked on their way into the int8 instruction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from qcompiler.kernels.arithmetic import LONGEST_SUM, int_matmul
from qcompiler.kernels.cards import Card
from qcompiler.kernels.epilogue import EPILOGUE_ATTRIBUTES, Epilogue, epilogue_ports
from qcompiler.kernels.matmul import TOO_LONG, has_row_scales, held_multiplier
from qcompiler.kernels.operands import NO_FLOATS, NO_INTEGERS, known, scalar
from qcompiler.kernels.registry import (
    MOST_PROGRAMS,
    Argument,
    Attributes,
    Given,
    Held,
    Kernel,
    Launch,
    Made,
    Port,
    Size,
)

__all__ = ["BLOCKS", "BlockMatMul", "CodebookMatMul", "pack_fields", "unpack_fields"]

Array = np.ndarray[Any, np.dtype[Any]]

BLOCKS = (32, 64, 128, 256)
"""Sizes of blocks that BlockMatMul takes."""

_TOO_MANY = f"it has more than {16 * MOST_PROGRAMS} rows"


def pack_fields(values: Array, bits: int) -> Array:
    """Uint8 [N, ceil(K / per byte)] of ``values`` [N, K] below 2**bits, low bits first; 3 bits take the room of 4."""
    field = 4 if bits > 2 else bits
    per = 8 // field
    rows, width = values.shape
    padded = np.pad(values.astype(np.uint8), ((0, 0), (0, -width % per))).reshape(rows, -1, per)
    shifts = np.arange(per, dtype=np.uint8) * field
    return np.asarray(np.bitwise_or.reduce(padded << shifts, axis=-1).astype(np.uint8))


def unpack_fields(packed: Array, bits: int, width: int) -> Array:
    """The first ``width`` values of each row, uint8 [N, width]."""
    field = 4 if bits > 2 else bits
    shifts = np.arange(8 // field, dtype=np.uint8) * field
    values = (packed[..., None] >> shifts) & np.uint8((1 << field) - 1)
    return np.asarray(values.reshape(packed.shape[0], -1)[:, :width])


class CodebookMatMul(Kernel):
    """y = epilogue((a - a_zero) codebook[b]' (a_scale b_scale))."""

    name = "CodebookMatMul"
    about = "product of int8 activations with weights that are indices of 2 to 4 bits into a codebook"
    inputs = (
        Port("a", ("int8",), "[..., M, K]"),
        Port("a_scale", ("float32",), "of the tensor, or [..., M] of the rows"),
        Port("a_zero_point", ("int8",), "of the tensor; left out: 0", True),
        Port("b", ("uint8",), "[N, ceil(K / indices a byte)], low bits first; 3 bits take the room of 4"),
        Port("codebook", ("int8",), "[2**bits]"),
        Port("b_scale", ("float32",), "of the tensor, or [N]"),
        *epilogue_ports("N"),
    )
    outputs = (Port("y", ("int8", "float32", "float16"), "[..., M, N]"),)
    attributes: ClassVar[Mapping[str, Any]] = {**EPILOGUE_ATTRIBUTES, "bits": 4}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [(Epilogue(6, attributes).dtype(operands), (*operands[0].shape[:-1], operands[3].shape[0]))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        a, a_scale, a_zero, b, codebook, b_scale = arrays[:6]
        weights = codebook[unpack_fields(b, attributes["bits"], a.shape[-1])]
        total = int_matmul(a.astype(np.int16) - scalar(a_zero), weights.T)
        scale = np.asarray(a_scale, np.float32)
        scale = scale[..., None] if scale.ndim and scale.ndim == a.ndim - 1 else scale
        multiplier = np.asarray(scale * np.asarray(b_scale, np.float32))
        return [Epilogue(6, attributes).reference(total.astype(np.float32) * multiplier, arrays)]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        _, a_scale, a_zero, b, codebook, b_scale = operands[:6]
        if math.prod(operands[0].shape[:-1]) > 16 * MOST_PROGRAMS:
            return _TOO_MANY
        if not known(a_zero, b, codebook, b_scale) or (
            a_scale.array is None and not has_row_scales(operands[0], a_scale)
        ):
            return "its weights or scales are computed at run time"
        if operands[0].shape[-1] > LONGEST_SUM:
            return TOO_LONG
        if has_row_scales(operands[0], a_scale) and scalar(a_zero):
            return "scales of rows go with a zero point of 0"
        return Epilogue(6, attributes).objection(operands)

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        a, a_scale, a_zero, b, codebook, b_scale = operands[:6]
        rows, columns, inner = math.prod(a.shape[:-1]), b.shape[0], a.shape[-1]
        by_rows, zero = has_row_scales(a, a_scale), scalar(a_zero)
        multiplier = held_multiplier(a_scale, b_scale, columns, by_rows=by_rows)
        offset = NO_INTEGERS
        if zero:
            weights = codebook.array[unpack_fields(b.array, attributes["bits"], inner)]
            offset = Held((-zero * weights.astype(np.int64).sum(axis=1)).astype(np.int32))
        block_m, block_n = (16, 32) if rows <= 16 else (64, 64)
        epilogue = Epilogue(6, attributes)
        arguments: tuple[Argument, ...] = (
            Given(0), Given(3), Given(4), Given(1) if by_rows else NO_FLOATS, multiplier, offset,
            *epilogue.arguments(operands), *map(Size, (rows, columns, inner)), Made(0),
        )  # fmt: skip
        depth = 128 if rows <= 16 and card.capability < 120 else 64  # more takes too many registers
        constants = {
            "BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": depth, "BITS": attributes["bits"],
            "ROW_SCALE": int(by_rows), "OFFSET": int(zero != 0), **epilogue.constants(operands),
        }  # fmt: skip
        grid = (-(-columns // block_n), -(-rows // block_m), 1)
        return Launch("packed:codebook_matmul", arguments, constants, grid, 4, 4)


class BlockMatMul(Kernel):
    """y = epilogue(row_scale * sum over blocks of (a b' block_scale)); b holds 4-bit integers around 8."""

    name = "BlockMatMul"
    about = "product of int8 rows with weights of 4 bits in blocks"
    inputs = (
        Port("a", ("int8",), "[..., M, K]"),
        Port("a_scale", ("float32",), "[..., M]"),
        Port("b", ("uint8",), "[N, ceil(K / 2)], low half first, 8 stands for 0"),
        Port("b_scale", ("float32",), "[N, ceil(K / block)]"),
        *epilogue_ports("N"),
    )
    outputs = (Port("y", ("int8", "float32", "float16"), "[..., M, N]"),)
    attributes: ClassVar[Mapping[str, Any]] = {**EPILOGUE_ATTRIBUTES, "block": 32}

    def results(self, operands: Sequence[Any], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        return [(Epilogue(4, attributes).dtype(operands), (*operands[0].shape[:-1], operands[2].shape[0]))]

    def reference(self, arrays: Sequence[Any], attributes: Attributes) -> list[Array]:
        a, a_scale, b, b_scale = arrays[:4]
        weights = unpack_fields(b, 4, a.shape[-1]).astype(np.int8) - np.int8(8)
        real = np.zeros((*a.shape[:-1], b.shape[0]), np.float32)
        for index in range(b_scale.shape[1]):
            part = slice(index * attributes["block"], (index + 1) * attributes["block"])
            real = real + int_matmul(a[..., part], weights[:, part].T).astype(np.float32) * b_scale[:, index]
        return [Epilogue(4, attributes).reference(real * a_scale[..., None], arrays)]

    def objection(self, operands: Sequence[Any], attributes: Attributes) -> str:
        if math.prod(operands[0].shape[:-1]) > 16 * MOST_PROGRAMS:
            return _TOO_MANY
        if attributes["block"] not in BLOCKS:
            return f"blocks of {attributes['block']} have no kernel"
        return Epilogue(4, attributes).objection(operands)

    def launch(self, operands: Sequence[Any], attributes: Attributes, card: Card) -> Launch:
        a, _, b, _ = operands[:4]
        rows, columns, inner = math.prod(a.shape[:-1]), b.shape[0], a.shape[-1]
        block_m, block_n = (16, 32) if rows <= 16 else (64, 64)
        epilogue = Epilogue(4, attributes)
        arguments: tuple[Argument, ...] = (
            Given(0), Given(2), Given(3), Given(1), *epilogue.arguments(operands),
            *map(Size, (rows, columns, inner)), Made(0),
        )  # fmt: skip
        constants = {
            "BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": attributes["block"],
            **epilogue.constants(operands),
        }  # fmt: skip
        grid = (-(-columns // block_n), -(-rows // block_m), 1)
        return Launch("packed:block_matmul", arguments, constants, grid, 4, 3)
