"""Residual branches that change the model's output least are taken out whole: fewer layers instead of narrower ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.data import Sample
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir import Model, Node, Value, clone_model
from qcompiler.onnx_io import open_session
from qcompiler.ops import macs
from qcompiler.passes.lossless.dead_code import RemoveDeadCode
from qcompiler.passes.output_error import expected_outputs, relative_error
from qcompiler.pipeline import Pass, PassContext

__all__ = ["PruneBlocks", "residual_branches"]

_SAMPLES = 16  # on which single branches are judged


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Remove residual branches: x + f(x) becomes x, where that does least to the outputs on the data.

    ``macs`` is the share of the multiply-accumulates that remains. Each branch is judged alone, by the error it leaves
    relative to the outputs for the products it saves; they go in this order (ShortGPT: Men et al., 2024, judges by the
    branch's own input and output instead). ``exclude`` is a regular expression on the names of the Adds.
    Time: a copy, a loading and 16 runs of the model for each branch, since only so its effect at the outputs is seen.
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
        pattern = self.expression("exclude")
        branches = [(add, place) for add, place in residual_branches(model)
                    if pattern is None or not pattern.search(add.name)]  # fmt: skip
        whole = _cost(model)
        if self.macs >= 1.0 or not branches or not whole:
            return 0
        if context.data is None:
            raise UsageError(f"pass '{self.name}' judges branches on data", hint="give --data")
        step = -(-len(context.data) // _SAMPLES)
        samples = context.data.subset(range(0, len(context.data), step))
        expected = expected_outputs(open_session(model, threads=context.threads), samples)
        priced: list[tuple[float, int, Node, int]] = []
        for done, (add, place) in enumerate(branches):
            context.progress(done + 1)
            mapping: dict[Value, Value] = {}
            copy = clone_model(model, mapping)
            twin = mapping[add.output].producer
            assert twin is not None
            _take_out(copy, twin, place)
            saved = whole - _cost(copy)
            lost = _error(copy, expected, context.threads) if saved > 0 else math.inf
            if lost < math.inf:
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


def _error(model: Model, expected: Sequence[tuple[Sample, dict[str, Any]]], threads: int) -> float:
    """The relative error of the outputs; infinite where the model does not run."""
    try:
        return relative_error(open_session(model, threads=threads), expected)
    except QCompilerError:
        return math.inf
