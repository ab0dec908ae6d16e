"""A search that is killed goes on where it stopped, and leaves the best that it had found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import load, open_session
from qcompiler.passes.quantize import QuantizeDynamic, QuantizeStatic
from qcompiler.search import Journal, Limits, choose, measuring
from tests.search.test_choose import by_output, offered

PASSES = [QuantizeStatic(ranges="minmax"), QuantizeDynamic()]


class Killed(BaseException):
    """Nothing that anybody catches."""


def search(folder: Path, stop_after: int | None = None, key: str = "k") -> tuple[Any, list[str]]:
    """The choice, and what was measured for it this time."""
    model, probes, forms, _ = offered(PASSES)
    measured: list[str] = []

    class Counting(OrtCpu):
        def lower(self, *arguments: Any) -> Any:
            if stop_after is not None and len(measured) >= stop_after:
                raise Killed
            measured.append("one")
            return super().lower(*arguments)

    return choose(model, forms, Counting(), probes, Limits(25.0, 1e-6), journal=Journal(folder, key)), measured


def test_what_was_measured_before_a_kill_is_not_measured_again(tmp_path: Path) -> None:
    whole, all_of_it = search(tmp_path / "other")
    with pytest.raises(Killed):
        search(tmp_path / "mine", stop_after=len(all_of_it) - 2)
    records = (tmp_path / "mine" / "journal.jsonl").read_text().splitlines()
    with (tmp_path / "mine" / "journal.jsonl").open("a") as file:
        file.write('{"name": "whole 12')  # the kill came in the middle of a line
    opened = []
    original = measuring.open_session
    try:
        measuring.open_session = lambda *a, **k: opened.append(1) or original(*a, **k)  # type: ignore[func-returns-value]
        again, _ = search(tmp_path / "mine")
    finally:
        measuring.open_session = original
    assert again.best is not None and whole.best is not None
    assert by_output(again.best.plan) == by_output(whole.best.plan)
    assert len(records) > 3
    assert len(opened) < len(all_of_it)


def test_the_best_so_far_is_on_disk_and_runs(tmp_path: Path) -> None:
    choice, _ = search(tmp_path / "mine")
    assert choice.best is not None
    about = json.loads((tmp_path / "mine" / "best" / "about.json").read_text())
    assert about["sqnr_db"] >= 25.0
    model, probes, _, _ = offered(PASSES)
    session = open_session(load(tmp_path / "mine" / "best" / "model.onnx"))
    assert session.run(probes.sample(0)).keys() == {value.name for value in model.graph.outputs}


def test_records_of_something_else_are_thrown_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "mine", "a")
    journal.put("x", [1, "y"])
    assert Journal(tmp_path / "mine", "a").get("x") == [1, "y"]
    assert Journal(tmp_path / "mine", "b").get("x") is None
    assert not (tmp_path / "mine").exists()


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal()
    journal.put("x", 1)
    assert journal.get("x") == 1
    journal.remove()
    assert not list(tmp_path.iterdir())
