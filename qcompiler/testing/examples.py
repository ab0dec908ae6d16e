"""From a rule's pattern to a graph that it matches: the pattern itself, read as a recipe."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np

from qcompiler.ir import Graph, Model, Node, Value, tensor
from qcompiler.ops import info
from qcompiler.rewrite import Rule
from qcompiler.rewrite.pattern import AnyOf, ConstantIs, Maybe, NodePattern, Output, Pattern, Skip, Var

__all__ = ["example"]

_NUMBERS = (0, 1, 2, 3, 6, 0.5, 1 / 6, 2**0.5, 0.5**0.5, (2 / np.pi) ** 0.5, 0.044715, 1.702, 1e-5, -1, -2, 4, 10)
_ARRAYS: tuple[Any, ...] = (
    *(np.float32(number) for number in _NUMBERS),
    *(np.int64(number) for number in _NUMBERS if number == int(number)),
    *(np.array([number], np.int64) for number in _NUMBERS if number == int(number)),
    np.ones((2, 2), np.float32),
    np.array([0, 0, 1, 1], np.int64),
    np.array([0, 2, 1], np.int64),
    np.bool_(False),
)
_ATTRIBUTES: tuple[Any, ...] = (None, 0, 1, -1, 2, *_NUMBERS, "", "none", "tanh", "linear", "constant", (0, 2, 1))


def example(rule: Rule, seed: int = 0) -> tuple[Model, Node]:
    """A graph that the pattern of ``rule`` matches, and the node at which it does.

    Bindings become inputs of the graph, without types. Where the pattern leaves a choice (alternatives, optional
    inputs, the order of commutative ones) ``seed`` makes it. A constant or attribute that a function of the rule has
    to accept is looked for among a few dozen usual ones. Raises LookupError when none is accepted.
    """
    builder = _Builder(random.Random(seed))
    values = [builder.value(pattern) for pattern in rule.outputs]
    for index, value in enumerate(values):
        if value is None or value.producer is None:
            raise LookupError(f"output {index} of the pattern of '{rule.name}' is no node")
        value.name = f"y{index}"
        builder.graph.add_output(value)
    root = values[0].producer if values[0] is not None else None
    if root is None:
        raise LookupError(f"the pattern of '{rule.name}' has no root")
    return Model(builder.graph, {"": 21, "com.microsoft": 1}), root


class _Builder:
    """Builds inputs before the nodes that take them. ``nodes`` are those that stand for a pattern already."""

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.graph = Graph("example")
        self.bound: dict[str, Value] = {}
        self.nodes: dict[NodePattern, Node] = {}
        self.chosen: dict[AnyOf, Pattern] = {}

    def value(self, pattern: Pattern) -> Value | None:
        """The value that ``pattern`` stands for; None for an input that is left out."""
        if isinstance(pattern, Var):
            return self._binding(pattern.name)
        if isinstance(pattern, Output):
            return self._node(pattern.node).outputs[pattern.index]
        if isinstance(pattern, NodePattern):
            return self._node(pattern).output
        if isinstance(pattern, ConstantIs):
            return self._constant(pattern)
        if isinstance(pattern, Maybe):
            left_out = isinstance(pattern.inner, ConstantIs) and pattern.inner.accepts is not None
            name = pattern.inner.name if isinstance(pattern.inner, Var) else ""
            if name not in self.bound and self.choose.random() < 0.5:
                return None
            try:
                return self.value(pattern.inner)
            except LookupError:
                if left_out:  # None in a pattern: nothing is accepted there
                    return None
                raise
        if isinstance(pattern, AnyOf):
            return self.value(self.chosen.setdefault(pattern, self.choose.choice(pattern.choices)))
        if isinstance(pattern, Skip):
            inner = self.value(pattern.inner)
            if self.choose.random() < 0.5:
                return inner
            return self.graph.append(Node(self.choose.choice(pattern.kinds), [inner])).output
        raise TypeError(f"{pattern!r} stands for no value")

    def _binding(self, name: str) -> Value:
        if name not in self.bound:
            self.bound[name] = self.graph.add_input(Value(name))
        return self.bound[name]

    def _constant(self, pattern: ConstantIs) -> Value:
        name = pattern.inner.name if pattern.inner is not None else ""
        if name in self.bound:
            return self.bound[name]
        arrays: Iterable[Any] = _ARRAYS if pattern.number is None else [np.float32(pattern.number)]
        held = _first(arrays, lambda array: pattern.accepts is None or bool(pattern.accepts(np.asarray(array))))
        value = self.graph.add_constant(tensor(np.asarray(held)), name)
        if name:
            self.bound[name] = value
        return value

    def _node(self, pattern: NodePattern) -> Node:
        if pattern in self.nodes:
            return self.nodes[pattern]
        inputs = [self.value(item) for item in pattern.fixed]
        if pattern.tail is not None:
            inputs += [self.graph.add_input(Value(f"{pattern.tail.name}{i}")) for i in range(self.choose.randrange(3))]
        while inputs and inputs[-1] is None:
            inputs.pop()
        kind = Node(pattern.op_type, domain=pattern.domain)
        known = info(kind)
        if known is not None and known.commutative and pattern.tail is None:
            self.choose.shuffle(inputs)
        attrs = {}
        for name, wanted in pattern.attrs.items():
            found = _first(_ATTRIBUTES, wanted) if callable(wanted) else wanted
            if found is not None:
                attrs[name] = found
        made = Node(pattern.op_type, inputs, attrs, outputs=pattern.outputs, domain=pattern.domain)
        self.nodes[pattern] = self.graph.append(made)
        return made


def _first(candidates: Iterable[Any], accepts: Any) -> Any:
    """The first of ``candidates`` that ``accepts`` takes. Raises LookupError."""
    for candidate in candidates:
        try:
            if accepts(candidate):
                return candidate
        except (TypeError, ValueError, IndexError):  # it was asked about something of another kind
            continue
    raise LookupError("none of the usual constants and attributes is accepted")
