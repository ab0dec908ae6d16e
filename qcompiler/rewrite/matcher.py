"""Does a pattern match at a node, and with which bindings?

Goals (pattern, value) stand in a linked list; where a choice is possible the untried ways go onto a stack with the
length of the trail, and a failure returns to the latest one. So there is no recursion, and an order of commutative
inputs is tried only when a look at the operator types leaves it open.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import Node, Tensor, Value
from qcompiler.ops import info
from qcompiler.rewrite.pattern import AnyOf, ConstantIs, Maybe, NodePattern, Output, Pattern, Rest, Skip, Var, may_match

__all__ = ["Match", "Refusal", "match"]

Goal = tuple[Any, Any]
Goals = tuple[Goal, Any] | None


_FREE = object()


class Refusal:
    """Why a rule says no."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Match:
    """Where a pattern matched. Attributes are bindings: ``m.x`` a value, ``m.Conv`` the node of that operator type.

    A left-out optional input is None; a rest is a tuple of values. Of several nodes of one type the attribute is the
    first. Raises AttributeError, with the names that there are, for any other.
    """

    def __init__(
        self, root: Node, bindings: dict[str, Any], nodes: dict[NodePattern, Node], skipped: list[Node]
    ) -> None:
        self.root = root
        self.bindings = bindings
        self.nodes = tuple(dict.fromkeys([*nodes.values(), *skipped]))
        self._by_pattern = nodes
        self._labels: dict[str, Node] = {}
        for pattern, node in nodes.items():
            self._labels.setdefault(pattern.label, node)

    def __getattr__(self, name: str) -> Any:
        if name in self.bindings:
            return self.bindings[name]
        found = self._labels.get(name)
        if found is None:
            raise AttributeError(f"the match has no '{name}'; it has {sorted([*self.bindings, *self._labels])}")
        return found

    def outputs(self, patterns: tuple[Pattern, ...]) -> tuple[Value, ...]:
        """The values that the outputs of the pattern stand for."""
        found = []
        for item in patterns:
            if isinstance(item, AnyOf):
                item = next(choice for choice in item.choices if _node_pattern(choice) in self._by_pattern)
            index = item.index if isinstance(item, Output) else 0
            found.append(self._by_pattern[_node_pattern(item)].outputs[index])
        return tuple(found)

    def no(self, reason: str) -> Refusal:
        """What a rewrite returns to refuse."""
        return Refusal(reason)

    def has(self, name: str) -> bool:
        """True when the binding or labelled node is there and not left out."""
        return self.bindings.get(name) is not None or name in self._labels

    def all_constant(self, *names: str) -> bool:
        """True when every named binding is a constant that no caller can override, or left out."""
        return all(self.bindings.get(name) is None or self.bindings[name].constant is not None for name in names)

    def array(self, name: str) -> Any:
        """The elements of a constant binding, of its own element type and shape, not to be written into; None when it
        is left out. Raises ValueError when it is no constant."""
        value: Value | None = self.bindings.get(name)
        if value is None:
            return None
        held = value.constant
        if held is None:
            raise ValueError(f"{value!r} is not a constant")
        return held.numpy()


class _State:
    __slots__ = ("bindings", "depth", "explain", "nodes", "reason", "skipped", "trail")

    def __init__(self, explain: bool) -> None:
        self.explain = explain
        self.bindings: dict[str, Any] = {}
        self.nodes: dict[NodePattern, Node] = {}
        self.skipped: list[Node] = []
        self.trail: list[Any] = []
        self.depth = 0
        self.reason = ""

    def undo(self, length: int) -> None:
        while len(self.trail) > length:
            kind, key = self.trail.pop()
            if kind == 0:
                del self.bindings[key]
            elif kind == 1:
                del self.nodes[key]
            else:
                self.skipped.pop()

    def missed(self, reason: str, *about: Any) -> None:
        if self.explain and len(self.nodes) >= self.depth:
            self.depth, self.reason = len(self.nodes), reason.format(*about)


def match(outputs: tuple[Pattern, ...], root: Node, explain: list[tuple[int, str]] | None = None) -> Match | None:
    """The first match of ``outputs`` with ``root`` giving the first of them, or None.

    ``explain`` receives (nodes matched, reason) of the attempt that came furthest.
    """
    state = _State(explain is not None)
    goals: Goals = None
    for pattern in reversed(outputs[1:]):
        goals = (("elsewhere", pattern), goals)
    goals = (("root", outputs[0]), goals)
    choices: list[tuple[Goals, int]] = []
    while True:
        if goals is None:
            outside = _used_outside(state, root, outputs)
            if outside is None:
                return Match(root, state.bindings, state.nodes, state.skipped)
            state.missed("{}", outside)
            following: Any = False
        else:
            (subject, pattern), rest = goals
            following = _step(subject, pattern, rest, root, state, choices)
        if following is not False:
            goals = following
            continue
        if not choices:
            if explain is not None and state.depth:
                explain.append((state.depth, state.reason))
            return None
        goals, length = choices.pop()
        state.undo(length)


