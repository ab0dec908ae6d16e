"""The machine that this runs on."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import onnxruntime

from qcompiler.errors import LoweringError
from qcompiler.runtime.driver import Driver, missing_driver

__all__ = ["gpu_name", "no_card", "processor"]


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@functools.cache
def no_card() -> str:
    """Why this machine cannot run programs on a card; empty where it can."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this onnxruntime has no CUDA provider (pip install onnxruntime-gpu)"
    return missing_driver()


@functools.cache
def gpu_name() -> str | None:
    """The first device's name and capability, as NVIDIA's driver tells them; None where there is none to ask."""
    try:
        driver = Driver()
    except LoweringError:
        return None
    return f"{driver.name} (sm_{driver.capability})"
