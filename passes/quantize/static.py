"""Ranges for static quantization: one calibration run, then a scale and zero point for every activation concerned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.calibrate import RangeStatistics, collect
from qcompiler.errors import PassError, UsageError
from qcompiler.ir import Model, Quantization, QuantSpec, affine_parameters
from qcompiler.lower import STATIC, Form, Target
from qcompiler.passes.quantize.offers import candidates, offer
from qcompiler.pipeline import Pass, PassContext

__all__ = ["QuantizeStatic"]

_METHODS = ("minmax", "percentile", "mse")


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Decide how activations are quantized; which groups really run in integers is decided by measurement afterwards.

    ``ranges`` is ``minmax``, ``percentile`` (leaving out 100 - ``percentile`` percent at either end) or ``mse``
    (least mean squared error of each tensor). ``exclude`` is a regular expression on node names and operator types.

    scale = (high - low) / 255, zero point = round_half_even(-low / scale) (Jacob et al., 2018, equation 1).
    """

    ranges: str = "mse"
    percentile: float = 99.999
    exclude: str = ""

    lossless: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"ranges"})

    def __post_init__(self) -> None:
        if self.ranges not in _METHODS:
            raise ValueError(f"ranges cannot be '{self.ranges}'; it is one of {', '.join(_METHODS)}")
        if not 50.0 < self.percentile <= 100.0:
            raise ValueError(f"percentile has to be above 50 and at most 100, not {self.percentile:g}")

    def run(self, model: Model, context: PassContext) -> int:
        """Sets ``Value.quant`` on activations. Raises UsageError without data or target, CalibrationError."""
        groups = candidates(self, model, context, STATIC, self.exclude)
        target: Target = context.target
        if context.data is None:
            raise UsageError(f"pass '{self.name}' needs data", hint="give --data")
        refused = context.facts["refused"]
        values = target.observed(model, groups)
        statistics = collect(model, values, context.data, threads=context.threads, progress=context.progress)
        spec = target.activation_spec()
        bad = {value for value, seen in statistics.items() if seen.odd or not seen.count}
        for value, seen in statistics.items():
            if value not in bad:
                value.quant = self._quantization(seen, spec)
        known = statistics.keys() - bad
        unusable = {group for group in groups if not known.issuperset((*group.data, group.output))}
        for group in unusable:
            refused[group.anchor] = "NaN or infinity was seen in its activations, or nothing at all"
            context.warn(f"{group.name} stays float: {refused[group.anchor]}")
        usable = [group for group in groups if group not in unusable]
        offer(context, usable, lambda group: Form(STATIC, target.weight_spec(group.weight_axis)))
        return len(values) - len(bad)

    def _quantization(self, seen: RangeStatistics, spec: QuantSpec) -> Quantization:
        if self.ranges == "minmax":
            low, high = seen.minmax()
        elif self.ranges == "percentile":
            low, high = seen.percentile(self.percentile)
        else:
            low, high = seen.least_error(spec)
        try:
            scale, zero = affine_parameters(low, high, spec)
        except ValueError as error:
            raise PassError(f"pass '{self.name}': {error}") from None
        bounds = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return Quantization(spec, scale, zero, *bounds, observed=seen.minmax(), source=self.ranges)
