"""Joules by the counters that Linux shows as files: packages only, around their limit, and why there are none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from qcompiler.runtime import measured_energy

LIMIT = 262_143_328_850


class Burner:
    """Takes a known energy for each run, from two packages."""

    threads = 1

    def __init__(self, zones: list[Path], microjoules: int) -> None:
        self.zones, self.microjoules = zones, microjoules

    def run(self, feeds: Mapping[str, Any], outputs: Any = None) -> dict[str, Any]:
        for zone in self.zones:
            file = zone / "energy_uj"
            file.write_text(str((int(file.read_text()) + self.microjoules) % LIMIT))
        return {}

    def prepared(self, feeds: Mapping[str, Any]) -> Callable[[], object]:
        return lambda: self.run(feeds)


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zones = {
        "intel-rapl:0": ("package-0", 5), "intel-rapl:1": ("package-1", LIMIT - 50), "intel-rapl:0:0": ("core", 7),
        "intel-rapl:2": ("psys", 9),
    }  # fmt: skip
    for name, (kind, start) in zones.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{kind}\n")
        (tmp_path / name / "energy_uj").write_text(f"{start}\n")
        (tmp_path / name / "max_energy_range_uj").write_text(f"{LIMIT}\n")
    (tmp_path / "intel-rapl").mkdir()
    return tmp_path


def burners(powercap: Path, *microjoules: int) -> list[Any]:
    zones = [powercap / "intel-rapl:0", powercap / "intel-rapl:1"]
    return [Burner(zones, each) for each in microjoules]


def test_joules_of_each_are_told_apart_and_a_counter_may_start_anew(powercap: Path) -> None:
    found = measured_energy(burners(powercap, 3000, 1000), [{}, {}], seconds=0.3, powercap=powercap)
    assert found.counter == "RAPL, the whole processor"
    assert found.joules == pytest.approx((2 * 3000e-6, 2 * 1000e-6))


def test_without_counters_nothing_is_made_up(tmp_path: Path) -> None:
    found = measured_energy(burners(tmp_path, 1), [{}], powercap=tmp_path)
    assert (found.joules, found.reason) == (None, "this machine shows no RAPL counters")


def test_a_counter_that_does_not_move_counts_nothing(powercap: Path) -> None:
    found = measured_energy(burners(powercap, 0), [{}], seconds=0.1, powercap=powercap)
    assert (found.joules, found.reason) == (None, "RAPL, the whole processor did not move")


def test_a_counter_that_cannot_be_read_says_what_it_takes(powercap: Path) -> None:
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    found = measured_energy(burners(powercap, 0), [{}], seconds=0.1, powercap=powercap)
    assert found.joules is None
    assert "RAPL cannot be read: No such file or directory" in found.reason


class Nvml:
    """NVIDIA's library, as pynvml shows it."""

    class NVMLError(Exception):
        pass

    def __init__(self, cards: int, fails: bool = False) -> None:
        self.cards, self.fails, self.open, self.millijoules = cards, fails, False, 1000

    def nvmlInit(self) -> None:
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:
        if self.fails:
            raise self.NVMLError("not supported")
        return self.millijoules


@pytest.mark.parametrize(
    ("cards", "fails", "reason"), [(0, False, "there is no card"), (1, True, "NVML counts no energy")]
)
def test_no_card_that_counts_is_no_energy(
    monkeypatch: pytest.MonkeyPatch, powercap: Path, cards: int, fails: bool, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(cards, fails))  # type: ignore[arg-type]
    found = measured_energy(burners(powercap, 1), [{}], powercap=powercap, on_card=True)
    assert found.joules is None
    assert reason in found.reason


def test_the_energy_of_a_card(monkeypatch: pytest.MonkeyPatch, powercap: Path) -> None:
    library = Nvml(1)
    monkeypatch.setitem(sys.modules, "pynvml", library)  # type: ignore[arg-type]
    (burner,) = burners(powercap, 1)

    def run(feeds: Any) -> None:
        library.millijoules += 25

    burner.run = run
    found = measured_energy([burner], [{}], seconds=0.1, on_card=True)
    assert found.joules == pytest.approx((0.025,))
    assert found.counter == "NVML, the whole card"
    assert not library.open


def test_without_its_library_a_card_is_not_asked(monkeypatch: pytest.MonkeyPatch, powercap: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = measured_energy(burners(powercap, 1), [{}], on_card=True)
    assert "pip install 'qcompiler[energy]'" in found.reason
