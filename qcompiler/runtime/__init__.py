"""Running models."""

from qcompiler.runtime.executor import Executor
from qcompiler.runtime.latency import Timing, interleaved
from qcompiler.runtime.machine import gpu_name, no_card, processor
from qcompiler.runtime.program import KernelStep, Program, Runner, SessionStep
from qcompiler.runtime.session import Session

__all__ = [
    "Executor",
    "KernelStep",
    "Program",
    "Runner",
    "Session",
    "SessionStep",
    "Timing",
    "gpu_name",
    "interleaved",
    "no_card",
    "processor",
]
