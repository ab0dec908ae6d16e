"""Ranges for static quantization: one calibration run, then a scale and zero point for every activation concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.calibrate import RangeStatistics, collect, least_effect
from qcompiler.dtypes import DType
from qcompiler.errors import PassError, QCompilerError, UsageError
from qcompiler.ir import Model, Quantization, QuantSpec, Value, affine_parameters
from qcompiler.lower import STATIC, Form, Plan, Target
from qcompiler.onnx_io import open_session
from qcompiler.passes.output_error import expected_outputs, relative_error
from qcompiler.passes.quantize.offers import candidates, offer
from qcompiler.pipeline import Pass, PassContext

__all__ = ["QuantizeStatic"]

_METHODS = ("minmax", "average", "percentile", "entropy", "mse", "effect", "best")
_BETTER = 0.9  # of the error, half a decibel: less may be chance, above all where nothing is left of the signal
_SAMPLES = 32  # on which "best" judges whole models
_TRIED = ("mse", "minmax", "percentile", "entropy")  # by "effect" and "best"; of equals the first is taken
_TYPES = {"uint8": DType.UINT8, "int8": DType.INT8, "uint16": DType.UINT16, "int16": DType.INT16}


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Decide how activations are quantized; which groups really run in integers is decided by measurement afterwards.

    ``ranges``: ``minmax``; ``average`` (of the samples' extremes); ``percentile`` (leaving out 100 - ``percentile``
    percent at either end); ``entropy`` (least Kullback-Leibler divergence: Migacz, 2017); ``mse`` (least mean squared
    error of each tensor: Choukroun et al., 2019); ``effect`` (that one of mse, minmax, percentile and entropy which
    changes the output of the tensor's readers least); ``best`` (the one of these four with which the whole model in
    integers stays nearest to the float one). ``activations`` is uint8, int8, uint16 or int16, empty for what
    the target is fastest with; ``symmetric`` puts zero in the middle. ``exclude`` is a regular expression on node names
    and operator types.

    scale = (high - low) / 255, zero point = round_half_even(-low / scale) (Jacob et al., 2018, equation 1).
    """

    ranges: str = "mse"
    percentile: float = 99.999
    activations: str = ""
    symmetric: bool = False
    exclude: str = ""

    cost: ClassVar[str] = (
        "One run of each sample serves all statistics; `effect` and `best` take a second walk, and "
        "`best` a run of some samples for each kind of range."
    )
    lossless: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"ranges"})

    def __post_init__(self) -> None:
        if self.ranges not in _METHODS:
            raise ValueError(f"ranges cannot be '{self.ranges}'; it is one of {', '.join(_METHODS)}")
        if not 50.0 < self.percentile <= 100.0:
            raise ValueError(f"percentile has to be above 50 and at most 100, not {self.percentile:g}")
        if self.activations and self.activations not in _TYPES:
            raise ValueError(f"activations cannot be '{self.activations}'; they are one of {', '.join(_TYPES)}")

    def run(self, model: Model, context: PassContext) -> int:
        """Sets ``Value.quant`` on activations. Raises UsageError without data or target, CalibrationError."""
        groups = candidates(self, model, context, STATIC)
        target: Target = context.target
        if context.data is None:
            raise UsageError(f"pass '{self.name}' needs data", hint="give --data")
        refused = context.facts["refused"]
        values = target.observed(model, groups)
        statistics = collect(
            model, values, context.data, threads=context.threads, executor=context.executor, progress=context.per_sample
        )
        context.facts["statistics"] = statistics
        usable = {value: seen for value, seen in statistics.items() if seen.count and not seen.odd}
        unusable = {group for group in groups if not usable.keys() >= {*group.data, group.output}}
        context.facts["not_finite"] = {
            group for group in unusable if any(statistics[value].odd for value in group.data)
        }
        for group in unusable:
            refused[group.anchor] = _objection([statistics[value] for value in (*group.data, group.output)])
            context.warn(f"{group.name} stays float: {refused[group.anchor]}")
        kept = [group for group in groups if group not in unusable]
        spec = self._spec(target)
        plan = {group: Form(STATIC, target.weight_spec(group.weight_axis)) for group in kept}
        if self.ranges == "effect":
            _set(self._by_effect(model, usable, spec, context))
        elif self.ranges == "best" and plan:
            _set(self._by_model(model, usable, spec, plan, context))
        else:
            method = "mse" if self.ranges == "best" else self.ranges
            _set({value: self._quantization(method, seen, spec) for value, seen in usable.items()})
        offer(context, kept, plan.__getitem__)
        return len(usable)

    def _spec(self, target: Target) -> QuantSpec:
        usual = target.activation_spec()
        dtype = _TYPES[self.activations] if self.activations else usual.dtype
        spec = QuantSpec(dtype, symmetric=self.symmetric or usual.symmetric)
        if reason := target.refuses(spec):
            raise UsageError(
                f"target '{target.name}' cannot have activations in {dtype.name.lower()}: {reason}",
                hint=f"leave out --set {self.name}.activations",
            )
        return spec

    def _by_effect(
        self, model: Model, statistics: Mapping[Value, RangeStatistics], spec: QuantSpec, context: PassContext
    ) -> dict[Value, Quantization]:
        tried: dict[Value, list[Quantization]] = {}
        for value, seen in statistics.items():
            made = [self._quantization(method, seen, spec) for method in _TRIED]
            different = {(item.scale.tobytes(), item.zero_point.tobytes()): item for item in reversed(made)}
            tried[value] = [item for item in made if item in different.values()]
        assert context.data is not None
        best = least_effect(model, tried, context.data, threads=context.threads, progress=context.per_sample)
        return {value: best.get(value, items[0]) for value, items in tried.items()}

    def _by_model(
        self,
        model: Model,
        statistics: Mapping[Value, RangeStatistics],
        spec: QuantSpec,
        plan: Plan,
        context: PassContext,
    ) -> dict[Value, Quantization]:
        """The parameters of the method with the least error at the model's outputs, each relative to its own power.

        The first method stays unless another is better by half a decibel.
        """
        data, target = context.data, context.target
        assert data is not None
        samples = data.subset(range(0, len(data), -(-len(data) // _SAMPLES)))
        expected = expected_outputs(open_session(model, threads=context.threads), samples)
        best: dict[Value, Quantization] = {}
        least = float("inf")
        for method in _TRIED:
            made = {value: self._quantization(method, seen, spec) for value, seen in statistics.items()}
            _set(made)
            try:
                session = target.open(target.lower(model, plan), context.threads)
                error = relative_error(session, expected)
            except QCompilerError:  # a group that does not run: the choice finds out which
                error = float("inf")
            if error < least * _BETTER or not best:
                best, least = made, error
        return best

    def _quantization(self, method: str, seen: RangeStatistics, spec: QuantSpec) -> Quantization:
        if spec.dtype is DType.FLOAT8E4M3FN and method in ("entropy", "mse"):
            method = "minmax"  # fine near zero whatever the range, so that cutting it off gains nothing
        if method == "percentile":
            low, high = seen.percentile(self.percentile)
        elif method in ("entropy", "mse"):
            low, high = seen.entropy(spec) if method == "entropy" else seen.least_error(spec)
        else:
            low, high = seen.average() if method == "average" else seen.minmax()
        try:
            scale, zero = affine_parameters(low, high, spec)
        except ValueError as error:
            raise PassError(f"pass '{self.name}': {error}") from None
        bounds = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return Quantization(spec, scale, zero, *bounds, observed=seen.minmax(), source=method)


def _objection(seen: list[RangeStatistics]) -> str:
    """Why values with such statistics have no range."""
    if any(item.odd for item in seen):
        return "its activations hold NaN or infinity"
    return "it never ran on the calibration data"


def _set(made: Mapping[Value, Quantization]) -> None:
    for value, quant in made.items():
        value.quant = quant
