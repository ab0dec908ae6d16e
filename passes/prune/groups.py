"""Channel groups: the closure of the indices, over all values, that have to live or die together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from qcompiler.ir import Model, Node, Value
from qcompiler.ops import Links, info, links

__all__ = ["ChannelGroup", "Channels", "channel_groups"]

_SINCE = 13  # operator set from which Softmax has one axis and Split its sizes as an input

Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Place: TypeAlias = tuple[Value, int]
"""A value and one of its axes."""


@dataclass(eq=False)
class ChannelGroup:
    """Units over the same places, each of which can go by itself.

    ``places`` are the axes concerned; ``units[u][p]`` are the indices that unit u takes in place p.
    """

    name: str
    places: list[Place]
    units: list[list[Indices]]

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.units)

    def weight_nodes(self) -> list[str]:
        """Names of the nodes whose constants are cut."""
        nodes = (user for value, _ in self.places if value.constant is not None for user in value.users())
        return list(dict.fromkeys(node.name or node.output.name for node in nodes))

    def moved(self, mapping: Mapping[Value, Value]) -> ChannelGroup:
        """The same group in a copy of its model, whose values ``mapping`` tells."""
        return ChannelGroup(self.name, [(mapping[value], axis) for value, axis in self.places], self.units)


@dataclass
class Channels:
    """All groups of a model, and for each weight that is in none, why."""

    groups: list[ChannelGroup] = field(default_factory=list)
    kept: dict[Node, str] = field(default_factory=dict)
    links: dict[Node, Links] = field(default_factory=dict)


def channel_groups(model: Model) -> Channels:
    """The groups of the main graph of ``model``, whose types are inferred. Linear in nodes and channels.

    They start from the output channels of constant weights. What reaches a graph's input or output, a subgraph, or an
    axis of which an operator says nothing (an unknown one says nothing of any) is kept whole.
    """
    if model.opset < _SINCE:
        old = f"operator set {model.opset}, of which some operators mean something else than from {_SINCE} on"
        return Channels(kept={node: old for node in model.graph if node.is_op("Conv", "Gemm", "MatMul")})
    closure = _Closure(model)
    seeds: dict[Node, Place] = {}
    for node in model.graph:
        known = info(node)
        if node.is_op("LSTM", "GRU", "RNN"):
            weight = node.input(2)
            if weight is not None and weight.constant is not None and len(weight.constant.shape) == 3:
                seeds[node] = (weight, 2)
        elif known is not None and known.role == "compute":
            weight = node.input(1)
            rank = node.output.rank
            if weight is not None and weight.constant is not None and rank:
                seeds[node] = (node.output, 1 if node.is_op("Conv", "ConvTranspose") else rank - 1)
    for place in seeds.values():
        closure.reach(place)
    closure.close()
    found = Channels(links=closure.links)
    components = closure.components()
    by_shape: dict[tuple[Any, ...], list[dict[Place, Indices]]] = defaultdict(list)
    for component in components:
        key = tuple(sorted((id(value), axis, indices.size) for (value, axis), indices in component.items()))
        by_shape[key].append(component)
    names = {place: node.name or node.output.name for node, place in seeds.items()}
    reached: set[Place] = set()
    for members in by_shape.values():
        places = list(members[0])
        if len(members) > 1:
            name = next((names[place] for place in places if place in names), places[0][0].name)
            found.groups.append(ChannelGroup(name, places, [[unit[place] for place in places] for unit in members]))
            reached.update(places)
    order = {place: number for number, place in enumerate(closure.base)}
    found.groups.sort(key=lambda group: min(order[place] for place in group.places))
    taken: Counter[str] = Counter()
    for group in found.groups:  # one layer may give several
        taken[group.name] += 1
        if taken[group.name] > 1:
            group.name = f"{group.name}#{taken[group.name]}"
    for node, place in seeds.items():
        if place not in reached:
            found.kept[node] = closure.reason(place)
    return found


class _Closure:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.links: dict[Node, Links] = {}
        self.base: dict[Place, int] = {}  # the number of the first index of each place
        self.total = 0
        self.waiting: list[Place] = []
        self.frozen: dict[Place, str] = {}
        self.reasons: dict[int, str] = {}  # by closure
        self.pairs: list[tuple[Indices, Indices]] = []
        self.tied: set[int] = set()
        self.roots: Indices = np.zeros(0, np.int64)

    def reach(self, place: Place) -> None:
        """Number the indices of a place and remember to look at it."""
        if place in self.base:
            return
        self.base[place] = self.total
        if not _size(place):
            self.frozen[place] = f"an axis of {place[0].name} is of no fixed size"
        self.total += _size(place)
        self.waiting.append(place)

    def close(self) -> None:
        """Follow every link of every place that was reached."""
        while self.waiting:
            place = self.waiting.pop()
            value, _ = place
            reason = self._fixed(value)
            if reason:
                self.frozen.setdefault(place, reason)
            if value.producer is not None:
                self._follow(value.producer, -value.index - 1, place)
            for user, position in list(value.uses):
                if isinstance(user, Node) and user.graph is self.model.graph:
                    self._follow(user, position, place)

    def _fixed(self, value: Value) -> str:
        if value.is_input:
            return f"{value.name} is an input of the model"
        if value.is_output:
            return f"{value.name} is an output of the model"
        if value.home is not self.model.graph or any(user.graph is not self.model.graph for user in value.users()):
            return f"{value.name} is used in a subgraph"
        return ""

    def _follow(self, node: Node, place: int, reached: Place) -> None:
        if node not in self.links:
            self.links[node] = links(node)
        known = self.links[node]
        axis = reached[1]
        if (place, axis) not in known.covered():
            what = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
            self.frozen.setdefault(reached, f"{what} {node.name} needs that axis whole")
            return
        for link in known.found:
            if (place, axis) not in ((link.left, link.left_axis), (link.right, link.right_axis)):
                continue
            left, right = known.value(link.left), known.value(link.right)
            if id(link) in self.tied or left is None or right is None:
                continue
            self.tied.add(id(link))
            a, b = (left, link.left_axis), (right, link.right_axis)
            self.reach(a)
            self.reach(b)
            if _beyond(link.left_index, a) or _beyond(link.right_index, b):
                for end, other in ((a, b), (b, a)):
                    self.frozen.setdefault(end, f"it is joined with an axis of {other[0].name} of no fixed size")
                continue
            self.pairs.append((self.base[a] + link.left_index, self.base[b] + link.right_index))

    def components(self) -> list[dict[Place, Indices]]:
        """The closures that nothing keeps whole, each as indices by place."""
        self.roots = _roots(self.total, self.pairs)
        alive = np.ones(self.total, bool)
        for place, reason in self.frozen.items():
            alive[self._roots_of(place)] = False
            for root in np.unique(self._roots_of(place)).tolist():
                self.reasons.setdefault(root, reason)
        found: dict[int, dict[Place, Indices]] = defaultdict(dict)
        for place in self.base:
            roots = self._roots_of(place)
            order = np.argsort(roots, kind="stable")
            cuts = np.flatnonzero(np.diff(roots[order])) + 1
            for part in np.split(order, cuts) if order.size else ():
                root = int(roots[part[0]])
                if alive[root]:
                    found[root][place] = part.astype(np.int64)
        return [found[root] for root in sorted(found)]

    def _roots_of(self, place: Place) -> Indices:
        """For each index of ``place`` the closure that it is in."""
        start = self.base[place]
        return self.roots[start : start + _size(place)]

    def reason(self, place: Place) -> str:
        """Why nothing of ``place`` can go; after :meth:`components`."""
        found = (self.reasons[root] for root in self._roots_of(place).tolist() if root in self.reasons)
        return next(found, None) or self.frozen.get(place, "all of its channels hang together")


def _beyond(index: Indices, place: Place) -> bool:
    return bool(index.size) and int(index.max()) >= _size(place)


def _size(place: Place) -> int:
    """How many indices a place has; 0 where that is not fixed."""
    value, axis = place
    shape = value.shape or ()
    size = shape[axis] if 0 <= axis < len(shape) else None
    return size if isinstance(size, int) else 0


def _roots(total: int, pairs: list[tuple[Indices, Indices]]) -> Indices:
    """The smallest number in each connected component, for each number; whole arrays hooked and shortened in turn."""
    parent = np.arange(total)
    if not pairs:
        return parent
    a, b = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    while True:
        roots_a, roots_b = parent[a], parent[b]
        low, high = np.minimum(roots_a, roots_b), np.maximum(roots_a, roots_b)
        different = low != high
        if not different.any():
            return parent
        np.minimum.at(parent, high[different], low[different])
        while True:
            shorter = parent[parent]
            if (shorter == parent).all():
                break
            parent = shorter
