"""Residual branches that change the model's output least are taken out whole: fewer layers instead of narrower ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.data import Dataset, Sample
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir import Model, Node, Value, clone_model
from qcompiler.onnx_io import open_session
from qcompiler.ops import macs
from qcompiler.passes.lossless.dead_code import RemoveDeadCode
from qcompiler.pipeline import Pass, PassContext
from qcompiler.runtime import Session

__all__ = ["PruneBlocks", "residual_branches"]

_SAMPLES = 16  # on which single branches are judged


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Remove residual branches: x + f(x) becomes x, where that does least to the outputs on the data.

    ``macs`` is the share of the multiply-accumulates that remains. Each branch is judged alone, by the error it leaves
    relative to the outputs for the products it saves; they go in this order (ShortGPT: Men et al., 2024, judges by the
    branch's own input and output instead). ``exclude`` is a regular expression on the names of the Adds.
    """

    macs: float = 0.8
    exclude: str = ""

    lossless: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.macs <= 1.0:
            raise ValueError(f"macs is what remains, above 0 and at most 1, not {self.macs:g}")

    def run(self, model: Model, context: PassContext) -> int:
        """How many branches went. Raises UsageError without data, and for an expression that is none."""
        try:
            pattern = re.compile(self.exclude) if self.exclude else None
        except re.error as error:
            raise UsageError(f"{self.name}.exclude is no regular expression: {error}") from None
        branches = [(add, place) for add, place in residual_branches(model)
                    if pattern is None or not pattern.search(add.name)]  # fmt: skip
        whole = _cost(model)
        if self.macs >= 1.0 or not branches or not whole:
            return 0
        if context.data is None:
            raise UsageError(f"pass '{self.name}' judges branches on data", hint="give --data")
        step = -(-len(context.data) // _SAMPLES)
        samples = context.data.subset(range(0, len(context.data), step))
        source = open_session(model, threads=context.threads)
        expected = [source.run(sample) for sample in samples]
        priced: list[tuple[float, int, Node, int]] = []
        for done, (add, place) in enumerate(branches):
            context.progress(done + 1)
            mapping: dict[Value, Value] = {}
            copy = clone_model(model, mapping)
            twin = mapping[add.output].producer
            assert twin is not None
            _take_out(copy, twin, place)
            saved = whole - _cost(copy)
            lost = _error(copy, samples, expected, context.threads) if saved > 0 else None
            if lost is not None:
                priced.append((lost / saved, len(priced), add, place))
        gone = 0
        for _, _, add, place in sorted(priced, key=lambda item: item[:2]):
            if _cost(model) <= self.macs * whole:
                break
            if add.graph is not None:  # it may have stood in a branch that went
                _take_out(model, add, place)
                gone += 1
        left = _cost(model) / whole
        if left > self.macs + 0.02:
            context.warn(f"{self.name}: {left:.2f} of the macs remain, not {self.macs:g}: there are no more branches")
        return gone


def residual_branches(model: Model) -> list[tuple[Node, int]]:
    """Adds of the main graph in which one operand stands for what goes on and the other for a branch off it.

    Given with the place of the operand that stays: the other is computed from it, or from what it is computed from, and
    nobody else reads it. Shapes have to be known and equal to the sum's.
    """
    found = []
    for add in model.graph:
        if not add.is_op("Add", "Sum") or len(add.inputs) != 2 or add.output.is_output:
            continue
        for place in (0, 1):
            kept, branch = add.inputs[place], add.inputs[1 - place]
            if kept is None or branch is None or kept is branch or branch.producer is None or kept.const is not None:
                continue
            same = kept.shape is not None and kept.shape == add.output.shape == branch.shape
            if same and None not in (kept.shape or ()) and len(branch.uses) == 1 and _leads_to(kept, branch):
                found.append((add, place))
    return found


def _leads_to(value: Value, later: Value) -> bool:
    """True when ``later`` is computed from ``value``; what stands before ``value`` is not walked."""
    first = value.producer
    waiting, seen = [later], {later}
    while waiting:
        current = waiting.pop()
        if current is value:
            return True
        producer = current.producer
        if producer is None or (first is not None and producer.graph is first.graph and producer.before(first)):
            continue
        for read in producer.inputs:
            if read is not None and read not in seen:
                seen.add(read)
                waiting.append(read)
    return False


def _take_out(model: Model, add: Node, place: int) -> None:
    kept = add.inputs[place]
    assert kept is not None
    add.output.replace_uses(kept)
    RemoveDeadCode().run(model, PassContext())


def _cost(model: Model) -> int:
    return sum(macs(node) for node in model.graph)


def _error(model: Model, samples: Dataset, expected: list[Sample], threads: int) -> float | None:
    """Squared error over squared size, summed over float outputs; None where the model does not run."""
    try:
        session: Session = open_session(model, threads=threads)
        found: list[dict[str, Any]] = [session.run(sample) for sample in samples]
    except QCompilerError:
        return None
    total = 0.0
    for name in expected[0]:
        if not isinstance(expected[0][name], np.ndarray) or expected[0][name].dtype.kind != "f":
            continue
        pairs = [(a[name].astype(np.float64), b[name].astype(np.float64))
                 for a, b in zip(expected, found, strict=True)]  # fmt: skip
        power = sum(float(np.square(a).sum()) for a, _ in pairs)
        total += sum(float(np.square(a - b).sum()) for a, b in pairs) / (power or 1.0)
    return total if np.isfinite(total) else None
