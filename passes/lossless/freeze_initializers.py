"""Initializers that are listed among the model's inputs, which a caller may therefore override."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from qcompiler.ir import Model, Node, Value
from qcompiler.ops import info
from qcompiler.pipeline import Pass, PassContext
from qcompiler.rewrite import Rewrite, label

__all__ = ["FreezeInitializers"]

_MODES = ("auto", "always", "never")


@dataclass(frozen=True)
class FreezeInitializers(Pass):
    """Make constants of the initializers that are inputs too.

    Since IR version 4 an initializer that is listed among the inputs is a default that a caller may override, and no
    rule may compute with it. Exporters went on listing all of them out of habit. ``mode`` ``auto`` takes it for that
    habit when no initializer is left off the list, and keeps the list as an interface otherwise; ``always`` and
    ``never`` decide. Names that ``keep``, a regular expression, matches as a whole stay inputs.

    Exact for every caller who overrides nothing.
    """

    keep: str = ""
    mode: str = "auto"
    cost: ClassVar[str] = "Linear in the inputs."
    lossless: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(f"mode is one of {', '.join(_MODES)}, not '{self.mode}'")
        try:
            re.compile(self.keep)
        except re.error as error:
            raise ValueError(f"keep is no regular expression: {error}") from None

    def run(self, model: Model, context: PassContext) -> int:
        if self.mode == "never":
            return 0
        habit = self.mode == "always" or not any(map(_was_initializer, model.graph.constants))
        frozen = 0
        for value in model.graph.inputs:
            if value.const is None or (self.keep and re.fullmatch(self.keep, value.name)):
                continue
            # A change here has no node; this one stands for the initializer in permits and traces.
            stand_in = Node("Constant", name=value.name)
            if not habit:
                context.trace.missed(
                    self.name, stand_in, "others are no inputs, so it is one on purpose", 1, refused=True
                )
            elif context.permit(self.name, stand_in):
                model.graph.remove_input(value)
                context.trace.rewrites.append(Rewrite(self.name, (label(stand_in),), ()))
                frozen += 1
        if frozen:
            context.warn(
                f"{frozen} initializers were listed among the model's inputs and are constants now; "
                f"`--set {self.name}.mode=never` keeps them overridable"
            )
        return frozen


def _was_initializer(value: Value) -> bool:
    """True for a constant that was an initializer and no input, false for what a Constant node held.

    An initializer bears the name of its tensor, a Constant node's output seldom does. Where names say nothing, a
    constant that an operator takes as its weights speaks for itself.
    """
    if value.is_input or value.const is None:
        return False
    if value.name and value.const.name == value.name:
        return True
    for user, position in value.uses:
        found = info(user) if isinstance(user, Node) else None
        if found is not None and position in (found.weight, found.bias):
            return True
    return False
