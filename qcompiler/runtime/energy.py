"""Joules an inference, where the machine counts them: RAPL for processors, NVML for NVIDIA's cards. Never an estimate.

Counters are those of whole packages and cards: what else runs there counts too, and so does doing nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcompiler.runtime.program import Runner

__all__ = ["POWERCAP", "Energy", "measured_energy"]

POWERCAP = Path("/sys/class/powercap")
"""Where Linux has RAPL's counters (Documentation/power/powercap/powercap.rst)."""

_BLOCKS = 3  # of each session, in turn, so that no one has the warmer machine


@dataclass(frozen=True)
class Energy:
    """``joules`` an inference of each session, by ``counter``; None, and why in ``reason``, where nobody counts."""

    joules: tuple[float, ...] | None
    counter: str
    reason: str = ""


@dataclass
class _Rapl:
    """The packages of the machine: microjoules since some time, which start anew at a limit."""

    zones: list[tuple[Path, int]]
    name: str = "RAPL, the whole processor"
    last: list[int] = field(default_factory=list)
    total: int = 0

    def close(self) -> None:
        """Files need none."""

    def joules(self) -> float:
        """Since the first call."""
        now = [int((zone / "energy_uj").read_text()) for zone, _ in self.zones]
        for value, before, (_, limit) in zip(now, self.last, self.zones, strict=False):
            self.total += value - before if value >= before else value - before + limit
        self.last = now
        return self.total / 1e6


@dataclass
class _Nvml:
    """NVIDIA's cards: millijoules since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption)."""

    library: Any
    cards: list[Any]
    name: str = "NVML, the whole card"

    def joules(self) -> float:
        """Since the driver was loaded. Raises OSError when a card does not tell."""
        try:
            return float(sum(self.library.nvmlDeviceGetTotalEnergyConsumption(card) for card in self.cards)) / 1e3
        except self.library.NVMLError as error:
            raise OSError(str(error)) from None

    def close(self) -> None:
        """The library is done with."""
        with contextlib.suppress(self.library.NVMLError):
            self.library.nvmlShutdown()


def measured_energy(
    sessions: Iterable[Runner],
    feeds: Sequence[Mapping[str, Any]],
    *,
    seconds: float = 3.0,
    powercap: Path = POWERCAP,
    on_card: bool = False,
) -> Energy:
    """Joules of a run of each of ``sessions`` on its ``feeds``, over about ``seconds`` in all, blocks in turn. Where
    nobody counts, no session is drawn.

    ``on_card`` asks NVML, else the processor's packages are asked. RAPL's counters move a thousand times a second, so
    that a block is long beside that.
    """
    meter, reason = _cards() if on_card else _packages(powercap)
    if meter is None:
        return Energy(None, "", reason)
    calls = [session.prepared(feed) for session, feed in zip(sessions, feeds, strict=True)]
    for call in calls:
        call()
    used, runs = [0.0] * len(calls), [0] * len(calls)
    block = seconds / (_BLOCKS * len(calls))
    try:
        for _ in range(_BLOCKS):
            for index, call in enumerate(calls):
                joules, count = _block(call, meter, block)
                used[index] += joules
                runs[index] += count
    except (OSError, ValueError) as error:
        return Energy(None, "", f"{meter.name} cannot be read: {error}")
    finally:
        meter.close()
    if not all(used):
        return Energy(None, "", f"{meter.name} did not move")
    return Energy(tuple(joules / count for joules, count in zip(used, runs, strict=True)), meter.name)


def _block(call: Callable[[], object], meter: _Rapl | _Nvml, seconds: float) -> tuple[float, int]:
    before, count, end = meter.joules(), 0, time.perf_counter() + seconds
    while not count or time.perf_counter() < end:
        call()
        count += 1
    return meter.joules() - before, count


def _packages(powercap: Path) -> tuple[_Rapl | None, str]:
    """A meter of all packages, or why there is none."""
    zones, refused = [], ""
    for zone in sorted(powercap.glob("*-rapl:*")):
        try:
            # Others are parts of a package (its cores, its memory), or the whole platform with the packages in it.
            if not (zone / "name").read_text().startswith("package"):
                continue
            int((zone / "energy_uj").read_text())
            zones.append((zone, int((zone / "max_energy_range_uj").read_text())))
        except (OSError, ValueError) as error:
            refused = getattr(error, "strerror", None) or str(error)
    if refused:
        return None, f"RAPL cannot be read: {refused} (it takes root, or `chmod a+r` of energy_uj)"
    return (_Rapl(zones), "") if zones else (None, "this machine shows no RAPL counters")


def _cards() -> tuple[_Nvml | None, str]:
    try:
        import pynvml
    except ImportError:
        return None, "NVML needs nvidia-ml-py (pip install 'qcompiler[energy]')"
    try:
        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for card in cards:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except pynvml.NVMLError as error:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        return None, f"NVML counts no energy here: {error}"
    return (_Nvml(pynvml, cards), "") if cards else (None, "there is no card of NVIDIA's")
