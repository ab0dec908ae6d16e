"""The teacher, run by onnxruntime: its outputs and inner tensors for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.calibrate import with_outputs
from qcompiler.errors import LoweringError, UsageError
from qcompiler.ir import Model, TensorType, Value
from qcompiler.onnx_io import open_session
from qcompiler.training.batches import Batch

__all__ = ["Teacher", "check_alike"]


class Teacher:
    """``model`` with the inner tensors ``values``. Several samples are run at once where it takes them so."""

    def __init__(self, model: Model, values: Sequence[Value] = (), threads: int = 0) -> None:
        exposed, names = with_outputs(model, list(dict.fromkeys(values)))
        self.outputs = [value.name for value in model.graph.outputs]
        self.inner = [names[value] for value in values]
        self.session = open_session(exposed, threads=threads)
        self._one_by_one = False

    def answers(self, batch: Batch, *, at_once: bool) -> list[tuple[dict[str, Any], list[Any]]]:
        """(outputs by name, inner tensors) of the whole batch with ``at_once``, else of each sample."""
        if not at_once:
            return [self._parted(self.session.run(sample)) for sample in batch.samples]
        if not self._one_by_one:
            try:
                return [self._parted(self.session.run(batch.stacked()))]
            except (LoweringError, ValueError):  # a batch of a fixed size
                self._one_by_one = True
        found = [self.session.run(sample) for sample in batch.samples]
        joined = {name: np.concatenate([item[name] for item in found]) for name in (*self.outputs, *self.inner)}
        return [self._parted(joined)]

    def _parted(self, found: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        return {name: found[name] for name in self.outputs}, [found[name] for name in self.inner]


def check_alike(teacher: Model, student: Model) -> None:
    """Raises UsageError where the student takes or gives something else than the teacher."""
    for what, theirs, ours in (
        ("inputs", _fed(teacher), _fed(student)),
        ("outputs", list(teacher.graph.outputs), list(student.graph.outputs)),
    ):
        names, own = ({value.name: value for value in values} for values in (theirs, ours))
        if set(names) != set(own):
            raise UsageError(
                f"the student's {what} are {', '.join(own) or 'none'}, the teacher's {', '.join(names) or 'none'}",
                hint="give a student with the same interface",
            )
        for name, value in names.items():
            if not _fits(value, own[name]):
                raise UsageError(
                    f"'{name}' is {_said(own[name])} in the student and {_said(value)} in the teacher",
                    hint="give a student with the same interface",
                )


def _fed(model: Model) -> list[Value]:
    return [value for value in model.graph.inputs if value.const is None]


def _fits(one: Value, other: Value) -> bool:
    if one.dtype is not other.dtype and None not in (one.dtype, other.dtype):
        return False
    if one.shape is None or other.shape is None:
        return True
    if len(one.shape) != len(other.shape):
        return False
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one.shape, other.shape, strict=True)
    )


def _said(value: Value) -> str:
    kind = value.type
    if not isinstance(kind, TensorType) or kind.dtype is None:
        return "of an unknown type"
    sizes = "..." if kind.shape is None else ", ".join("?" if size is None else str(size) for size in kind.shape)
    return f"{kind.dtype.name.lower()}[{sizes}]"
