"""Residual branches and attention heads that change the model's output least are taken out whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from qcompiler.data import Sample
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir import Model, Node, Value, clone_model
from qcompiler.onnx_io import open_session
from qcompiler.ops import total_macs
from qcompiler.passes.lossless.dead_code import RemoveDeadCode
from qcompiler.passes.output_error import expected_outputs, relative_error
from qcompiler.passes.prune.groups import ChannelGroup, channel_groups
from qcompiler.passes.prune.taking import take_out
from qcompiler.pipeline import Pass, PassContext

__all__ = ["PruneBlocks", "has_heads", "residual_branches"]

_SAMPLES = 16  # on which single pieces are judged


KINDS = ("branches", "heads")
"""What :class:`PruneBlocks` takes out."""


@dataclass(eq=False)
class Piece:
    """A residual branch, by the sum that it ends in and the place of the operand that stays, or a unit of a group."""

    name: str
    branch: tuple[Node, int] | None = None
    head: tuple[ChannelGroup, int] | None = None


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Remove residual branches, x + f(x) becomes x, and attention heads, where that does least to the outputs.

    ``macs`` is the share of the multiply-accumulates that remains, ``pieces`` that of the pieces that could go; what is
    asked for first ends it. ``kinds`` is what may go. Each piece is judged alone,
    by the error it leaves relative to the outputs for the products it saves; they go in this order (ShortGPT: Men et
    al., 2024, judges by the branch's own input and output instead; heads: Michel et al., 2019). ``exclude`` is a
    regular expression on the names of the Adds, and of groups of heads as ``inspect --groups`` prints them.
    ``removed`` names the pieces themselves, as the report does, whatever the other options would choose: a resolved
    recipe does.
    Only runs of the whole model show the effect of a piece at the outputs.
    """

    macs: float = 0.8
    pieces: float = 0.0
    kinds: tuple[str, ...] = KINDS
    exclude: str = ""
    removed: tuple[str, ...] | None = None

    cost: ClassVar[str] = "A copy, a loading and 16 runs of the model for each branch and head."
    lossless: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.macs <= 1.0:
            raise ValueError(f"macs is what remains, above 0 and at most 1, not {self.macs:g}")
        if not 0.0 <= self.pieces <= 1.0:
            raise ValueError(f"pieces is what remains, 0 to 1, not {self.pieces:g}")
        if not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds are of {', '.join(KINDS)}, not {', '.join(self.kinds)}")

    def run(self, model: Model, context: PassContext) -> int:
        """How many pieces went. Raises UsageError without data, and for an expression that is none."""
        pieces = self._pieces(model)
        whole = total_macs(model.graph)
        if self.removed is not None:
            return self._take(model, _named(pieces, self.removed), context)
        if self.macs >= 1.0 or not pieces or not whole:
            if self.macs < 1.0 and not pieces:
                context.warn(f"{self.name}: the model has nothing that could go")
            return 0
        if context.data is None:
            raise UsageError(f"pass '{self.name}' judges pieces on data", hint="give --data")
        step = -(-len(context.data) // _SAMPLES)
        samples = context.data.subset(range(0, len(context.data), step))
        expected = expected_outputs(open_session(model, threads=context.threads), samples)
        priced: list[tuple[float, int, Piece]] = []
        tell = context.counting("piece", len(pieces))
        for done, piece in enumerate(pieces):
            tell(done)
            copy = _without(model, [piece])
            saved = whole - total_macs(copy.graph)
            lost = _error(copy, expected, context.threads) if saved > 0 else math.inf
            if lost < math.inf:
                priced.append((lost / saved, len(priced), piece))
        gone: list[Piece] = []
        left, most = whole, round((1 - self.pieces) * len(pieces))
        for _, _, piece in sorted(priced, key=lambda item: item[:2]):
            if left <= self.macs * whole or len(gone) >= most:
                break
            if piece.head is not None and not _one_stays(gone, piece.head[0]):
                continue
            cost = total_macs(_without(model, [*gone, piece]).graph)
            if cost < left:  # it may stand in a branch that goes
                gone.append(piece)
                left = cost
        if left / whole > self.macs + 0.02 and not (self.pieces and len(gone) == most):
            context.warn(
                f"{self.name}: {left / whole:.2f} of the macs remain, not {self.macs:g}: there is nothing more to take"
            )
        return self._take(model, gone, context)

    def _take(self, model: Model, gone: Sequence[Piece], context: PassContext) -> int:
        context.details["removed"] = [piece.name for piece in gone]
        context.resolved["removed"] = tuple(piece.name for piece in gone)
        _take_out(model, gone)
        return len(gone)

    def _pieces(self, model: Model) -> list[Piece]:
        pattern = self.expression("exclude")
        found = []
        if "branches" in self.kinds:
            found += [Piece(f"the branch into {add.name or add.output.name}", branch=(add, place))
                      for add, place in residual_branches(model)
                      if pattern is None or not pattern.search(add.name)]  # fmt: skip
        if "heads" in self.kinds:
            found += [Piece(f"head {unit} of {group.name}", head=(group, unit))
                      for group in channel_groups(model).groups
                      if has_heads(group) and (pattern is None or not pattern.search(group.name))
                      for unit in range(group.size)]  # fmt: skip
        return found


def _named(pieces: Sequence[Piece], names: Sequence[str]) -> list[Piece]:
    """The pieces called ``names``. Raises UsageError for one that is not there, or that is the last head of a group."""
    known = {piece.name: piece for piece in pieces}
    found: list[Piece] = []
    for name in dict.fromkeys(names):
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "the report of an earlier compile names some"
            raise UsageError(f"the model has no piece '{name}' that could go", hint=hint)
        piece = known[name]
        if piece.head is not None and not _one_stays(found, piece.head[0]):
            raise UsageError(f"'{name}' is the last head of its group", hint="leave one head at least")
        found.append(piece)
    return found


def has_heads(group: ChannelGroup) -> bool:
    """True when the units of ``group`` are heads: attention runs over them one by one.

    In pieces that is a product of two computed values and a Softmax, both in front of the axes that they work on.
    """
    seen = set()
    for value, axis in group.places:
        for user in value.users():
            if user.is_op("Attention"):
                return True
            if value.rank is None or axis >= value.rank - 2:
                continue
            weight = user.input(1)
            if user.is_op("Softmax"):
                seen.add("softmax")
            elif user.is_op("MatMul") and weight is not None and weight.constant is None:
                seen.add("product")
    return len(seen) == 2


def _one_stays(gone: Sequence[Piece], group: ChannelGroup) -> bool:
    """True when one more unit of ``group`` may go."""
    return sum(1 for piece in gone if piece.head is not None and piece.head[0] is group) < group.size - 1


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


def _without(model: Model, pieces: Sequence[Piece]) -> Model:
    """A copy of ``model`` without ``pieces``."""
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    groups: dict[ChannelGroup, ChannelGroup] = {}
    own = []
    for piece in pieces:
        if piece.branch is not None:
            add, place = piece.branch
            twin = mapping[add.output].producer
            assert twin is not None
            own.append(Piece(piece.name, branch=(twin, place)))
        elif piece.head is not None:
            group, unit = piece.head
            twin_group = groups.setdefault(group, group.moved(mapping))
            own.append(Piece(piece.name, head=(twin_group, unit)))
    _take_out(copy, own)
    return copy


def _take_out(model: Model, pieces: Sequence[Piece]) -> None:
    """Heads first: their groups are of the whole model."""
    heads: dict[ChannelGroup, list[int]] = {}
    for piece in pieces:
        if piece.head is not None:
            heads.setdefault(piece.head[0], []).append(piece.head[1])
    take_out(model, heads)
    for piece in pieces:
        if piece.branch is not None and piece.branch[0].graph is not None:  # it may have stood in a branch that went
            add, place = piece.branch
            kept = add.inputs[place]
            assert kept is not None
            add.output.replace_uses(kept)
            RemoveDeadCode().run(model, PassContext())


def _error(model: Model, expected: Sequence[tuple[Sample, dict[str, Any]]], threads: int) -> float:
    """The relative error of the outputs; infinite where the model does not run."""
    try:
        return relative_error(open_session(model, threads=threads), expected)
    except QCompilerError:
        return math.inf
