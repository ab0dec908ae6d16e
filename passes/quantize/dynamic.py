"""Products whose activations are quantized by ranges that every run finds anew: no calibration, less error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.ir import Model
from qcompiler.lower import DYNAMIC, Form, Target
from qcompiler.passes.quantize.offers import candidates, offer
from qcompiler.pipeline import Pass, PassContext

__all__ = ["QuantizeDynamic"]


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Offer the dynamic form of matrix products; after a static pass, for those whose static form is too inexact.

    The whole input of a product has one scale, (max - min) / 255, as in DynamicQuantizeLinear. ``exclude`` is a regular
    expression on node names and operator types.
    """

    exclude: str = ""

    cost: ClassVar[str] = "Linear in the nodes."
    lossless: ClassVar[bool] = False

    def run(self, model: Model, context: PassContext) -> int:
        """Offers forms only. Raises UsageError without a target."""
        target: Target = context.target
        odd = context.facts.get("not_finite", ())  # of one NaN the range would be none
        groups = [group for group in candidates(self, model, context, DYNAMIC) if group not in odd]
        return offer(context, groups, lambda group: Form(DYNAMIC, target.weight_spec(group.weight_axis)))
