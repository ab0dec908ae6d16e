"""What a rule may rely on at compile time: sizes, lists of integers, and why something is no constant.

Operators took their lists (axes, pads, bounds) as attributes first and as inputs later. No rule looks at the operator
set's version: the form that the node has says which it is, so one rule serves all versions and graphs of functions too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import Node, Shape, Value

__all__ = [
    "broadcasts_into",
    "computed",
    "integers",
    "is_filled",
    "is_number",
    "listed",
    "normalized",
    "not_constant",
    "static_shape",
]

_FILLED = 1 << 16  # elements; nobody writes a larger constant of one number, and reading it would cost


def static_shape(value: Value) -> tuple[int, ...] | None:
    """The shape, when every size is a number."""
    shape = value.shape
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return shape  # type: ignore[return-value]


def integers(value: Value | None) -> tuple[int, ...] | None:
    """The elements of a constant of integers, in a row; None for anything else."""
    held = value.constant if value is not None else None
    if held is None or not held.dtype.is_integer:
        return None
    return tuple(int(item) for item in held.numpy().reshape(-1))


def listed(node: Node, name: str, position: int) -> tuple[int, ...] | None:
    """The integers that ``node`` takes as attribute ``name`` or as constant input ``position``; None when neither."""
    if name in node.attrs:
        return tuple(node.attr(name))
    return integers(node.input(position))


def computed(node: Node, *positions: int) -> bool:
    """True when some input at ``positions`` is there and is no constant."""
    return any(value is not None and value.constant is None for value in map(node.input, positions))


def normalized(axes: tuple[int, ...], rank: int | None) -> tuple[int, ...] | None:
    """``axes`` counted from the front, sorted; None when a negative one meets an unknown rank."""
    if rank is None:
        return tuple(sorted(axes)) if all(axis >= 0 for axis in axes) else None
    return tuple(sorted(axis % rank for axis in axes))


def broadcasts_into(small: Shape | None, large: Shape | None) -> bool:
    """True when an elementwise operator on both shapes surely gives ``large`` (numpy's rules)."""
    if small == ():
        return True
    if small is None or large is None or len(small) > len(large):
        return False
    pairs = zip(reversed(small), reversed(large), strict=False)
    return all(a == 1 or (isinstance(a, int) and a == b) for a, b in pairs)


def is_filled(number: float) -> Any:
    """A predicate on arrays for patterns: every element is ``number``, and there is one."""
    return lambda array: 0 < array.size <= _FILLED and bool(np.all(array == number))


def is_number(number: float) -> Any:
    """A predicate on arrays for patterns: there is one element, and it is ``number``."""
    return lambda array: array.size == 1 and bool(array.reshape(-1)[0] == number)


def not_constant(**values: Value | None) -> str:
    """Why the first of ``values`` that is no constant is none; empty when all are constants or left out."""
    for name, value in values.items():
        if value is None or value.constant is not None:
            continue
        if value.is_input and value.const is not None:
            return f"a caller may override the {name} {value!r}"
        return f"the {name} {value!r} is computed at run time"
    return ""
