"""Passes that move a factor for each channel from one layer into the next: the same in float, better in integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from qcompiler.calibrate import second_moments
from qcompiler.dtypes import DType
from qcompiler.errors import UsageError
from qcompiler.ir import Model, Node, Value, tensor
from qcompiler.pipeline import Pass, PassContext

__all__ = ["EqualizeChannels", "SmoothActivations"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_SCALES_ALONG = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool")  # f(s x) = s f(x) for s > 0
_STILL = 1e-3  # a change of all factors below which nothing moves any more
_BOUND = 1e4  # of a factor and its inverse: beyond it a channel is dead or another one is


@dataclass(frozen=True)
class EqualizeChannels(Pass):
    """Make the weights that give a channel as large as those that take it (Nagel et al., 2019, section 4.1).

    s_i = sqrt(r1_i / r2_i), where r1_i is the largest weight of output channel i and r2_i the largest that any reader
    has for it; the first layer is divided by s, its readers are multiplied. Between them may stand what keeps factors:
    Relu, LeakyRelu, pooling. ``rounds`` bounds how often the model is walked: a layer is both a giver and a reader.
    """

    rounds: int = 8

    cost: ClassVar[str] = "Linear in the weights."
    lossless: ClassVar[bool] = False

    def run(self, model: Model, context: PassContext) -> int:
        """How many layers were rescaled. Needs no data."""
        moved = set()
        for _ in range(self.rounds):
            still = True
            for link in _links(model, ("Conv", "Gemm")):
                given = link.given()
                factor = _bounded(np.sqrt(given / np.maximum(link.taken(), 1e-30)))
                if np.abs(factor - 1.0).max() > _STILL:
                    link.move(factor)
                    moved.add(link.giver)
                    still = False
            if still:
                break
        return len(moved)


@dataclass(frozen=True)
class SmoothActivations(Pass):
    """Move outlying channels of a normalization into the weights that read it (SmoothQuant: Xiao et al., 2022).

    s_j = max|x_j|^a / max|w_j|^(1 - a) (equation 4) with a = ``strength``. Scale and bias of LayerNormalization or
    RMSNormalization are divided by s, the readers' weights multiplied, so that no operator is added. A normalization
    that someone else reads too (a residual sum) is left.
    """

    strength: float = 0.5

    cost: ClassVar[str] = "One walk over the samples, then linear in the weights."
    lossless: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.strength < 1.0:
            raise ValueError(f"strength has to be between 0 and 1, not {self.strength:g}")

    def run(self, model: Model, context: PassContext) -> int:
        """How many normalizations were rescaled. Raises UsageError without data, CalibrationError."""
        links = list(_links(model, ("LayerNormalization", "RMSNormalization")))
        if not links:
            return 0
        if context.data is None:
            raise UsageError(f"pass '{self.name}' needs data", hint="give --data")
        readers = [link.readers[0] for link in links]
        seen = second_moments(model, readers, context.data, threads=context.threads, progress=context.per_sample)
        count = 0
        for link, reader in zip(links, readers, strict=True):
            if reader not in seen:
                continue
            largest = np.maximum(seen[reader].largest[0], 1e-5)
            factor = _bounded(largest**self.strength / np.maximum(link.taken(), 1e-5) ** (1 - self.strength))
            link.move(factor)
            count += 1
        return count


def _bounded(factor: Array) -> Array:
    """``factor`` where it is sensible, else 1: a channel of zeros has nothing to balance."""
    return np.where((factor > 1 / _BOUND) & (factor < _BOUND), factor, 1.0)


@dataclass(eq=False)
class _Link:
    """A node that gives channels by constants of its own, and all nodes that read them, by weights of their own."""

    giver: Node
    readers: list[Node]

    def given(self) -> Array:
        """Largest magnitude of the giver's weights for each channel it gives."""
        rows = _constant(self.giver, 1)
        if self.giver.is_op("Gemm") and not self.giver.attr("transB", 0):
            rows = rows.T
        largest: Array = np.abs(rows.reshape(rows.shape[0], -1)).max(axis=1)
        return largest

    def taken(self) -> Array:
        """Largest magnitude of the readers' weights for each channel they read."""
        found = []
        for reader in self.readers:
            weight, axis = np.abs(_constant(reader, 1)), _inner_axis(reader)
            found.append(weight.max(axis=tuple(i for i in range(weight.ndim) if i != axis)))
        largest: Array = np.max(found, axis=0)
        return largest

    def move(self, factor: Array) -> None:
        """Divide what is given by ``factor`` [channels], and multiply what reads it."""
        norm = not self.giver.is_op("Conv", "Gemm")
        axis = 1 if self.giver.is_op("Gemm") and not self.giver.attr("transB", 0) else 0
        _scale(self.giver, 1, 1.0 / factor, 0 if norm else axis)
        if self.giver.input(2) is not None:
            _scale(self.giver, 2, 1.0 / factor, -1)
        for reader in self.readers:
            _scale(reader, 1, factor, _inner_axis(reader))


