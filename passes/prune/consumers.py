"""Who reads a group's channels into sums: the layers whose outputs tell what a channel was good for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.passes.matrix import as_rows
from qcompiler.passes.prune.groups import ChannelGroup, Channels

__all__ = ["Consumer", "consumers_of"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


@dataclass(eq=False)
class Consumer:
    """A Conv of one group, MatMul or Gemm with constant weights, and which columns of it are whose.

    ``rows`` are its weights as float64 [outputs, inner]; ``columns[u]`` are the inner places that unit u fills.
    """

    node: Node
    weight: Value
    rows: Array
    columns: list[Array]


def consumers_of(group: ChannelGroup, channels: Channels) -> list[Consumer]:
    """The layers that sum up over the channels of ``group`` and give none of them."""
    places = set(group.places)
    found = []
    for node, known in channels.links.items():
        weight = node.input(1)
        if not node.is_op("Conv", "MatMul", "Gemm") or weight is None or weight.constant is None:
            continue
        axis = next((a for place, a in known.summed if place == 0 and (node.input(0), a) in places), None)
        shape = weight.constant.shape
        if axis is None or node.attr("group", 1) != 1:
            continue
        if node.is_op("MatMul", "Gemm") and len(shape) != 2:
            continue
        data = node.inputs[0]
        assert data is not None
        which = group.places.index((data, axis))
        each = int(np.prod(shape[2:])) if node.is_op("Conv") else 1
        columns = [(unit[which][:, None] * each + np.arange(each)).reshape(-1) for unit in group.units]
        found.append(Consumer(node, weight, as_rows(node, weight.constant.numpy())[0], columns))
    return found
