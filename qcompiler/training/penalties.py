"""What makes weights and channels die: soft thresholds after each step, and magnitude pruning by a schedule."""

from __future__ import annotations

from typing import Any

import torch

from qcompiler.ir import Value
from qcompiler.ops import info
from qcompiler.training.module import GraphModule
from qcompiler.training.settings import Settings

__all__ = ["Penalties"]

_RAMP = 0.6  # of all steps, in which weights go
_TIMES = 100  # at which some go


class Penalties:
    """Applied after each step of the optimizer, to weights of two axes and more.

    A soft threshold, x -> sign(x) max(|x| - rate * strength, 0), is the step that a penalty strength * |x| takes by
    itself, zeros included (proximal gradient; Parikh and Boyd, 2014, section 6.5).
    """

    def __init__(self, module: GraphModule, settings: Settings, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.weights, self.parameters = module.weights(), list(module.parameters())
        self.scales = _scales(module) if settings.scale_l1 else []
        self.masks = {id(item): mask for item, mask in module.parameters_of.masks()}
        self.fixed = module.parameters_of.masks()
        self.every = max(1, self.ramp // _TIMES)
        self.reached: set[int] = set()  # parameters that had a gradient: others are nobody's to shrink

    @property
    def ramp(self) -> int:
        """The step from which no further weights go."""
        return max(1, int(self.steps * _RAMP))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def apply(self, step: int, rate: float) -> None:
        """After step number ``step``, counted from 1, with the learning rate ``rate``."""
        for parameter, mask in self.fixed:
            parameter.mul_(mask)
        self.reached.update(id(item) for item in self.parameters if item.grad is not None)
        settings, weights = self.settings, [pair for pair in self.weights if id(pair[1]) in self.reached]
        if settings.l1:
            for _, item in weights:
                item.copy_(item.sign() * (item.abs() - rate * settings.l1).clamp_min(0))
        if settings.group_lasso:
            for value, item in weights:
                axis = _channel_axis(value, item)
                others = [place for place in range(item.dim()) if place != axis]
                norm = item.square().sum(others, keepdim=True).sqrt()
                size = (item.numel() / item.shape[axis]) ** 0.5
                item.mul_((1 - rate * settings.group_lasso * size / norm.clamp_min(1e-12)).clamp_min(0))
        for item in self.scales:
            item.copy_(item.sign() * (item.abs() - rate * settings.scale_l1).clamp_min(0))
        if settings.sparsity and (step % self.every == 0 or step == self.ramp) and step <= self.ramp:
            self._prune(weights, settings.sparsity * (1 - (1 - step / self.ramp) ** 3))

    def _prune(self, weights: list[tuple[Value, Any]], share: float) -> None:
        """Let the smallest weights of all layers together be zero from now on, ``share`` of them."""
        if not weights:
            return
        sizes = torch.cat([item.abs().reshape(-1) for _, item in weights])
        count = int(share * sizes.numel())
        if not count:
            return
        bound = torch.kthvalue(sizes, count).values
        fixed = {id(item): (item, mask) for item, mask in self.fixed}
        for _, item in weights:
            mask = item.abs() > bound
            if not mask.any():  # a layer of which nothing is left would cut the model in two
                mask = item.abs() >= item.abs().max()
            fixed[id(item)] = item, mask & self.masks.get(id(item), mask)
            item.mul_(fixed[id(item)][1])
        self.fixed = list(fixed.values())

    def state(self) -> dict[str, Any]:
        """For a checkpoint: what is zero by now, and what had gradients, by the parameters' places."""
        places = {id(item): place for place, item in enumerate(self.parameters)}
        return {"masks": {places[id(item)]: mask for item, mask in self.fixed},
                "reached": sorted(places[each] for each in self.reached)}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.fixed = [(self.parameters[place], mask) for place, mask in state["masks"].items()]
        self.reached = {id(self.parameters[place]) for place in state["reached"]}


def _scales(module: GraphModule) -> list[Any]:
    """Parameters that are scales of batch normalization."""
    found = []
    for node in module.model.nodes():
        value = node.input(1) if node.is_op("BatchNormalization") else None
        if value is not None and value in module.parameters_of.place:
            found.append(module.parameters_of.learned[module.parameters_of.place[value]])
    return found


def _channel_axis(value: Value, item: Any) -> int:
    """The axis of the output channels, by the op table; the first where nobody says."""
    for user in value.users():
        known = info(user)
        if known is not None and known.weight is not None and user.input(known.weight) is value:
            turned = user.is_op("Gemm") and user.attr("transB", 0)
            return 0 if turned else known.weight_axis % item.dim()
    return 0
