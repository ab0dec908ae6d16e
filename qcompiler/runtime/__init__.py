"""Running models."""

from qcompiler.runtime.latency import Timing, interleaved
from qcompiler.runtime.machine import processor
from qcompiler.runtime.session import Session

__all__ = ["Session", "Timing", "interleaved", "processor"]
