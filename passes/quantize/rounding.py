"""Passes that choose the integers of weights by what they do to the layer's output on calibration data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from qcompiler.calibrate import Moments, second_moments
from qcompiler.dtypes import DType
from qcompiler.ir import Model, QuantSpec, integer_range, quantize_weight
from qcompiler.lower import DYNAMIC, HALVES, STATIC, Form, Group, StoredWeight
from qcompiler.passes.quantize.least_squares import compensated, damped, descended, output_error
from qcompiler.pipeline import Pass, PassContext

__all__ = ["CompensateRounding", "CorrectBias", "LearnRounding"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


@dataclass(frozen=True)
class CompensateRounding(Pass):
    """Round weights column by column, each making good the errors of those before it (GPTQ: Frantar et al., 2022).

    Scales per channel stay what they are; those of blocks are set when their block begins. A layer whose error on the
    calibration data would not be less than that of rounding to the nearest is left so.
    """

    cost: ClassVar[str] = (
        "One walk over the samples, then for each weight its inputs cubed and its inputs squared times its outputs."
    )
    lossless: ClassVar[bool] = False

    def run(self, model: Model, context: PassContext) -> int:
        """Chooses integers for the forms offered so far. Raises CalibrationError; without data it does nothing."""
        return _round_all(self, model, context, descend=0)


@dataclass(frozen=True)
class LearnRounding(Pass):
    """Round each weight up or down, or further, as the layer's output wants it: least squares by coordinate descent.

    It starts from what the forms hold: nearest integers, or those of ``compensate-rounding``. ``sweeps`` is how often
    each column is looked at. The problem is AdaRound's (Nagel et al., 2020), solved without a relaxation.
    """

    sweeps: int = 4

    cost: ClassVar[str] = (
        "One walk over the samples, then for each weight some rounds of its inputs squared times its outputs."
    )
    lossless: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ValueError(f"sweeps have to be at least 1, not {self.sweeps}")

    def run(self, model: Model, context: PassContext) -> int:
        """Chooses integers for the forms offered so far. Raises CalibrationError; without data it does nothing."""
        return _round_all(self, model, context, descend=self.sweeps)


@dataclass(frozen=True)
class CorrectBias(Pass):
    """Take from the bias what rounding of the weights adds to the output on average (Nagel et al., 2019, section 4.2).

    bias - (W_q - W) E[x], with E[x] from calibration data. For static and dynamic forms whose operator has a bias.
    """

    cost: ClassVar[str] = "One walk over the samples."
    lossless: ClassVar[bool] = False

    def run(self, model: Model, context: PassContext) -> int:
        """Chooses biases for the forms offered so far. Raises CalibrationError; without data it does nothing."""
        count = 0
        for group, moments in _moments(self, model, context).items():
            forms = context.facts["forms"][group]
            for index, form in enumerate(forms):
                if form.kind not in (STATIC, DYNAMIC) or (form.kind == DYNAMIC and group.anchor.is_op("Gemm")):
                    continue
                weight = _Matrix(group, form.weight)
                levels, scale, zero = form.levels(weight.array)
                mean = moments.first / max(1, moments.count)
                off = weight.real(levels, scale, zero) - weight.rows
                shift = np.einsum("gci,gi->gc", off, mean).reshape(-1)
                held = group.bias.constant if group.bias is not None else None
                bias = np.zeros(shift.size) if held is None else np.asarray(held.numpy(), np.float64).reshape(-1)
                stored = StoredWeight(levels, scale, zero, (bias - shift).astype(np.float32))
                forms[index] = replace(form, stored=stored)
                count += 1
        return count


def _moments(item: Pass, model: Model, context: PassContext) -> dict[Group, Moments]:
    """Moments for the groups on offer, worked out once a recipe; none without data, and the user is told."""
    if context.data is None:
        context.warn(f"{item.name} did nothing, since it needs data: weights were rounded to the nearest; give --data")
        return {}
    if "moments" not in context.facts:
        groups = [group for group in context.facts.get("forms", {}) if group.data]
        nodes = [group.anchor for group in groups]
        found = second_moments(model, nodes, context.data, threads=context.threads, progress=context.per_sample)
        context.facts["moments"] = {group: found[group.anchor] for group in groups if group.anchor in found}
    moments: dict[Group, Moments] = context.facts["moments"]
    return {group: seen for group, seen in moments.items() if seen.count and group in context.facts["forms"]}


def _round_all(item: Pass, model: Model, context: PassContext, descend: int) -> int:
    count = 0
    found = _moments(item, model, context)
    tell = context.counting("weight", len(found))
    for done, (group, moments) in enumerate(found.items()):
        tell(done)
        forms = context.facts["forms"][group]
        second = damped(moments.second)
        made: dict[QuantSpec, StoredWeight | None] = {}  # static and dynamic forms mostly store the same
        for index, form in enumerate(forms):
            if form.weight.dtype in HALVES or form.weight.dtype is DType.FLOAT8E4M3FN:  # no integers
                continue
            if form.weight not in made:
                made[form.weight] = _rounded(_Matrix(group, form.weight), form, second, descend)
            stored = made[form.weight]
            if stored is not None:
                forms[index] = replace(form, stored=stored)
                count += 1
    return count


def _rounded(weight: _Matrix, form: Form, second: Array, descend: int) -> StoredWeight | None:
    """The integers with less error at the output than those that ``form`` has; None when none were found."""
    levels, scale, zero = form.levels(weight.array)
    nearest = weight.real(levels, scale, zero)
    grid = _Grid(weight, scale, zero)
    if descend:
        found = descended(weight.rows, second, grid, nearest, descend)
    else:
        found = compensated(weight.rows, second, grid, grid.start if form.weight.block is not None else None)
    before, after = (output_error(weight.rows, second, rows) for rows in (nearest, found))
    if form.weight.block is None:  # scales are the channel's own, so that each takes what is better for it
        found = np.where((after < before)[:, :, None], found, nearest)
    elif after.sum() >= before.sum():
        return None
    if not (after < before).any():
        return None
    return StoredWeight(weight.levels(found, grid), *grid.parameters())


class _Matrix:
    """A weight as rows [groups, channels, inner], and back."""

    def __init__(self, group: Group, spec: QuantSpec) -> None:
        assert group.weight is not None and group.weight.constant is not None
        self.spec = spec
        self.array = np.asarray(group.weight.constant.numpy(), np.float32)
        self.flipped = group.weight_axis % self.array.ndim == 1 and self.array.ndim == 2
        self.groups = int(group.anchor.attr("group", 1)) if group.anchor.is_op("Conv") else 1
        self.rows = self._as_rows(self.array).astype(np.float64)

    def _as_rows(self, array: Array) -> Array:
        rows = array.T if self.flipped else array.reshape(array.shape[0], -1)
        return rows.reshape(self.groups, rows.shape[0] // self.groups, rows.shape[1])

    def parameter(self, item: Array) -> Array:
        """Scale or zero point as [groups, channels, blocks], of which there is one for the whole without blocks."""
        if self.spec.block is None:
            return item.reshape(self.groups, -1, 1)
        return self._as_rows(item)

    def back(self, rows: Array) -> Array:
        flat = rows.reshape(-1, rows.shape[2])
        return np.ascontiguousarray(flat.T if self.flipped else flat)

    def real(self, levels: Array, scale: Array, zero: Array) -> Array:
        """The numbers that ``levels`` stand for, as rows."""
        inner = self.rows.shape[2]
        scales, zeros = (self.spread(self.parameter(item).astype(np.float64), inner) for item in (scale, zero))
        return (self._as_rows(levels).astype(np.float64) - zeros) * scales

    def spread(self, item: Array, inner: int) -> Array:
        """A parameter of each block as one of each element."""
        return item if self.spec.block is None else np.repeat(item, self.spec.block, axis=2)[:, :, :inner]

    def levels(self, rows: Array, grid: _Grid) -> Array:
        """``rows`` of numbers that can be stored as integers in the weight's own shape."""
        scales, zeros = (self.spread(item, rows.shape[2]) for item in (grid.scale, grid.zero))
        whole = np.rint(rows / scales) + zeros
        dtype = self.spec.dtype.numpy
        return self.back(whole).reshape(self.array.shape).astype(np.int16).astype(dtype)


