"""Compiled models on disk in few bytes: the container ``.qcz``. Its format is described in docs/format.md."""

from qcompiler.storage.codecs import need_libraries
from qcompiler.storage.packing import Packed, pack, unpack

__all__ = ["Packed", "need_libraries", "pack", "unpack"]
