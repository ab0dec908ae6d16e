"""Training that brings back what lossy passes lost."""

from qcompiler.passes.recover.recover import Recover
from qcompiler.pipeline import Pass

__all__ = ["RECOVER", "Recover"]

RECOVER: tuple[type[Pass], ...] = (Recover,)
