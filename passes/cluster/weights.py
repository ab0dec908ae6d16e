"""Weights share few values: one-dimensional k-means, or even levels for coding by entropy, as the budget allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.ir import Model
from qcompiler.onnx_io import open_session, upgrade_opset
from qcompiler.passes.cluster.budget import (
    PERFECT,
    Made,
    coded_bytes,
    counted,
    first_budget,
    of_quality,
    of_size,
    with_budget,
)
from qcompiler.passes.cluster.coding import Coded, Coding, entropy_of
from qcompiler.passes.cluster.emit import emit, index_type, stored_bytes
from qcompiler.passes.cluster.kmeans import STARTS
from qcompiler.passes.cluster.layers import Layer, layers_of, weigh
from qcompiler.passes.matrix import channel_shape
from qcompiler.passes.output_error import expected_outputs, is_compared
from qcompiler.pipeline import Pass, PassContext

__all__ = ["KINDS", "ClusterWeights"]

KINDS = ("k-means", "even")
"""Of codebooks: the levels with the least error for so many indices, or for so much entropy of indices."""

_JUDGES = 64  # samples on which the whole model is judged
_ABOVE = 1.0  # decibels above the recipe's limit, since the samples that score are others
_USUAL = 20.0  # decibels that are wanted where nobody says
_BARS = 48  # of the histogram in the report
_GATHERED = 11  # operator set from which there is GatherElements
_OPSET = 21  # from which indices of 4 bits are stored as such


@dataclass(frozen=True)
class ClusterWeights(Pass):
    """Write weights as indices into a codebook (Han et al., 2015, section 3).

    How few bits: ``bits`` (1 to 8) for every weight, or as few as add ``budget`` for each weight to the relative error
    of what its layer gives, or as leave ``size`` of the float32 bytes once coded by entropy, or as leave ``sqnr``
    decibels at the outputs on the calibration data; of several the first in this order counts, and with none it is the
    recipe's limit. But for ``bits`` they differ by layer, so that one bit more gains the same everywhere. A resolved
    recipe holds the budget that was found.

    ``codebook`` is ``k-means`` (``bits`` of each index) or ``even`` (``bits`` of entropy: levels are multiples of one
    step, better when indices are coded, see docs/clustering.md). Weights of a channel are divided by their root mean
    square first (``scaled``). ``group`` channels, or ``block`` weights, have a codebook of their own; 0: all of a
    tensor share one. ``sensitivity`` weighs squared errors by the inputs' second moments, ``compensate`` has the
    weights behind make good the error of each (GPTQ: Frantar et al., 2022) and refits the centroids to the layer's
    output; both need data. ``start`` is where k-means starts; ``integer`` stores codebooks in int8. Zeros stay zeros.
    Tensors of fewer than ``least`` elements stay. ``exclude`` is a regular expression on names of weights and nodes,
    and on operator types. ``raise_opset`` stores indices of 4 bits as such, which takes operator set 21.
    """

    bits: float | None = None
    size: float | None = None
    budget: float | None = None
    sqnr: float | None = None
    codebook: str = "k-means"
    scaled: bool = True
    group: int = 0
    block: int = 0
    sensitivity: bool = True
    compensate: bool = True
    start: str = "exact"
    integer: bool = False
    least: int = 512
    exclude: str = ""
    raise_opset: bool = True

    cost: ClassVar[str] = (
        "One walk over the samples with `compensate`; then for each number of levels that is tried a "
        "sort of each weight and some rounds of k-means."
    )
    lossless: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.codebook not in KINDS:
            raise ValueError(f"codebook is {' or '.join(KINDS)}, not '{self.codebook}'")
        if self.start not in STARTS:
            raise ValueError(f"start cannot be '{self.start}'; it is one of {', '.join(STARTS)}")
        if self.bits is not None and not 1 <= self.bits <= 8:
            raise ValueError(f"bits are 1 to 8, not {self.bits:g}")
        if self.bits is not None and self.codebook == "k-means" and self.bits != int(self.bits):
            raise ValueError(f"bits of an index are whole, not {self.bits:g}; codebook = even takes any")
        if self.sqnr is not None and not 0 <= self.sqnr <= PERFECT:
            raise ValueError(f"sqnr is in decibels, 0 to {PERFECT:g}, not {self.sqnr:g}")
        if self.budget is not None and not 0 < self.budget < 1:
            raise ValueError(f"budget is a share of the error, between 0 and 1, not {self.budget:g}")
        if self.size is not None and not 0 < self.size < 1:
            raise ValueError(f"size is the part that remains, between 0 and 1, not {self.size:g}")
        if self.group < 0 or self.block < 0 or (self.group and self.block):
            raise ValueError("group and block are not negative, and not both given")
        if (self.group or self.block) and self.codebook == "even":
            raise ValueError("group and block are for codebook = k-means; even levels have one step a channel")
        if self.least < 1:
            raise ValueError(f"least has to be at least 1, not {self.least}")

    @property
    def aims(self) -> bool:
        """Where nothing else is asked for, the recipe's limit says how far it goes."""
        return (self.bits, self.size, self.budget, self.sqnr) == (None, None, None, None)

    def run(self, model: Model, context: PassContext) -> int:
        """How many weights were clustered. Raises UsageError for an expression that is none, CalibrationError."""
        layers, left = layers_of(model, self.least, self.expression("exclude"))
        for name, reason in left.items():
            if "NaN" in reason:
                context.warn(f"{self.name}: {name} stays as it is: {reason}")
        if not layers:
            return 0
        if context.data is None and (self.compensate or self.sensitivity):
            context.warn(f"{self.name} judges errors by the weights alone, since there is no data; give --data")
        weigh(model, layers, context.data, threads=context.threads, progress=context.per_sample)
        group, block = self._books(model, layers, context)
        coding = Coding(
            self.codebook, self.start, group, block, self.scaled, self.sensitivity,
            self.compensate, self.integer, context.seed,
        )  # fmt: skip
        coded = self._coded(model, layers, coding, context)
        before = sum(layer.array.nbytes for layer in layers)
        if self.raise_opset and any(each.levels.shape[1] <= 16 for each in coded):
            behind = upgrade_opset(model, _OPSET)
            if behind:
                context.warn(
                    f"{self.name}: indices take a byte, since the model keeps operator set {model.opset}: {behind}"
                )
        kinds = [index_type(each, model.opset) for each in coded]
        context.details["layers"] = [
            _told(layer, each, kind.bits) for layer, each, kind in zip(layers, coded, kinds, strict=True)
        ]
        context.details["kept"] = left
        stored = sum(stored_bytes(each, kind) for each, kind in zip(coded, kinds, strict=True))
        context.details["bytes"] = {"float": before, "clustered": stored, "coded": round(sum(map(coded_bytes, coded)))}
        for layer, each in zip(layers, coded, strict=True):
            emit(model, layer, each)
        return len(layers)

    def _books(self, model: Model, layers: list[Layer], context: PassContext) -> tuple[int, int]:
        """``group`` and ``block``, as far as the model can have them."""
        if (self.group or self.block) and model.opset < _GATHERED:
            context.warn(f"{self.name}: several codebooks take operator set {_GATHERED}; each weight has one")
            return 0, 0
        uneven = [
            layer.name for layer in layers
            if (self.block and layer.size % self.block)
            or (self.group and math.prod(channel_shape(layer.node, layer.array)) % self.group)
        ]  # fmt: skip
        if uneven:
            named = ", ".join(uneven[:3]) + (" and others" if len(uneven) > 3 else "")
            context.warn(f"{self.name}: one codebook each for {named}, which do not divide evenly")
        return self.group, self.block

    def _coded(self, model: Model, layers: list[Layer], coding: Coding, context: PassContext) -> list[Coded]:
        progress = context.counting("weight", len(layers))
        if self.bits is not None:
            return [coding.with_bits(layer, self.bits) for layer in counted(layers, progress)]
        if self.budget is not None:
            made = with_budget(layers, coding, self.budget, progress)
        elif self.size is not None:
            made = of_size(layers, coding, self.size, progress)
            took = sum(map(coded_bytes, made.coded)) / (4 * sum(layer.size for layer in layers))
            if took > 1.1 * self.size:
                context.warn(f"{self.name}: the weights take {took:.3f} of their size, not {self.size:g}")
        else:
            wanted = self.sqnr
            if wanted is None:
                wanted = _USUAL if context.min_sqnr is None else max(0.0, context.min_sqnr) + _ABOVE
            made = self._of_quality(model, layers, coding, wanted, context)
        context.resolved["budget"] = made.budget
        return made.coded

    def _of_quality(
        self, model: Model, layers: list[Layer], coding: Coding, wanted: float, context: PassContext
    ) -> Made:
        expected = []
        if context.data is not None:
            samples = context.data.subset(range(0, len(context.data), -(-len(context.data) // _JUDGES)))
            expected = expected_outputs(open_session(model, threads=context.threads), samples)
            # Of outputs that are nothing but zeros there is no share.
            if not any(is_compared(array) and array.any() for _, outputs in expected for array in outputs.values()):
                context.warn(f"{self.name} judges errors by the weights alone, since no output can be compared")
                expected = []
        if not expected:  # decibels at the outputs are not known; those of the weights are
            return with_budget(layers, coding, first_budget(layers, wanted), context.counting("weight", len(layers)))
        made = of_quality(model, layers, coding, wanted, expected, threads=context.threads,
                          progress=context.counting("weight", len(layers)))  # fmt: skip
        if made.decibels < wanted:
            context.warn(f"{self.name}: {wanted:g} dB were not reached on the calibration data")
        return made


def _told(layer: Layer, coded: Coded, bits: int) -> dict[str, Any]:
    """One entry of the report: a weight, its bits, and how its values lie among the centroids."""
    rows, made = layer.rows, coded.rows()
    error, power = float(np.square(made - rows).sum()), float(np.square(rows).sum())
    rows = rows / coded.scales
    low, high = float(rows.min()), float(rows.max())
    counts, _ = np.histogram(rows, bins=_BARS, range=(low, high if high > low else low + 1.0))
    return {
        "name": layer.name,
        "nodes": layer.nodes,
        "weights": layer.size,
        "levels": max(len(np.unique(book)) for book in coded.levels),
        "bits": bits,
        "entropy": entropy_of(coded.indices),
        "zeros": float((made == 0).mean()),
        "sqnr_db": 10 * math.log10(power / error) if error and power else None,
        "low": low,
        "high": high,
        "histogram": [int(count) for count in counts],
        "centroids": [float(level) for level in np.unique(coded.levels[0])],
    }
