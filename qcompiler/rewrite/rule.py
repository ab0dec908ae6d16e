"""A rule: a pattern and what comes instead. The rewriter is the only way in which it touches the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Node, Tensor, Value, spilled, tensor
from qcompiler.rewrite.matcher import Match, Refusal
from qcompiler.rewrite.pattern import AnyOf, Maybe, NodePattern, Output, Pattern, Skip, parse

__all__ = ["Rewriter", "Rule", "rule"]

Result = Value | tuple[Value, ...] | Refusal | None


class Rewriter:
    """Adds nodes in front of a match. Nothing that exists is changed before the rule has answered."""

    def __init__(self, anchor: Node) -> None:
        """New nodes are put before ``anchor``."""
        if anchor.graph is None:
            raise ValueError(f"{anchor!r} stands in no graph")
        self.graph: Graph = anchor.graph
        self.anchor = anchor
        self.created: list[Node] = []
        self.constants: list[Value] = []
        self.op: Any = _Maker(self, "")

    def node(self, op_type: str, *inputs: Any, domain: str = "", outputs: int = 1, name: str = "", **attrs: Any) -> Any:
        """Add a node before the one that is rewritten; its output, or a tuple where ``outputs`` is more than one.

        ``inputs`` are values, None for one left out, or arrays and numbers, which become constants: a Python float of
        the element type of the other inputs, an array of its own. ``attrs`` are numbers, texts, lists of them, arrays
        or graphs.
        """
        kinds = (item.dtype for item in inputs if isinstance(item, Value) and item.dtype is not None)
        like = next((kind for kind in kinds if kind.is_float), DType.FLOAT)
        made = Node(
            op_type, [self._value(item, like) for item in inputs], attrs, outputs=outputs, domain=domain, name=name
        )
        self.graph.insert_before(self.anchor, made)
        self.created.append(made)
        return made.output if outputs == 1 else made.outputs

    def constant(self, data: Any, name: str = "") -> Value:
        """Add a constant, an array or what ``numpy.asarray`` makes one of; its element type is the array's own."""
        held = data if isinstance(data, Tensor) else spilled(np.asarray(data))
        value = self.graph.add_constant(held, name or held.name)
        self.constants.append(value)
        return value

    def undo(self) -> None:
        """Remove everything that was added."""
        for node in reversed(self.created):
            for value in node.outputs:
                if value.uses:
                    raise ValueError(f"{value!r} is in use already")
            self.graph.remove(node)
        for value in self.constants:
            self.graph.remove_constant(value)
        self.created.clear()
        self.constants.clear()

    def _value(self, item: Any, like: DType) -> Value | None:
        """``item`` as an input. A Python float takes the element type of the node's other inputs."""
        if item is None or isinstance(item, Value):
            return item
        return self.constant(tensor(item, like) if isinstance(item, float) else item)


class _Maker:
    """``rw.op.Conv(x, w)`` adds a node; ``rw.op("com.microsoft").Gelu(x)`` one of another domain."""

    def __init__(self, rewriter: Rewriter, domain: str) -> None:
        self._rewriter = rewriter
        self._domain = domain

    def __call__(self, domain: str) -> _Maker:
        return _Maker(self._rewriter, domain)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        def make(*inputs: Any, _outputs: int = 1, _name: str = "", **attrs: Any) -> Any:
            return self._rewriter.node(op_type, *inputs, domain=self._domain, outputs=_outputs, name=_name, **attrs)

        return make


@dataclass(frozen=True, eq=False)
class Rule:
    """Stateless. ``rewrite(rw, m)`` returns what replaces the pattern's outputs, or ``m.no(reason)``."""

    name: str
    outputs: tuple[Pattern, ...]
    rewrite: Callable[[Rewriter, Match], Result]
    doc: str = ""

    def starts(self) -> dict[tuple[str, str], list[tuple[frozenset[str], ...]]]:
        """(domain, operator type) of the nodes at which the rule may start, with what each way of matching needs."""
        first = self.outputs[0]
        found: dict[tuple[str, str], list[tuple[frozenset[str], ...]]] = {}
        for choice in first.choices if isinstance(first, AnyOf) else (first,):
            node = _root(choice)
            found.setdefault((node.domain, node.op_type), []).append(node.needs)
        return {kind: list(dict.fromkeys(ways)) for kind, ways in found.items()}

    def required(self) -> frozenset[tuple[str, str]]:
        """Kinds of nodes without which the rule cannot match anywhere."""
        return frozenset().union(*map(_required, self.outputs))

    def shares(self) -> bool:
        """True when an inner value may have users outside of the match, any number of them."""
        stack: list[Any] = list(self.outputs)
        while stack:
            item = stack.pop()
            if isinstance(item, Output):
                item = item.node
            if isinstance(item, NodePattern):
                if item.shared:
                    return True
                stack.extend(item.inputs)
            elif isinstance(item, AnyOf):
                stack.extend(item.choices)
            elif isinstance(item, Maybe | Skip):
                stack.append(item.inner)
        return False

    def depth(self) -> int:
        """Longest path of nodes in the pattern."""
        deepest = 0
        stack: list[tuple[Pattern, int]] = [(item, 0) for item in self.outputs]
        while stack:
            item, level = stack.pop()
            if isinstance(item, Output):
                item = item.node
            if isinstance(item, NodePattern):
                level += 1
                deepest = max(deepest, level)
                stack.extend((inner, level) for inner in item.inputs)
            elif isinstance(item, AnyOf):
                stack.extend((inner, level) for inner in item.choices)
            elif isinstance(item, Maybe | Skip):
                level += isinstance(item, Skip)
                deepest = max(deepest, level)
                stack.append((item.inner, level))
        return deepest


def rule(pattern: Callable[..., Any]) -> Callable[[Callable[[Rewriter, Match], Result]], Rule]:
    """Decorator: ``@rule(lambda x: op.Mul(x, op.Sigmoid(x)))`` over ``def silu(rw, m)`` makes a :class:`Rule`.

    Parameters of the expression are the bindings; the same one twice is the same value, and inputs of commutative
    operators match in any order. The function returns the value that comes instead (a tuple for several outputs), or
    ``m.no(REASON)``. The rule is called as the function, with hyphens. Raises UsageError for an expression that is no
    operator's output, or that takes a name that matches have themselves.
    """
    outputs = parse(pattern)

    def decorate(function: Callable[[Rewriter, Match], Result]) -> Rule:
        return Rule(function.__name__.replace("_", "-"), outputs, function, (function.__doc__ or "").strip())

    return decorate


def _root(pattern: Pattern) -> NodePattern:
    node = pattern.node if isinstance(pattern, Output) else pattern
    if not isinstance(node, NodePattern):
        raise TypeError(f"{pattern!r} cannot be a root")
    return node


def _required(pattern: Pattern) -> frozenset[tuple[str, str]]:
    """Kinds of nodes that are in every graph in which ``pattern`` matches. Patterns are a few levels deep."""
    if isinstance(pattern, Output):
        pattern = pattern.node
    if isinstance(pattern, NodePattern):
        return frozenset([(pattern.domain, pattern.op_type)]).union(*map(_required, pattern.inputs))
    if isinstance(pattern, AnyOf):
        return frozenset.intersection(*map(_required, pattern.choices))
    return _required(pattern.inner) if isinstance(pattern, Skip) else frozenset()
