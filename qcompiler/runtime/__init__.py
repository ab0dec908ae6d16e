"""Running models."""

from qcompiler.runtime.energy import Energy, measured_energy
from qcompiler.runtime.executor import Executor
from qcompiler.runtime.latency import Timing, interleaved
from qcompiler.runtime.machine import gpu_name, no_card, processor
from qcompiler.runtime.program import KernelStep, Program, Runner, SessionStep
from qcompiler.runtime.session import Session

__all__ = [
    "Energy",
    "Executor",
    "KernelStep",
    "Program",
    "Runner",
    "Session",
    "SessionStep",
    "Timing",
    "gpu_name",
    "interleaved",
    "measured_energy",
    "no_card",
    "processor",
]