def _links(model: Model, givers: tuple[str, ...]) -> Iterator[_Link]:
    for node in model.graph:
        if not node.is_op(*givers) or not all(_own(node, place) for place in (1, 2) if node.input(place) is not None):
            continue
        norm = not node.is_op("Conv", "Gemm")
        if any(value.uses or value.is_output for value in node.outputs[1:]):
            continue
        if norm and (
            node.attr("axis", -1) not in (-1, (node.output.rank or 0) - 1) or len(_constant(node, 1).shape) != 1
        ):
            continue
        if node.is_op("Gemm") and (node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0):
            continue
        value = node.output
        while not norm and not value.is_output and len(value.users()) == 1 and value.users()[0].is_op(*_SCALES_ALONG):
            follower = value.users()[0]
            if follower.graph is not node.graph or len(follower.outputs) > 1:
                break
            value = follower.output
        readers = value.users()
        if value.is_output or not readers or not all(_reads(reader, value, norm) for reader in readers):
            continue
        if len({_constant(reader, 1).shape[_inner_axis(reader)] for reader in readers}) == 1:
            yield _Link(node, readers)


def _reads(reader: Node, value: Value, norm: bool) -> bool:
    """True when ``reader`` multiplies the channels of ``value``, and nothing else of it, by weights of its own."""
    assert value.producer is not None
    if reader.graph is not value.producer.graph or reader.inputs[0] is not value or value in reader.inputs[1:]:
        return False
    if not _own(reader, 1) or reader.attr("transA", 0):
        return False
    rank = len(_constant(reader, 1).shape)
    if norm:
        return reader.is_op("MatMul", "Gemm") and rank == 2
    if reader.is_op("Conv"):
        # One input channel a group: the weights' first axis is that of the channels.
        groups = int(reader.attr("group", 1))
        return groups == 1 or _constant(reader, 1).shape[:2] == (groups, 1)
    return reader.is_op("Gemm")


def _inner_axis(reader: Node) -> int:
    if reader.is_op("Conv"):
        return 1 if reader.attr("group", 1) == 1 else 0
    return 1 if reader.is_op("Gemm") and reader.attr("transB", 0) else 0


def _own(node: Node, place: int) -> bool:
    """True for a float constant that nobody else reads."""
    value = node.input(place)
    held = value.constant if value is not None else None
    if value is None or held is None or held.dtype is not DType.FLOAT or held.size == 0:
        return False
    return len(value.uses) == 1 and value.graph is node.graph


def _constant(node: Node, place: int) -> Array:
    value = node.inputs[place]
    assert value is not None and value.constant is not None
    array: Array = value.constant.numpy()
    return array


def _scale(node: Node, place: int, factor: Array, axis: int) -> None:
    """Put the constant times ``factor`` along ``axis`` in its place; the old one goes."""
    old, array = node.inputs[place], _constant(node, place)
    assert old is not None and node.graph is not None
    shape = [1] * array.ndim
    shape[axis] = -1
    made = node.graph.add_constant(tensor((array * factor.reshape(shape)).astype(np.float32)), old.name)
    node.set_input(place, made)
    node.graph.remove_constant(old)
