"""Patterns: the expression that a rule matches, written as the expression itself.

    lambda x: op.Mul(x, op.Sigmoid(x))

Parameter names are the bindings, and the same name twice is the same value. Calling :data:`op` builds nothing but
a description; :mod:`qcompiler.rewrite.matcher` reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.ir import Node

__all__ = ["AnyOf", "ConstantIs", "Maybe", "NodePattern", "Output", "Pattern", "Rest", "Skip", "Var", "any_of", "const",
           "may_match", "maybe", "op", "parse", "rest", "skip"]  # fmt: skip


_TAKEN = {"all_constant", "array", "bindings", "has", "no", "nodes", "outputs", "root"}  # by a match


@dataclass(frozen=True, eq=False)
class Pattern:
    """Anything that can stand where a value is expected."""


@dataclass(frozen=True, eq=False)
class Var(Pattern):
    """A binding: any value, and the same one wherever the name occurs."""

    name: str


@dataclass(frozen=True, eq=False)
class ConstantIs(Pattern):
    """A constant for which ``accepts`` is true, or which equals ``number`` throughout; bound to ``inner``."""

    inner: Var | None = None
    number: float | None = None
    accepts: Callable[[Any], bool] | None = None


@dataclass(frozen=True, eq=False)
class Maybe(Pattern):
    """An optional input: may be left out by the node, then the binding is None."""

    inner: Pattern


@dataclass(frozen=True, eq=False)
class Skip(Pattern):
    """An optional node of one input around ``inner``: matched with it or without it."""

    kinds: tuple[str, ...]
    inner: Pattern


@dataclass(frozen=True, eq=False)
class Rest(Pattern):
    """All remaining inputs, none included, bound as a tuple."""

    name: str


@dataclass(frozen=True, eq=False)
class AnyOf(Pattern):
    """The first alternative that leads to a match."""

    choices: tuple[Pattern, ...]


@dataclass(frozen=True, eq=False)
class NodePattern(Pattern):
    """A node of one operator type. As a value it stands for the node's first output; unpacked, for each output."""

    op_type: str
    domain: str
    inputs: tuple[Pattern, ...]
    attrs: dict[str, Any]
    label: str
    outputs: int = 1
    shared: bool = False
    first: Output = field(init=False, repr=False)
    fixed: tuple[Pattern, ...] = field(init=False, repr=False)
    tail: Rest | None = field(init=False, repr=False)
    narrowest_first: tuple[Pattern, ...] = field(init=False, repr=False)
    needs: tuple[frozenset[str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """``fixed`` are the inputs before the rest, ``tail`` the rest; the order is that of choosing inputs.

        ``needs``: wherever the pattern matches, each of these sets has the operator type of some input's maker.
        """
        tail = self.inputs[-1] if self.inputs and isinstance(self.inputs[-1], Rest) else None
        object.__setattr__(self, "first", Output(self, 0))
        object.__setattr__(self, "tail", tail)
        object.__setattr__(self, "fixed", self.inputs[:-1] if tail is not None else self.inputs)
        object.__setattr__(self, "narrowest_first", tuple(sorted(self.fixed, key=_breadth)))
        makers = (_makers(item) for item in self.fixed)
        object.__setattr__(self, "needs", tuple(dict.fromkeys(kinds for kinds in makers if kinds is not None)))

    def __iter__(self) -> Iterator[Output]:
        return (Output(self, index) for index in range(self.outputs))

    def __len__(self) -> int:
        return self.outputs


@dataclass(frozen=True, eq=False)
class Output(Pattern):
    """One output of a node pattern."""

    node: NodePattern
    index: int


class _Operators:
    """``op.Conv(...)`` describes a node of the standard domain, ``op("com.microsoft").Gelu(...)`` one of another.

    Keywords are predicates on attributes: a plain value must be equal (an absent attribute is not), a callable is
    asked with the value or None. Those with an underscore are about the node: ``_as`` names it in the match,
    ``_outputs`` says how many outputs it has, ``_shared`` allows its outputs to be used outside of the match.
    """

    def __init__(self, domain: str = "") -> None:
        self._domain = domain

    def __call__(self, domain: str) -> _Operators:
        return _Operators(domain)

    def __getattr__(self, op_type: str) -> Callable[..., NodePattern]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def describe(
            *inputs: Any, _as: str = "", _outputs: int = 1, _shared: bool = False, **attrs: Any
        ) -> NodePattern:
            return NodePattern(
                op_type, self._domain, tuple(_lift(item) for item in inputs), attrs, _as or op_type, _outputs, _shared
            )

        return describe


op: Any = _Operators()
"""Describes nodes in patterns; see :class:`_Operators`."""


def const(inner: Var | float | None = None, accepts: Callable[[Any], bool] | None = None) -> ConstantIs:
    """A constant: bound to a name, equal to a number in every element, as its element type can say it, or accepted
    by a function of its array, which has the constant's own element type and shape."""
    if inner is None or isinstance(inner, Var):
        return ConstantIs(inner, None, accepts)
    return ConstantIs(None, float(inner), accepts)


def maybe(inner: Any) -> Maybe:
    """An input that the node may leave out."""
    return Maybe(_lift(inner))


def skip(kinds: str | tuple[str, ...], inner: Any) -> Skip:
    """``inner``, or a node of one of these operator types whose first input is ``inner``."""
    return Skip((kinds,) if isinstance(kinds, str) else kinds, _lift(inner))


def rest(inner: Var) -> Rest:
    """All remaining inputs as one tuple; it stands last in its operator."""
    return Rest(inner.name)


def any_of(*choices: Any) -> AnyOf:
    """Alternatives, tried in order; names that only one of them has are left out where another matched."""
    return AnyOf(tuple(_lift(choice) for choice in choices))


def parse(expression: Callable[..., Any]) -> tuple[Pattern, ...]:
    """The patterns of the values that ``expression`` returns, its parameters bound by name.

    Raises UsageError when it returns anything but node patterns: a rule has to start at a node.
    """
    names = list(inspect.signature(expression).parameters)
    for name in names:
        if name in _TAKEN:
            raise UsageError(
                f"'{name}' cannot be a binding: a match has a method of that name", hint="call it otherwise"
            )
    made = expression(*(Var(name) for name in names))
    outputs = tuple(made) if isinstance(made, tuple) else (made,)
    lifted = tuple(_lift(item) for item in outputs)
    if any(isinstance(item, AnyOf) for item in lifted[1:]):
        raise UsageError("only the first output of a pattern may have alternatives", hint="write two rules")
    for item in lifted:
        for choice in item.choices if isinstance(item, AnyOf) else (item,):
            if not isinstance(choice, NodePattern | Output):
                raise UsageError("a pattern has to be an operator's output", hint="write it as op.Name(...)")
    return lifted


def may_match(needs: tuple[frozenset[str], ...], node: Node) -> bool:
    """False when a pattern of these ``needs`` surely does not match at ``node``. Cheap, and nearly always false."""
    for wanted in needs:
        for value in node.inputs:
            if value is not None and value.producer is not None and value.producer.op_type in wanted:
                break
        else:
            return False
    return True


def _makers(pattern: Pattern) -> frozenset[str] | None:
    """The operator types of which one makes what ``pattern`` matches; None when that is open."""
    if isinstance(pattern, NodePattern | Output):
        return frozenset([(pattern.node if isinstance(pattern, Output) else pattern).op_type])
    if isinstance(pattern, AnyOf):
        kinds = [_makers(choice) for choice in pattern.choices]
        return None if None in kinds else frozenset().union(*(found for found in kinds if found is not None))
    if isinstance(pattern, Skip):
        inner = _makers(pattern.inner)
        return None if inner is None else inner.union(pattern.kinds)
    return None


def _breadth(pattern: Pattern) -> int:
    """How much a pattern leaves open; the narrowest chooses its input first."""
    if isinstance(pattern, NodePattern | Output):
        return 0
    if isinstance(pattern, ConstantIs):
        return 1 if pattern.number is not None else 2
    return 4 if isinstance(pattern, Var) else 3


def _lift(item: Any) -> Pattern:
    if isinstance(item, Pattern):
        return item
    if item is None:
        return Maybe(ConstantIs(accepts=lambda _: False))  # matches nothing but a left-out input
    if isinstance(item, int | float):
        return ConstantIs(number=float(item))
    raise UsageError(f"{item!r} has no place in a pattern", hint="use parameters, numbers and op.Name(...)")
