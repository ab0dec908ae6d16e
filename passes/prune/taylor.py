"""What the outputs would change by, to first order, if a unit's weights were zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.ir import Model
from qcompiler.passes.prune.groups import ChannelGroup
from qcompiler.passes.prune.importance import given_axis
from qcompiler.pipeline import PassContext
from qcompiler.training import need_torch

__all__ = ["taylor_scores"]

_SAMPLES = 64  # on which gradients are taken


def taylor_scores(model: Model, groups: Sequence[ChannelGroup], context: PassContext) -> dict[ChannelGroup, Any]:
    """The score of each unit: the mean over samples of (sum of w dy/dw)^2 over the weights that give the unit.

    Molchanov et al. (2019), equation 8, with the outputs themselves in the place of a loss on labels. Raises UsageError
    without torch, TrainingError where the model has no gradients.
    """
    need_torch()
    from qcompiler.training.gradients import weighted_gradients

    assert context.data is not None
    places = [
        (group, which, value, axis)
        for group in groups
        for which, (value, axis) in enumerate(group.places)
        if value.constant is not None and len(value.constant.shape) >= 2 and axis == given_axis(value)
    ]
    values = list(dict.fromkeys(value for _, _, value, _ in places))
    data = context.data.subset(range(0, len(context.data), -(-len(context.data) // _SAMPLES)))
    scores = {group: np.zeros(group.size) for group in groups}
    tell = context.counting("sample", len(data))
    for found in weighted_gradients(model, values, data, seed=context.seed, progress=tell):
        products = dict(zip(values, found, strict=True))
        sums = {group: np.zeros(group.size) for group in groups}
        for group, which, value, axis in places:
            array = products[value]
            summed = array.sum(axis=tuple(other for other in range(array.ndim) if other != axis))
            sums[group] += [summed[unit[which]].sum() for unit in group.units]
        for group, total in sums.items():
            scores[group] += np.square(total)
    return {group: total / len(data) for group, total in scores.items()}
