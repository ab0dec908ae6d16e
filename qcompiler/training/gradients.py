"""Gradients of what a model gives, sample by sample: how much its outputs would change with each weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from qcompiler.data import Dataset
from qcompiler.errors import TrainingError
from qcompiler.ir import Model, Value
from qcompiler.training.module import GraphModule

__all__ = ["weighted_gradients"]


def weighted_gradients(
    model: Model,
    values: Sequence[Value],
    data: Dataset,
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[list[Any]]:
    """For each sample, each of ``values`` times the gradient of a random sum of the outputs, float64 of its shape.

    With signs r drawn for the elements of each output, the square of sum_i w_i d(r . y)/d w_i is on average the squared
    change of the outputs, to first order, when all these weights become zero; outputs are divided by their norm. Labels
    are not needed. Weights that do not learn give zeros. Raises TrainingError where no output has a gradient.
    """
    module = GraphModule(model).eval()
    learned = module.parameters_of.learned
    places = [module.parameters_of.place.get(value) for value in values]
    signs = torch.Generator().manual_seed(seed)
    for done, sample in enumerate(data):
        progress(done + 1)
        module.zero_grad(set_to_none=True)
        outputs, _ = module(sample)
        total: Any = 0.0
        for item in outputs.values():
            if isinstance(item, torch.Tensor) and item.requires_grad:
                drawn = torch.randint(0, 2, item.shape, generator=signs) * 2 - 1
                total = total + (drawn * item).sum() / item.detach().norm().clamp_min(1e-12)
        if not isinstance(total, torch.Tensor):
            raise TrainingError("no output of the model has a gradient")
        total.backward()
        found = []
        for value, place in zip(values, places, strict=True):
            parameter = learned[place] if place is not None and place in learned else None
            if parameter is None or parameter.grad is None:
                found.append(torch.zeros(value.shape, dtype=torch.float64).numpy())
            else:
                found.append((parameter.detach().double() * parameter.grad.double()).numpy())
        yield found
