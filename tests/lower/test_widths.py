"""Which widths are fast: read off times, measured once, kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcompiler.lower import widths
from qcompiler.lower.widths import fast_multiples, least_multiple


@pytest.mark.parametrize("block", [4, 8, 16, 32])
def test_what_is_padded_to_blocks_is_fast_in_blocks(block: int) -> None:
    times = {width: float(-(-width // block)) for width in range(32, 97, 4)}
    assert least_multiple(times) == block


def test_where_nothing_gains_the_widest_step_is_taken() -> None:
    assert least_multiple(dict.fromkeys(range(32, 97, 4), 1.0)) == 32


def test_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(widths, "_SECONDS", 0.1)
    found = fast_multiples()
    assert found.keys() == {"Conv", "MatMul"}
    assert set(found.values()) <= {4, 8, 16, 32}
    path = tmp_path / "qcompiler" / "widths.json"
    (key,) = json.loads(path.read_text())
    path.write_text(json.dumps({key: {"Conv": 32, "MatMul": 4}}))
    assert fast_multiples() == {"Conv": 32, "MatMul": 4}


@pytest.mark.parametrize("text", ["no json", "[]", '{"KEY": {"Conv": 5, "MatMul": 4}}', '{"KEY": 3}'])
def test_a_cache_that_makes_no_sense_is_measured_anew(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(widths, "_SECONDS", 0.1)
    path = tmp_path / "qcompiler" / "widths.json"
    fast_multiples()
    (key,) = json.loads(path.read_text())
    path.write_text(text.replace("KEY", key))
    assert set(fast_multiples().values()) <= {4, 8, 16, 32}
    assert json.loads(path.read_text()).keys() == {key}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qcompiler").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(widths, "_SECONDS", 0.1)
    assert fast_multiples().keys() == {"Conv", "MatMul"}
