"""Which inner tensors of a student imitate which of the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches

from qcompiler.errors import UsageError
from qcompiler.ir import Model, Value

__all__ = ["match_features"]

_AUTO = "auto"
_MOST = 8  # pairs by ``auto``
_LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sum", "Concat", "LayerNormalization", "Relu", "LSTM")


def match_features(teacher: Model, student: Model, wanted: Sequence[str]) -> list[tuple[Value, Value]]:
    """Pairs (teacher's value, student's value) for ``wanted``: names, ``TEACHER=STUDENT``, or ``auto``.

    ``auto`` pairs layers' outputs of equal shape, by name where both models know it, else in the order in which they
    stand. Raises UsageError for a name that one of the two does not have.
    """
    found: list[tuple[Value, Value]] = []
    for entry in wanted:
        if entry == _AUTO:
            found += _by_themselves(teacher, student)
            continue
        name, equals, other = entry.partition("=")
        found.append((_named(teacher, name, "teacher"), _named(student, other if equals else name, "student")))
    return list(dict.fromkeys(found))


def _values(model: Model) -> list[Value]:
    """Inner tensors of real numbers."""
    inner = [value for node in model.graph for value in node.outputs if value.name]
    return [value for value in inner if value.dtype is None or value.dtype.is_float]


def _named(model: Model, name: str, whose: str) -> Value:
    known = {value.name: value for value in _values(model)}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "`qcompiler diff` lists inner tensors"
        raise UsageError(f"the {whose} has no inner tensor '{name}'", hint=hint)
    return known[name]


def _by_themselves(teacher: Model, student: Model) -> list[tuple[Value, Value]]:
    theirs, ours = (
        [value for value in _values(model)
         if value.producer is not None and value.producer.is_op(*_LAYERS) and value.shape and not value.is_output]
        for model in (teacher, student)
    )  # fmt: skip
    by_name = {value.name: value for value in theirs}
    pairs = [
        (by_name[value.name], value) for value in ours
        if value.name in by_name and _alike(by_name[value.name], value)
    ]  # fmt: skip
    if not pairs:
        matcher = SequenceMatcher(None, [_key(value) for value in theirs], [_key(value) for value in ours], False)
        pairs = [
            (theirs[block.a + place], ours[block.b + place])
            for block in matcher.get_matching_blocks()
            for place in range(block.size)
        ]
    if len(pairs) <= _MOST:
        return pairs
    # Deep ones say most of what is left to say; the rest is spread over the depth.
    return [pairs[round((place + 1) * len(pairs) / _MOST) - 1] for place in range(_MOST)]


def _alike(one: Value, other: Value) -> bool:
    return one.shape is not None and other.shape is not None and _key(one) == _key(other)


def _key(value: Value) -> str:
    """Rank and known sizes; symbols count as one and the same."""
    return " ".join(str(size) if isinstance(size, int) else "?" for size in value.shape or ())
