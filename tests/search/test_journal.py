"""A search that is killed goes on where it stopped, and leaves the best that it had found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcompiler.lower import INTEGER_OPS, OrtCpu
from qcompiler.lower import target as opening
from qcompiler.onnx_io import load, open_session
from qcompiler.passes.quantize import QuantizeDynamic, QuantizeStatic
from qcompiler.search import Journal, Limits, choose
from qcompiler.search.measuring import Bench
from tests.search.test_choose import by_output, offered

PASSES = [QuantizeStatic(ranges="minmax"), QuantizeDynamic()]


class Killed(BaseException):
    """Nothing that anybody catches."""


def search(folder: Path, stop_after: int | None = None, key: str = "k") -> tuple[Any, list[str]]:
    """The choice, and what was measured for it this time."""
    model, probes, forms, _ = offered(PASSES)
    measured: list[str] = []

    class Counting(OrtCpu):
        """Times are counted, not measured: two searches that agree do so on a busy machine too."""

        timed_here = False

        def estimated(self, model: Any) -> dict[str, float]:
            return {node.name: 1e-6 if node.op_type in INTEGER_OPS else 3e-6 for node in model.graph}

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
    with (tmp_path / "mine" / "journal.jsonl").open("a") as file:
        file.write('{"name": "whole 12')  # the kill came in the middle of a line
    opened = []
    original = opening.open_session
    try:
        opening.open_session = lambda *a, **k: opened.append(1) or original(*a, **k)  # type: ignore[func-returns-value]
        again, _ = search(tmp_path / "mine")
    finally:
        opening.open_session = original
    assert again.best is not None and whole.best is not None
    assert by_output(again.best.plan) == by_output(whole.best.plan)
    assert len(opened) <= 4  # the float model, and what the kill kept from being written
    assert len(all_of_it) > 6


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


@pytest.mark.parametrize("first", ['{"key": "b"}', "half a li", "[]"])
def test_a_journal_of_which_the_beginning_is_another_is_not_believed(tmp_path: Path, first: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "journal.jsonl").write_text(first + '\n{"name": "x", "value": 1}\n')
    assert Journal(tmp_path / "mine", "a").get("x") is None


def test_a_line_that_was_cut_off_swallows_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "mine", "a")
    journal.put("x", 1)
    with (tmp_path / "mine" / "journal.jsonl").open("ab") as file:
        file.write(b'{"name": "y", "val\xff')
    Journal(tmp_path / "mine", "a").put("z", 3)
    assert Journal(tmp_path / "mine", "a").records == {"x": 1, "z": 3}


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    journal = Journal(tmp_path / "mine", "a")
    journal.put("x", 1)
    journal.remove()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_times_do_not_depend_on_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    model, probes, forms, target = offered(PASSES)
    for node in model.graph:
        node.name = f"product of {node.output.name}"
    bench = Bench(model, target, probes, 1, Journal())
    groups = list(forms)
    assert bench.float_times(groups[:1]).keys() == {groups[0]}
    there = bench.float_times(groups)
    assert bench.float_times(groups[::-1]) == there
