"""Weights stored in 2 to 16 bits and made float when they are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qcompiler.dtypes import DType
from qcompiler.errors import UsageError
from qcompiler.ir import Model, QuantSpec
from qcompiler.lower import WEIGHTS, Form, Group, Target
from qcompiler.passes.quantize.offers import candidates, offer
from qcompiler.pipeline import Pass, PassContext

__all__ = ["QuantizeWeights"]

_HALVES = {"float16": DType.FLOAT16, "bfloat16": DType.BFLOAT16}


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Offer the weight-only form of products, convolutions and tables of embeddings.

    ``bits`` is 8, 4 or 2, or 16 for floats in half the size: ``half`` says which, float16 or bfloat16, and of the
    other options only ``least`` and ``exclude`` then matter. Matrices and tables have one scale for each ``block`` of
    elements along the inner axis (16 or more, a power of two; 0: one for each output channel), convolutions one for
    each output channel. With ``symmetric`` false each block of a matrix has a zero point too. ``portable`` writes
    nothing but DequantizeLinear of the standard (operator set 21 for blocks and 4 bits, 25 for 2) instead of
    onnxruntime's own operators. ``integer_products`` lets those round activations to 8 bits where that is faster.
    Weights of fewer than ``least`` elements stay. ``exclude`` is a regular expression on node names and operator types.
    """

    bits: int = 8
    half: str = "float16"
    block: int = 32
    symmetric: bool = True
    portable: bool = False
    integer_products: bool = False
    least: int = 1024
    exclude: str = ""

    cost: ClassVar[str] = "Linear in the weights, times the scales that are tried for each block."
    lossless: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.bits not in (2, 4, 8, 16):
            raise ValueError(f"bits have to be 2, 4, 8 or 16, not {self.bits}")
        if self.half not in _HALVES:
            raise ValueError(f"half has to be float16 or bfloat16, not '{self.half}'")
        if self.block and (self.block < 16 or self.block & (self.block - 1)):
            raise ValueError(f"block has to be 0 or a power of two from 16 on, not {self.block}")

    def run(self, model: Model, context: PassContext) -> int:
        """Offers forms only. Raises UsageError without a target."""
        groups = candidates(self, model, context, WEIGHTS)
        large = [
            group for group in groups
            if group.weight is not None and group.weight.constant is not None
            and group.weight.constant.size >= self.least
        ]  # fmt: skip
        return offer(context, large, lambda group: self._accepted(context.target, group))

    def _accepted(self, target: Target, group: Group) -> Form:
        """The form that ``target`` takes: blocks without zero points, or for one that has no blocks of 8 bits a scale
        for each channel, will do."""
        form = self._form(group)
        reason = target.refuses(form.weight)
        if reason and not form.weight.symmetric:
            form = replace(self, symmetric=True)._form(group)
            reason = target.refuses(form.weight)
        if reason and form.weight.block and self.bits == 8:
            form = Form(WEIGHTS, replace(form.weight, axis=group.weight_axis, block=None))
            reason = target.refuses(form.weight)
        if reason:
            raise UsageError(
                f"target '{target.name}' cannot have weights in {form.weight.dtype.name.lower()}: {reason}",
                hint=f"change --set {self.name}.bits",
            )
        return form

    def _form(self, group: Group) -> Form:
        if self.bits == 16:
            return Form(WEIGHTS, QuantSpec(_HALVES[self.half]))
        blocks = self.block or None
        axis = group.weight_axis
        kind = group.anchor.op_type
        if kind == "Conv":
            blocks = None
        elif kind == "Gather":
            axis, blocks = 1, self.block or 32
        elif blocks:
            axis = 1 - axis % 2
        signed = self.symmetric or kind in ("Gather", "Conv")
        spec = QuantSpec(DType[f"{'' if signed else 'U'}INT{self.bits}"], symmetric=signed, axis=axis, block=blocks)
        return Form(WEIGHTS, spec, self.portable, self.integer_products)