class _Grid:
    """The numbers that can be stored: called with a column and real values, it gives the nearest ones."""

    def __init__(self, weight: _Matrix, scale: Array, zero: Array) -> None:
        self.weight = weight
        self.scale = weight.parameter(scale).astype(np.float64).copy()
        self.zero = weight.parameter(zero).astype(np.float64).copy()
        self.bottom, self.top = integer_range(weight.spec)
        self.block = weight.spec.block

    def __call__(self, column: int, values: Array) -> Array:
        block = column // self.block if self.block else 0
        scale, zero = self.scale[:, :, block], self.zero[:, :, block]
        nearest: Array = (np.clip(np.rint(values / scale) + zero, self.bottom, self.top) - zero) * scale
        kept: Array = np.where(self.weight.rows[:, :, column] != 0, nearest, 0.0)  # what was pruned stays so
        return kept

    def start(self, column: int, left: Array) -> None:
        """Set the scales of a block from the weights as they are when it begins."""
        if not self.block or column % self.block:
            return
        part = left[:, :, column : column + self.block]
        spec = replace(self.weight.spec, axis=0, block=None)
        _, scale, zero = quantize_weight(part.reshape(-1, part.shape[2]).astype(np.float32), spec, search=True)
        block = column // self.block
        self.scale[:, :, block] = scale.reshape(part.shape[:2])
        self.zero[:, :, block] = zero.astype(np.float64).reshape(part.shape[:2])

    def parameters(self) -> tuple[Array, Array]:
        """Scale and zero point as they are stored."""
        dtype = self.weight.spec.dtype.numpy
        if self.block is None:
            return self.scale.reshape(-1).astype(np.float32), self.zero.reshape(-1).astype(np.int16).astype(dtype)
        scale, zero = self.weight.back(self.scale), self.weight.back(self.zero)
        return scale.astype(np.float32), zero.astype(np.int16).astype(dtype)
