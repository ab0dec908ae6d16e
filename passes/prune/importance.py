"""In which order the units of a group go, and what the loss of each adds to the error of those who read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from qcompiler.calibrate import Moments
from qcompiler.ir import Node, Value
from qcompiler.passes.prune.consumers import Consumer
from qcompiler.passes.prune.groups import ChannelGroup
from qcompiler.passes.quantize.least_squares import damped

__all__ = ["CRITERIA", "Ranking", "by_scores", "given_axis", "has_scales", "ranked"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

CRITERIA = ("reconstruction", "energy", "taylor", "batch-norm", "l2", "l1", "random")
_CHUNKS = 64  # steps in which a group loses its units; all of one step are judged together


@dataclass
class Ranking:
    """Units in the order in which they go, and the error once each has gone, relative to the readers' outputs.

    ``error[k]`` is after k units. By criteria without data it only orders and compares.
    """

    order: list[int]
    error: Array


def ranked(
    group: ChannelGroup,
    consumers: Sequence[Consumer],
    moments: Mapping[Node, Moments],
    criterion: str,
    random: np.random.Generator,
) -> Ranking:
    """Rank the units of ``group``.

    ``reconstruction``: what the removal of a unit adds to the squared error of its readers' outputs when all other
    weights make it good, tr(W_u [(H^-1)_uu]^-1 W_u^T) with H = sum x x^T (Optimal Brain Surgeon: Hassibi and Stork,
    1992, for blocks), one step after the other. ``energy``: sum of x^2 times squared weights. ``l2``, ``l1``: the norm
    of the weights that give the unit. ``batch-norm``: the size of the scales by which batch normalization multiplies it
    (Liu et al., 2017), or ``l2`` in a group that none of it stands in. ``random``: by chance, as a control. ``taylor``
    is worked out for all groups at once (:mod:`qcompiler.passes.prune.taylor`).
    """
    usable = [(consumer, moments[consumer.node]) for consumer in consumers if consumer.node in moments]
    if criterion in ("reconstruction", "energy") and usable:
        if criterion == "energy":
            return by_scores(np.sum([_energy(consumer, seen) for consumer, seen in usable], axis=0))
        return _reconstruction(group.size, usable)
    if criterion == "random":
        return by_scores(random.permutation(group.size) + 1.0)
    if criterion == "batch-norm" and has_scales(group):
        return by_scores(_scales(group))
    return by_scores(_norms(group, 1 if criterion == "l1" else 2))


def by_scores(scores: Array) -> Ranking:
    """The units from the least score up; errors add."""
    order = np.argsort(scores, kind="stable")
    return Ranking([int(unit) for unit in order], np.concatenate([[0.0], np.cumsum(scores[order])]))


def has_scales(group: ChannelGroup) -> bool:
    """True when batch normalization multiplies the units of ``group``."""
    return any(_is_scale(value) for value, _ in group.places)


def _is_scale(value: Value) -> bool:
    return value.constant is not None and any(
        user.is_op("BatchNormalization") and user.input(1) is value for user in value.users()
    )


def _scales(group: ChannelGroup) -> Array:
    """Sum of the scales' sizes of each unit, relative to the group's mean."""
    scores = np.zeros(group.size)
    for which, (value, _) in enumerate(group.places):
        if value.constant is not None and _is_scale(value):
            array = np.abs(value.constant.numpy().astype(np.float64))
            scores += [array[unit[which]].sum() for unit in group.units]
    return scores / (scores.mean() or 1.0)


def _norms(group: ChannelGroup, power: int) -> Array:
    """Norm of all weights of each unit, its readers' left out where others give it; relative to the group's mean."""
    scores = np.zeros(group.size)
    for which, (value, axis) in enumerate(group.places):
        if value.constant is None or len(value.constant.shape) < 2 or axis != given_axis(value):
            continue
        array = np.abs(value.constant.numpy().astype(np.float64)) ** power
        summed = array.sum(axis=tuple(i for i in range(array.ndim) if i != axis))
        scores += [summed[unit[which]].sum() for unit in group.units]
    mean = scores.mean()
    return scores / mean if mean > 0 else scores + 1.0


def given_axis(value: Any) -> int:
    """The axis of a weight's output channels, by its first user."""
    user = next(iter(value.users()), None)
    if user is None or user.is_op("Conv"):
        return 0
    if user.is_op("Gemm"):
        return 0 if user.attr("transB", 0) else 1
    return 1


def _energy(consumer: Consumer, seen: Moments) -> Array:
    second = np.einsum("ii->i", seen.second[0])
    column = second * np.square(consumer.rows).sum(axis=0)
    return np.array([column[columns].sum() for columns in consumer.columns]) / _power(consumer, seen)


def _power(consumer: Consumer, seen: Moments) -> float:
    """Sum of the squares of what the reader gave; 1 where that was nothing."""
    return float(np.einsum("oi,ij,oj->", consumer.rows, seen.second[0], consumer.rows, optimize=True)) or 1.0


def _reconstruction(size: int, usable: Sequence[tuple[Consumer, Moments]]) -> Ranking:
    states = [_State(consumer, seen) for consumer, seen in usable]
    left = np.arange(size)
    order: list[int] = []
    error = [0.0]
    step = max(1, size // _CHUNKS)
    while left.size:
        scores = sum(state.scores(left) for state in states)
        gone = left[np.argsort(scores, kind="stable")[:step]]
        before = error[-1]
        for state in states:
            state.remove(gone)
        after = sum(state.error for state in states)
        order += [int(unit) for unit in gone]
        error += [before + (after - before) * (i + 1) / gone.size for i in range(gone.size)]
        left = np.setdiff1d(left, gone)
    return Ranking(order, np.maximum.accumulate(np.array(error)))


class _State:
    """The inverse of a reader's moments and its weights, as units go."""

    def __init__(self, consumer: Consumer, seen: Moments) -> None:
        self.power = _power(consumer, seen)
        self.inverse = np.linalg.inv(damped(seen.second)[0])
        self.rows = consumer.rows.copy()
        self.columns = consumer.columns
        self.error = 0.0

    def scores(self, units: Array) -> Array:
        """What each of ``units`` would add to the error if it went next."""
        columns = np.stack([self.columns[unit] for unit in units])  # [units, block]
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        weights = self.rows[:, columns].transpose(1, 2, 0)  # [units, block, outputs]
        solved = np.linalg.solve(blocks, weights)
        scores: Array = np.einsum("ubo,ubo->u", weights, solved) / self.power
        return scores

    def remove(self, units: Array) -> None:
        """Take ``units`` out; the other weights make good what they can."""
        columns = np.concatenate([self.columns[unit] for unit in units])
        block = self.inverse[np.ix_(columns, columns)]
        weights = self.rows[:, columns]
        factor = np.linalg.solve(block, self.inverse[columns])
        self.error += float(np.einsum("oc,co->", weights, np.linalg.solve(block, weights.T))) / self.power
        self.rows -= weights @ factor
        self.inverse -= self.inverse[:, columns] @ factor
        # What is gone must not come back by rounding.
        self.rows[:, columns] = 0.0
        self.inverse[columns] = 0.0
        self.inverse[:, columns] = 0.0
        self.inverse[columns, columns] = 1.0
