"""Which compiled models no other beats: ties, what was not measured, identical outputs, metrics, several sources."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from qcompiler.report import compare_reports, render_comparison
from qcompiler.report.picture import Spot, spread, unbeaten

from .conftest import RICH
from .parsing import Page


def report(speedup: float | None, ratio: float, sqnr: float | None, **changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(RICH)
    made["latency"]["speedup"], made["size"]["ratio"] = speedup, ratio
    made["quality"]["outputs"] = {"y": {"sqnr_db": sqnr, "cosine": 1.0, "max_abs": 0.0 if sqnr is None else 0.1}}
    made["quality"]["metric"] = changes.get("metric")
    made["source"]["sha256"] = changes.get("source", "a" * 64)
    return made


def pareto(**reports: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {item.name: item.pareto for item in compare_reports(reports)}


def test_who_is_worse_in_both_is_beaten() -> None:
    found = pareto(float=report(1.0, 1.0, 90.0), int8=report(2.0, 4.0, 40.0), bad=report(1.9, 3.9, 39.0))
    assert found == {"float": ("speed", "size"), "int8": ("speed", "size"), "bad": ()}


def test_ties_stand_side_by_side_and_one_better_figure_beats() -> None:
    found = pareto(a=report(2.0, 4.0, 40.0), b=report(2.0, 4.0, 40.0), c=report(2.0, 3.0, 40.0))
    assert found == {"a": ("speed", "size"), "b": ("speed", "size"), "c": ("speed",)}


def test_identical_outputs_are_closest_whatever_others_measured() -> None:
    found = pareto(same=report(1.0, 1.0, None), near=report(1.0, 1.0, 129.4))
    assert found == {"same": ("speed", "size"), "near": ()}


def test_what_was_not_measured_neither_beats_nor_stands() -> None:
    found = pareto(untimed=report(None, 4.0, 90.0), timed=report(1.0, 2.0, 40.0))
    assert found == {"untimed": ("size",), "timed": ("speed",)}


def test_a_metric_decides_where_all_have_it() -> None:
    def scored(value: float) -> dict[str, Any]:
        return {"name": "top1", "source": 0.9, "compiled": value, "drop": 0.9 - value}

    good, bad = report(1.0, 1.0, 20.0, metric=scored(0.91)), report(1.0, 1.0, 60.0, metric=scored(0.80))
    assert pareto(good=good, bad=bad) == {"good": ("speed", "size"), "bad": ()}
    bad["quality"]["metric"] = None
    assert pareto(good=good, bad=bad) == {"good": (), "bad": ("speed", "size")}


def test_models_of_other_sources_do_not_beat_each_other() -> None:
    found = pareto(one=report(2.0, 4.0, 60.0), other=report(1.0, 1.0, 20.0, source="b" * 64))
    assert found == {"one": ("speed", "size"), "other": ("speed", "size")}
    page = Page(
        render_comparison(compare_reports({"one": report(2.0, 4.0, 60.0), "o": report(1, 1, 20.0, source="b")}))
    )
    assert "Not all were made from the same source" in page.text


def test_the_page_draws_the_best_and_keeps_names_text() -> None:
    reports = {"a<script>": report(1.0, 1.0, None), "b": report(2.0, 2.0, 40.0), "c": report(1.5, 1.5, 30.0)}
    html = render_comparison(compare_reports(reports))
    page = Page(html)
    assert "<script" not in html and "a<script>" in page.text
    assert html.count('class="beaten"') == 2
    assert "(identical)" in page.text
    alone = render_comparison(compare_reports({"b": report(2.0, 2.0, 40.0)}))
    assert "1 compiled model" in Page(alone).text and "<svg" not in alone


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([], []),
        ([(1.0, 1.0)], [True]),
        ([(1.0, 1.0), (1.0, 1.0)], [True, True]),
        ([(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)], [True, True, False]),
        ([(None, 9.0), (1.0, 1.0)], [False, True]),
    ],
)
def test_unbeaten(points: list[Any], best: list[bool]) -> None:
    assert unbeaten(points) == best


def test_points_lie_within_their_picture_and_labels_towards_its_middle() -> None:
    found = spread([Spot(1.0, 5.0, "left", True), Spot(3.0, 1.0, "right", True), Spot(3.0, 1.0, "too", False)])
    for dot in found["dots"]:
        assert 0 <= dot["x"] <= found["width"] and 0 <= dot["y"] <= found["height"]
    assert [dot["side"] for dot in found["dots"]] == ["start", "end", "end"]
    assert [dot["label"] for dot in found["dots"]] == ["left", "right, too", ""]
    assert len(found["line"].split()) == 2