def _step(subject: Any, pattern: Any, rest: Goals, root: Node, state: _State, choices: list[tuple[Goals, int]]) -> Any:
    """One goal: the goals that remain, or False when it fails."""
    if subject == "root":
        if isinstance(pattern, AnyOf):
            return _branch([(("root", choice), rest) for choice in pattern.choices], state, choices)
        node_pattern = pattern.node if isinstance(pattern, Output) else pattern
        return _node(node_pattern, root, rest, state)
    if subject == "assign":
        return _assign(pattern[0], pattern[1], rest, state, choices)
    if subject == "elsewhere":
        return _elsewhere(pattern, rest, state, choices)
    value: Value | None = subject
    if isinstance(pattern, Var):
        if value is None:
            state.missed("input {} is left out", pattern.name)
            return False
        return rest if _bind(pattern.name, value, state) else False
    if isinstance(pattern, NodePattern):
        pattern = pattern.first
    if isinstance(pattern, Output):
        node = value.producer if value is not None and value.index == pattern.index else None
        if node is None or node.graph is not root.graph:
            state.missed("{!r} is not computed by {} here", value, pattern.node.op_type)
            return False
        return _node(pattern.node, node, rest, state)
    if isinstance(pattern, ConstantIs):
        return rest if _constant(pattern, value, state) else False
    if isinstance(pattern, Maybe):
        if value is not None:
            return (value, pattern.inner), rest
        _absent(pattern.inner, state)
        return rest
    if isinstance(pattern, AnyOf):
        return _branch([((value, choice), rest) for choice in pattern.choices], state, choices)
    if isinstance(pattern, Skip):
        without = ((value, pattern.inner), rest)
        node = value.producer if value is not None and value.index == 0 else None
        if node is None or not node.is_op(*pattern.kinds) or node.graph is not root.graph:
            return without
        choices.append((without, len(state.trail)))
        state.skipped.append(node)
        state.trail.append((2, None))
        return (node.input(0), pattern.inner), rest
    raise TypeError(f"{pattern!r} is no pattern")


def _node(pattern: NodePattern, node: Node, rest: Goals, state: _State) -> Any:
    known = state.nodes.get(pattern)
    if known is not None:
        if known is node:
            return rest
        state.missed("{!r} should be {!r}", node, known)
        return False
    if node.op_type != pattern.op_type or node.domain != pattern.domain:
        state.missed("{!r} is not {}", node, pattern.op_type)
        return False
    if pattern.needs and not state.explain and not may_match(pattern.needs, node):
        return False
    for name, attr in node.attrs.items():
        if attr.ref:  # a rule that asks for the value would take it for left out
            state.missed("attribute {} of {!r} is whatever a call of the function says", name, node)
            return False
    for name, wanted in pattern.attrs.items():
        found = node.attr(name)
        if not (wanted(found) if callable(wanted) else _equal(found, wanted)):
            state.missed("attribute {} of {!r} is {}", name, node, found)
            return False
    if len(node.outputs) < pattern.outputs or (
        pattern.outputs > 1 and any(value.uses for value in node.outputs[pattern.outputs :])
    ):
        state.missed("{!r} has {} outputs", node, len(node.outputs))
        return False
    patterns, values, tail = pattern.fixed, node.inputs, pattern.tail
    if tail is not None:
        if len(values) < len(patterns) or not _bind(tail.name, tuple(values[len(patterns) :]), state):
            return False
        values = values[: len(patterns)]
    while len(values) > len(patterns) and values[-1] is None:
        values = values[:-1]
    if len(values) > len(patterns):
        state.missed("{!r} has {} inputs", node, len(values))
        return False
    state.nodes[pattern] = node
    state.trail.append((1, pattern))
    if len(patterns) > 1 and tail is None and len(values) == len(patterns):
        known_op = info(node)
        if known_op is not None and known_op.commutative:
            return ("assign", (pattern.narrowest_first, values)), rest
    goals, given = rest, len(values)
    for position in range(len(patterns) - 1, -1, -1):
        item, value = patterns[position], values[position] if position < given else None
        if item.__class__ is Var and value is not None:  # leaves nothing open, so it need not wait its turn
            if not _bind(item.name, value, state):
                return False
        else:
            goals = ((value, item), goals)
    return goals


def _assign(
    patterns: tuple[Pattern, ...], values: tuple[Value | None, ...], rest: Goals, state: _State, choices: Any
) -> Any:
    """Give the first pattern one of ``values``, the others share what is left."""
    head, others = patterns[0], patterns[1:]
    ways = []
    for i, value in enumerate(values):
        if any(value is earlier for earlier in values[:i]) or not _plausible(head, value, state):
            continue
        left = values[:i] + values[i + 1 :]
        after = (("assign", (others, left)), rest) if len(others) > 1 else ((left[0], others[0]), rest)
        ways.append(((value, head), after))
    if not ways:
        state.missed("no input of a commutative operator fits")
        return False
    return _branch(ways, state, choices)


