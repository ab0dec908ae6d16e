"""What the target would fuse by itself, counted before and after each pass: a rewrite may hide a pattern from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from qcompiler.ir import Model
from qcompiler.pipeline.base import PassContext
from qcompiler.pipeline.record import PassRecord

__all__ = ["FusionWatch"]


class FusionWatch:
    """Follows one model through passes. Counts nothing where the context does not ask for it or the target cannot."""

    def __init__(self, model: Model, context: PassContext) -> None:
        """``model`` as it is before the first pass."""
        self.context = context
        self.warnings: list[str] = []
        self.given, self.made = _given(model), self._made(model)

    def note(self, record: PassRecord, model: Model) -> None:
        """Write into ``record`` how many nodes the target makes of the model before and after the pass, and of how
        many fusions; ``warnings`` tell when the pass costs fusions and the target ends up with more to run."""
        if self.made is None:
            return
        given, made = _given(model), self._made(model)
        if made is None:
            return
        lost = self._lost(given, made)
        record.target_nodes_before, record.target_nodes_after = self.made.total(), made.total()
        record.fusions_before, record.fusions_after = _fusions(self.given, self.made), _fusions(given, made)
        if lost and made.total() > self.made.total():
            kinds = ", ".join(f"{kind} {count}" for kind, count in lost.items())
            self.warnings.append(
                f"pass '{record.name}' costs fusions of the target: it makes {made.total()} nodes of the model, "
                f"{self.made.total()} before; fewer are {kinds}"
            )
        self.given, self.made = given, made

    def _made(self, model: Model) -> Counter[str] | None:
        find = getattr(self.context.target, "optimized_kinds", None)
        found: Mapping[str, int] | None = find(model) if self.context.watch_fusions and find is not None else None
        return None if found is None else Counter(found)

    def _lost(self, given: Counter[str], made: Counter[str]) -> Counter[str]:
        """Kinds of which the target fuses fewer than before, without those that are slower fused."""
        if self.made is None:
            return Counter()
        slow: frozenset[str] = getattr(self.context.target, "slow_fusions", frozenset())
        lost = (self.made - self.given) - (made - given)
        return Counter(
            {kind: count for kind, count in lost.items() if kind not in slow and made[kind] < self.made[kind]}
        )


def _given(model: Model) -> Counter[str]:
    return Counter(node.op_type for node in model.nodes())


def _fusions(given: Counter[str], made: Counter[str]) -> int:
    """Nodes of the target that are in no model: each is a fusion that it makes when it loads the model."""
    return (made - given).total()
