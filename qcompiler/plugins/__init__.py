"""Adapters to other tools."""

from qcompiler.plugins.surgeon import surgeon_pass

__all__ = ["surgeon_pass"]
