"""What has to be the same here and in a worker, or results would not be."""

from __future__ import annotations

import functools
import importlib
import platform
from collections.abc import Mapping
from pathlib import Path

from qcompiler.caching import sources_digest
from qcompiler.runtime import processor

__all__ = ["MACHINE", "about", "unlike"]

MACHINE = "machine"
"""The key of what may differ: then the last bits may, too."""

_MODULES = ("numpy", "onnx", "onnxruntime")


@functools.cache
def about() -> Mapping[str, str]:
    """Versions of what computes, a digest of our own code, and the processor."""
    found = {name: str(importlib.import_module(name).__version__) for name in _MODULES}
    found["qcompiler"] = sources_digest(Path(__file__).resolve().parents[1])[:12]
    return found | {MACHINE: processor() or platform.machine()}


def unlike(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """The first thing that has to be the same and is not, in words; empty where all is."""
    wrong = next((name for name in ours if name != MACHINE and theirs.get(name) != ours[name]), None)
    if wrong is None:
        return ""
    what = "of another state" if wrong == "qcompiler" else f"{theirs.get(wrong)}, and {ours[wrong]} is here"
    return f"{wrong} {what}"
