"""Everything that can be left out or said in one operator instead of two, without computing a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler.passes.lossless.no_ops import NO_OPS
from qcompiler.passes.lossless.repairs import REPAIRS
from qcompiler.passes.lossless.slices import SLICES
from qcompiler.passes.lossless.transposes import TRANSPOSES
from qcompiler.passes.lossless.views import VIEWS
from qcompiler.pipeline import Pass

__all__ = ["Simplify"]


@dataclass(frozen=True)
class Simplify(Pass):
    """Drop operators that hand on what they were given, and merge chains of reshapes, of slices and of transposes.

    Cheap, and worth running again after a pass that makes constants or learns shapes.
    """

    rules = (*REPAIRS, *NO_OPS, *VIEWS, *SLICES, *TRANSPOSES)
    lossless: ClassVar[bool] = True
