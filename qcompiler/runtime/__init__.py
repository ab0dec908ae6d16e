"""Running models."""

from qcompiler.runtime.session import Session

__all__ = ["Session"]