def _elsewhere(pattern: Pattern, rest: Goals, state: _State, choices: Any) -> Any:
    """A further output of the pattern: an output of a matched node, or found through the users of a bound value."""
    node_pattern = pattern.node if isinstance(pattern, Output) else pattern
    if not isinstance(node_pattern, NodePattern):
        raise TypeError(f"{pattern!r} describes no node")
    if node_pattern in state.nodes:
        return rest
    for item in node_pattern.inputs:
        bound = state.bindings.get(item.name) if isinstance(item, Var) else None
        made = item.first if isinstance(item, NodePattern) else item
        if isinstance(made, Output) and made.node in state.nodes:
            bound = state.nodes[made.node].outputs[made.index]
        if not isinstance(bound, Value):
            continue
        taken = set(state.nodes.values())
        users = [user for user in bound.users() if user.op_type == node_pattern.op_type and user not in taken]
        ways = [((user.output, node_pattern.first), rest) for user in users if user.outputs]
        if ways:
            return _branch(ways, state, choices)
    state.missed("there is no further {}", node_pattern.op_type)
    return False


def _branch(ways: list[Any], state: _State, choices: list[tuple[Goals, int]]) -> Any:
    for way in reversed(ways[1:]):
        choices.append((way, len(state.trail)))
    return ways[0]


def _bind(name: str, value: Any, state: _State) -> bool:
    known = state.bindings.get(name, _FREE)
    if known is not _FREE:
        if known is value or (isinstance(value, tuple) and known == value):
            return True
        state.missed("{} would be both {!r} and {!r}", name, known, value)
        return False
    state.bindings[name] = value
    state.trail.append((0, name))
    return True


def _absent(pattern: Pattern, state: _State) -> None:
    """Bind every name below a left-out input to None."""
    stack = [pattern]
    while stack:
        item = stack.pop()
        if isinstance(item, Var):
            _bind(item.name, None, state)
        elif isinstance(item, Rest):
            _bind(item.name, (), state)
        elif isinstance(item, NodePattern):
            stack.extend(item.inputs)
        elif isinstance(item, AnyOf):
            stack.extend(item.choices)
        elif isinstance(item, Maybe | Skip | ConstantIs) and item.inner is not None:
            stack.append(item.inner)


def _constant(pattern: ConstantIs, value: Value | None, state: _State) -> bool:
    held = value.constant if value is not None else None
    if not isinstance(held, Tensor):
        state.missed("{!r} is not a constant", value)
        return False
    if pattern.number is not None and not _is_number(held, pattern.number):
        state.missed("{!r} is not {:g}", value, pattern.number)
        return False
    if pattern.accepts is not None and not pattern.accepts(held.numpy()):
        state.missed("{!r} does not hold what the pattern asks for", value)
        return False
    return pattern.inner is None or _bind(pattern.inner.name, value, state)


def _is_number(held: Tensor, number: float) -> bool:
    """True when every element is ``number`` as well as the element type can say it."""
    if held.size == 0 or not (held.dtype.is_float or held.dtype.is_integer):
        return False
    if held.size > 1 << 16:
        return False  # nobody writes a large constant of one number, and reading it would cost
    if held.dtype.is_integer and not number.is_integer():
        return False
    with np.errstate(all="ignore"):
        said = np.asarray(number).astype(held.dtype.numpy)
        close = abs(float(said) - number) <= 0.1 * abs(number)  # else the type cannot say it at all
    return close and bool(np.all(held.numpy() == said))


def _plausible(pattern: Pattern, value: Value | None, state: _State) -> bool:
    if isinstance(pattern, NodePattern | Output):
        wanted = pattern.node if isinstance(pattern, Output) else pattern
        node = value.producer if value is not None else None
        return node is not None and node.op_type == wanted.op_type and node.domain == wanted.domain
    if isinstance(pattern, Var):
        known = state.bindings.get(pattern.name, value)
        return known is value
    if isinstance(pattern, ConstantIs):
        return value is not None and value.constant is not None
    return True


def _used_outside(state: _State, root: Node, outputs: tuple[Pattern, ...]) -> str | None:
    """The first inner value that someone outside of the match takes, in words; None when there is none."""
    given = {root}
    for item in outputs[1:]:
        wanted = item.node if isinstance(item, Output) else item
        if isinstance(wanted, NodePattern):
            given.add(state.nodes[wanted])
    inside = {*state.nodes.values(), *state.skipped}
    shared = {node for pattern, node in state.nodes.items() if pattern.shared}
    for node in inside:
        if node in given or node in shared:
            continue
        for value in node.outputs:
            if value.output_uses:
                return f"{value!r} is an output of the graph"
            for user, _ in value.uses:
                if user not in inside:
                    return f"{value!r} is also used by {user!r}"
    return None


def _node_pattern(pattern: Pattern) -> NodePattern:
    node = pattern.node if isinstance(pattern, Output) else pattern
    if not isinstance(node, NodePattern):
        raise TypeError(f"{pattern!r} describes no node")
    return node


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, tuple) and isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(_equal(a, b) for a, b in zip(found, wanted, strict=True))
    if isinstance(wanted, float) and isinstance(found, int | float):
        return bool(abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted)))
    return bool(found == wanted)
