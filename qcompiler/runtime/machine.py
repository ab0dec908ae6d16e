"""The machine that this runs on."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["gpu_name", "processor"]


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def gpu_name() -> str | None:
    """The first device's name and capability, as NVIDIA's driver tells them; None where there is none to ask."""
    from qcompiler.errors import LoweringError
    from qcompiler.runtime.driver import Driver

    try:
        driver = Driver()
    except LoweringError:
        return None
    return f"{driver.name} (sm_{driver.capability})"
