"""Adapters to other tools."""

from qcompiler.plugins.surgeon import surgeon_pass
from qcompiler.plugins.triton_server import TritonServer

__all__ = ["TritonServer", "surgeon_pass"]
