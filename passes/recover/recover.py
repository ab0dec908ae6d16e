"""The model learns to answer as the source does, or as labels say, in the shape that the passes before gave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.ir import Model
from qcompiler.pipeline import Pass, PassContext
from qcompiler.training import Settings, has_torch, need_torch

__all__ = ["Recover"]


@dataclass(frozen=True)
class Recover(Settings, Pass):
    """Train the constants of the model against the source (knowledge distillation: Hinton et al., 2015).

    Options are those of :class:`qcompiler.training.Settings`. Shapes, zeros and assignments to clusters stay; scales of
    integers and centroids learn. Behind quantizing passes it trains the chosen model, integers included (LSQ: Esser et
    al., 2020). With ``optional`` it does nothing where torch is not installed, and says so.
    """

    optional: bool = False

    cost: ClassVar[str] = "Three runs of the model for each sample and epoch, and one of the source."
    lossless: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = True
    takes_integers: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        """How many constants changed. Raises UsageError without torch, TrainingError when the model does not run."""
        self.expression("exclude")
        if not has_torch() and self.optional:
            context.warn(f"{self.name} was left out, since torch is not installed: pip install 'qcompiler[recover]'")
            return 0
        need_torch()
        if context.data is None:
            context.warn(f"{self.name} did nothing, since it needs data to learn from; give --data")
            return 0
        from qcompiler.training.loop import train

        found = train(
            model, context.source, context.data, self, judge=context.held_out,
            seed=context.seed, folder=context.unfinished,
            progress=context.tell,
        )  # fmt: skip
        context.details["training"] = training_record(found)
        if "diverged" in found.reason or (not found.kept and found.history[1:]):
            why = (
                found.reason if "diverged" in found.reason else "no epoch was better on held-out samples than the start"
            )
            context.warn(f"{self.name}: {why}")
        return found.changed


def training_record(found: Any) -> dict[str, Any]:
    """``found``, a :class:`qcompiler.training.loop.Trained`, as the report has it."""
    return {
        "kept": found.kept,
        "reason": found.reason,
        "epochs": [epoch.record() for epoch in found.history],
        "learned": found.learned,
        "frozen": found.frozen,
        "elsewhere": found.elsewhere,
        "imitated": [f"{theirs} = {ours}" for theirs, ours in found.features],
    }
