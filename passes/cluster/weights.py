"""Weights share few values: one-dimensional k-means, or even levels for coding by entropy, as the budget allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from qcompiler.ir import Model, Value, clone_model, tensor
from qcompiler.onnx_io import open_session, upgrade_opset
from qcompiler.passes.cluster.coding import Coded, Coding, entropy_of
from qcompiler.passes.cluster.emit import emit, index_type, stored_bytes
from qcompiler.passes.cluster.kmeans import STARTS
from qcompiler.passes.cluster.layers import Layer, layers_of, weigh
from qcompiler.passes.matrix import from_rows
from qcompiler.passes.output_error import expected_outputs, relative_errors
from qcompiler.pipeline import Pass, PassContext

__all__ = ["KINDS", "ClusterWeights"]

KINDS = ("k-means", "even")
"""Of codebooks: the levels with the least error for so many indices, or for so much entropy of indices."""

_JUDGES = 64  # samples on which the whole model is judged
_PERFECT = 120.0  # decibels above which float32 has no error to tell
_TRIES = 6  # of the whole model on the way to the wanted error
_MARGIN = 0.3  # decibels by which a try may be better than wanted and be taken
_ABOVE = 1.0  # decibels above the recipe's limit, since the samples that score are others
_USUAL = 20.0  # decibels that are wanted where nobody says
_BARS = 48  # of the histogram in the report
_GATHERED = 11  # operator set from which there is GatherElements
_OPSET = 21  # from which indices of 4 bits are stored as such


@dataclass(frozen=True)
class ClusterWeights(Pass):
    """Write weights as indices into a codebook (Han et al., 2015, section 3).

    How few bits: ``bits`` (1 to 8) for every weight, or as few as leave ``size`` of the float32 bytes once coded by
    entropy, or as leave ``sqnr`` decibels at the outputs on the calibration data; of several the first in this order
    counts, and with none it is the recipe's limit. By ``size`` and ``sqnr`` the bits differ by layer: every weight
    costs the same error at its layer's output for the bits that it takes.

    ``codebook`` is ``k-means`` (``bits`` of each index) or ``even`` (``bits`` of entropy: levels are multiples of one
    step, better when indices are coded, see docs/clustering.md). Weights of a channel are divided by their root mean
    square first (``scaled``). ``group`` channels, or ``block`` weights, have a codebook of their own; 0: all of a
    tensor share one. ``sensitivity`` weighs squared errors by the inputs' second moments, ``compensate`` has the
    weights behind make good the error of each (GPTQ: Frantar et al., 2022) and refits the centroids to the layer's
    output; both need data. ``start`` is where k-means starts; ``integer`` stores codebooks of multiples that fit into
    8 bits. Zeros stay zeros. Tensors of fewer than ``least`` elements stay. ``exclude`` is a regular expression on
    names of weights and nodes, and on operator types. ``raise_opset`` stores indices of 4 bits as such, which takes
    operator set 21.
    """

    bits: float | None = None
    size: float | None = None
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
        if self.sqnr is not None and not 0 <= self.sqnr <= _PERFECT:
            raise ValueError(f"sqnr is in decibels, 0 to {_PERFECT:g}, not {self.sqnr:g}")
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
        return self.bits is None and self.size is None and self.sqnr is None

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
        weigh(model, layers, context.data, threads=context.threads, progress=context.progress)
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
        context.details["bytes"] = {"float": before, "clustered": stored, "coded": round(sum(map(_coded_bytes, coded)))}
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
            if (self.block and layer.rows.size % self.block)
            or (self.group and layer.rows.shape[0] * layer.rows.shape[1] % self.group)
        ]  # fmt: skip
        if uneven:
            named = ", ".join(uneven[:3]) + (" and others" if len(uneven) > 3 else "")
            context.warn(f"{self.name}: one codebook each for {named}, which do not divide evenly")
        return self.group, self.block

    def _coded(self, model: Model, layers: list[Layer], coding: Coding, context: PassContext) -> list[Coded]:
        if self.bits is not None:
            return [coding.with_bits(layer, self.bits) for layer in _counted(layers, context)]
        if self.size is not None:
            return self._of_size(layers, coding, context)
        wanted = self.sqnr
        if wanted is None:
            wanted = _USUAL if context.min_sqnr is None else context.min_sqnr + _ABOVE
        if context.data is None:  # decibels at the outputs are not known; those of the weights are
            budget = 10 ** (-wanted / 10) / sum(layer.rows.size for layer in layers)
            return self._with_budget(layers, coding, budget, context)
        return self._of_quality(model, layers, coding, wanted, context)

    def _with_budget(self, layers: Sequence[Layer], coding: Coding, budget: float, context: PassContext) -> list[Coded]:
        """Every weight may add ``budget`` to its layer's relative error: then a bit gains the same everywhere."""
        return [coding.with_error(layer, budget * layer.rows.size / layer.noise) for layer in _counted(layers, context)]

    def _of_size(self, layers: list[Layer], coding: Coding, context: PassContext) -> list[Coded]:
        """The least budget with which all weights, coded, take ``size`` of their float32 bytes."""
        assert self.size is not None
        goal = self.size * 4 * sum(layer.rows.size for layer in layers)
        quick = replace(coding, compensate=False)
        low, high = math.log(1e-14), math.log(1e-2)
        for _ in range(24):
            middle = (low + high) / 2
            if sum(map(_coded_bytes, self._with_budget(layers, quick, math.exp(middle), context))) > goal:
                low = middle
            else:
                high = middle
        made = self._with_budget(layers, coding, math.exp(high), context)
        took = sum(map(_coded_bytes, made))
        if took > 1.1 * goal:
            context.warn(
                f"{self.name}: the weights take {took / goal * self.size:.3f} of their size, not {self.size:g}"
            )
        return made

    def _of_quality(
        self, model: Model, layers: list[Layer], coding: Coding, wanted: float, context: PassContext
    ) -> list[Coded]:
        """The coarsest try whose worst output has ``wanted`` decibels; a budget moves by what the last one missed."""
        assert context.data is not None
        samples = context.data.subset(range(0, len(context.data), -(-len(context.data) // _JUDGES)))
        expected = expected_outputs(open_session(model, threads=context.threads), samples)
        if not expected or not relative_errors(open_session(model, threads=context.threads), expected):
            context.warn(f"{self.name} judges errors by the weights alone, since no output can be compared")
            return self._with_budget(layers, coding, 10 ** (-wanted / 10) / sum(x.rows.size for x in layers), context)
        fine: tuple[float, float, list[Coded]] | None = None  # logarithm of the budget, decibels, and what it made
        coarse: tuple[float, float] | None = None
        point = math.log(10 ** (-wanted / 10) / sum(layer.rows.size for layer in layers))
        for _ in range(_TRIES):
            coded = self._with_budget(layers, coding, math.exp(point), context)
            reached = min(_decibels(model, layers, coded, expected, context.threads), _PERFECT)
            if reached >= wanted:
                fine = (point, reached, coded)
            else:
                coarse = (point, reached)
            if fine is not None and fine[1] <= wanted + _MARGIN:
                break
            if fine is None or coarse is None:  # as error grows with the budget
                point += (reached - wanted - _MARGIN / 2) * math.log(10) / 10
            else:
                share = (fine[1] - wanted - _MARGIN / 2) / (fine[1] - coarse[1])
                point = fine[0] + (coarse[0] - fine[0]) * min(0.85, max(0.15, share))
        if fine is None:
            context.warn(f"{self.name}: {wanted:g} dB were not reached on the calibration data")
            return coded
        return fine[2]


def _counted(layers: Sequence[Layer], context: PassContext) -> Iterator[Layer]:
    for done, layer in enumerate(layers):
        context.progress(done + 1)
        yield layer


def _decibels(model: Model, layers: list[Layer], coded: list[Coded], expected: Any, threads: int) -> float:
    """Of the worst output with the weights that ``coded`` stand for."""
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    for layer, each in zip(layers, coded, strict=True):
        twin = mapping[layer.value]
        held, graph = twin.constant, twin.home
        assert held is not None and graph is not None
        array = from_rows(layer.node, each.rows(), layer.array).astype(layer.array.dtype)
        twin.replace_uses(graph.add_constant(tensor(array, held.dtype), twin.name))
        graph.remove_constant(twin)
    errors = relative_errors(open_session(copy, threads=threads), expected)
    worst = max(errors.values(), default=0.0)
    return math.inf if worst == 0 else -10 * math.log10(worst) if math.isfinite(worst) else -math.inf


def _coded_bytes(coded: Coded) -> float:
    """What a weight takes once its indices are coded by entropy: indices, table of frequencies, levels, scales."""
    present = len(np.unique(coded.indices))
    levels = 0 if coded.even else coded.levels.nbytes
    return entropy_of(coded.indices) * coded.indices.size / 8 + 2 * present + levels + coded.scale_bytes


def _told(layer: Layer, coded: Coded, bits: int) -> dict[str, Any]:
    """One entry of the report: a weight, its bits, and how its values lie among the centroids."""
    rows = layer.rows / coded.scales
    error = float(np.square(coded.rows() - layer.rows).sum())
    power = float(np.square(layer.rows).sum())
    low, high = float(rows.min()), float(rows.max())
    counts, _ = np.histogram(rows, bins=_BARS, range=(low, high if high > low else low + 1.0))
    return {
        "name": layer.name,
        "nodes": layer.nodes,
        "weights": layer.rows.size,
        "levels": max(len(np.unique(book)) for book in coded.levels),
        "bits": bits,
        "entropy": entropy_of(coded.indices),
        "zeros": float((coded.rows() == 0).mean()),
        "sqnr_db": 10 * math.log10(power / error) if error and power else None,
        "low": low,
        "high": high,
        "histogram": [int(count) for count in counts],
        "centroids": [float(level) for level in np.unique(coded.levels[0])],
    }
