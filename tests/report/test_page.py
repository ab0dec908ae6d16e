"""The page is drawn from the report alone, is whole in itself, and shows every number of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from qcompiler.report import render_html, units
from qcompiler.report.view import MOST_BARS, MOST_ROWS, SECTIONS

from .parsing import Page

HOSTILE = "</style></title></table><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}{% raw %}&lt;"
HOSTILE += "\x00\ud800\u202e"


def three(value: float | None) -> str:
    return units.number(value, 3)


def cosine(value: float | None) -> str:
    return units.NOT_MEASURED if value is None else f"{value:.6f}"


def as_option(value: float) -> str:
    return f"{value:g}"


# How each number of a report is shown, by the end of its path.
SHOWN: dict[str, Callable[[Any], str]] = {
    "schema": units.count,
    "seed": str,
    "environment.threads": str,
    "bytes": units.count,
    "nodes": units.count,
    "parameters": units.count,
    "macs": units.count,
    "ops.*": units.count,
    "options.*": as_option,
    "seconds": units.seconds,
    "changed": units.count,
    "nodes_before": units.count,
    "nodes_after": units.count,
    "rewrites.*": units.count,
    "target_nodes_before": units.count,
    "target_nodes_after": units.count,
    "fusions_before": units.count,
    "fusions_after": units.count,
    "sqnr_db": units.decibels,
    "samples": units.count,
    "cosine": cosine,
    "max_abs": three,
    "agreement": units.share,
    "metric.source": units.number,
    "metric.compiled": units.number,
    "drop": units.number,
    "estimate.source_us": units.number,
    "estimate.compiled_us": units.number,
    "engines.bytes": units.size,
    "engines.layers": units.count,
    "engines.products": units.count,
    "engines.int8": units.count,
    "engines.reformats": units.count,
    "profile.x": units.count,
    "kernels.built": units.count,
    "kernels.bytes": units.size,
    "source_j": units.joules,
    "compiled_j": units.joules,
    "source.Conv": units.microseconds,
    "source.Relu": units.microseconds,
    "compiled.QLinearConv": units.microseconds,
    "compiled.Relu": units.microseconds,
    "elements": units.count,
    "scales": units.count,
    "stored_low": units.number,
    "stored_high": units.number,
    "source_ms": units.milliseconds,
    "compiled_ms": units.milliseconds,
    "speedup": units.ratio,
    "units": units.count,
    "weights": units.count,
    "levels": units.count,
    "bits": units.count,
    "entropy": units.number,
    "zeros": units.share,
    "bytes.float": units.count,
    "bytes.clustered": units.count,
    "bytes.coded": units.count,
    "packed_bytes": units.count,
    "packed_ratio": units.ratio,
    "kept": units.count,
    "epoch": units.count,
    "epochs.loss": units.number,
    "held_out": units.number,
    "right": units.share,
    "epochs.seconds": units.number,
    "learned.weight": units.count,
    "learned.scale": units.count,
    "before.sqnr_db": units.decibels,
    "before.metric": units.number,
    "remaining": units.share,
    "latency.threads": lambda value: f"{value} threads",
    "runs": lambda value: f"{value} runs",
    "batch": lambda value: f"batch {value}",
    "source_bytes": units.size,
    "compiled_bytes": units.size,
    "ratio": units.ratio,
    "peak_rss_bytes": units.size,
    "min_sqnr.limit": units.decibels,
    "min_sqnr.value": units.decibels,
    "max_drop.limit": units.number,
    "max_drop.value": units.number,
    "min_speedup.limit": units.ratio,
    "min_speedup.value": units.ratio,
    "int8_nodes": units.count,
    "source_us": units.microseconds,
    "compiled_us": units.microseconds,
    "planned": units.count,
    "found": units.count,
    "low": units.number,
    "high": units.number,
    "min": units.number,
    "max": units.number,
    "scale": units.number,
    "zero_point": units.number,
}
OPEN = ("ops", "options", "rewrites")


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number, text and null of a report with its path; in a list the name of the element stands for its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, "*" if path and path[-1] in OPEN else key))
    elif isinstance(value, list):
        for item in value:
            named = isinstance(item, dict) and "limit" in item
            yield from leaves(item, (*path, item["name"]) if named else path)
    else:
        yield path, value


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_tags_balance_and_every_section_is_there(rich: dict[str, Any]) -> None:
    html = render_html(rich)
    page = Page(html)
    assert [attributes["id"] for attributes in page.all("section")] == list(SECTIONS)
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert [link["href"] for link in Page(contents + "</nav>").all("a")] == [f"#{one}" for one in SECTIONS]
    for title in SECTIONS.values():
        assert page.text.count(title) >= 2  # in the contents and above the section


def test_an_empty_report_makes_a_page_without_the_optional_sections(minimal: dict[str, Any]) -> None:
    page = Page(render_html(minimal))
    sections = [attributes["id"] for attributes in page.all("section")]
    assert sections == [
        one
        for one in SECTIONS
        if one in ("gates", "comparison", "quality", "metric", "passes", "ops", "warnings", "environment", "reproduce")
    ]
    assert page.text.count("not measured") >= 8
    for text in ("A model given in memory", "Latency was not measured.", "No pass was run.", "No gate was set"):
        assert text in page.text
    assert not re.search(r"\bNone\b(?!\.)|\bnan\b|[Uu]ndefined", page.text)  # Warnings are: None.


def test_every_number_is_shown(rich: dict[str, Any]) -> None:
    text = Page(render_html(rich)).text
    missing, unknown = [], []
    for path, value in leaves(rich):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or path[-1] in ("histogram", "centroids", "inputs", "feeders", "readers")
        ):  # drawn
            continue
        show = next((SHOWN[end] for end in (".".join(path[-2:]), path[-1]) if end in SHOWN), None)
        if show is None:
            unknown.append(path)
        elif squeezed(show(value)) not in text:
            missing.append((path, value, show(value)))
    assert not unknown
    assert not missing


def test_every_text_is_shown(rich: dict[str, Any]) -> None:
    text = Page(render_html(rich)).text
    hidden = {("decision", "kept")}  # told in words
    missing = [
        (path, value)
        for path, value in leaves(rich)
        if isinstance(value, str) and path not in hidden and path[0] != "graph" and squeezed(value) not in text
    ]
    assert not missing


@pytest.mark.parametrize(
    "path",
    [
        ("latency", "source_ms"),
        ("latency", "speedup"),
        ("quality", "agreement"),
        ("quality", "metric"),
        ("quality", "metric", "drop"),
        ("quality", "outputs", "boxes", "cosine"),
        ("source", "macs"),
        ("memory", "peak_rss_bytes"),
        ("gates", 0, "value"),
        ("passes", 0, "seconds"),
        ("layers", 0, "source_us"),
        ("ranges", 0, "min"),
        ("decision", "tried", 2, "speedup"),
    ],
)
def test_a_null_is_shown_as_not_measured(rich: dict[str, Any], path: tuple[Any, ...]) -> None:
    before = Page(render_html(rich)).text.lower().count("not measured")
    held = rich
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = None
    assert Page(render_html(rich)).text.lower().count("not measured") > before


def test_the_page_of_a_report_is_the_page_of_its_json(rich: dict[str, Any]) -> None:
    page = render_html(rich)
    rich["passes"][0]["sqnr_db"] = math.nan
    rich["quality"]["outputs"]["count"]["sqnr_db"] = math.inf
    rich["warnings"] = tuple(rich["warnings"])
    assert render_html(rich) == page


def test_a_report_that_does_not_fit_is_refused(rich: dict[str, Any]) -> None:
    del rich["latency"]["runs"]
    with pytest.raises(ValueError, match=r"latency\.runs is missing"):
        render_html(rich)


def replaced(value: Any, text: str) -> Any:
    """The report with ``text`` for every text and name that the schema leaves free; names are numbered."""
    fixed = {"applied", "no-op", "rolled-back", "skipped", "int8", "float", "partly"}
    if isinstance(value, dict):
        named = {
            "scores",
            "boxes",
            "count",
            "Conv",
            "Relu",
            "Add",
            "QLinearConv",
            "identity",
            "per_channel",
            "python",
            "features",
        }
        return {
            (f"{text}{at}" if key in named else key): replaced(item, text)
            for at, (key, item) in enumerate(value.items())
        }
    if isinstance(value, list):
        return [replaced(item, text) for item in value]
    return text if isinstance(value, str) and value not in fixed else value


def test_hostile_names_change_nothing_but_the_text(rich: dict[str, Any]) -> None:
    tame, hostile = Page(render_html(replaced(rich, "word"))), Page(render_html(replaced(rich, HOSTILE)))
    assert [(tag, [*attributes]) for tag, attributes in hostile.tags] == [(tag, [*held]) for tag, held in tame.tags]
    assert "alert(1)" in hostile.text
    assert "{{ 7 * 7 }}" in hostile.text
    html = render_html(replaced(rich, HOSTILE))
    assert "<script" not in html
    assert "\x00" not in html
    html.encode("utf-8")


def test_hostile_paths_are_quoted_in_commands(rich: dict[str, Any]) -> None:
    rich["source"]["path"] = "a; rm -rf ~ #'.onnx"
    assert "qcompiler compile 'a; rm -rf ~ #'\"'\"'.onnx' -o again" in Page(render_html(rich)).text


def test_nothing_is_loaded_and_nothing_runs(rich: dict[str, Any], minimal: dict[str, Any]) -> None:
    for report in (rich, minimal):
        html = render_html(report)
        page = Page(html)
        assert not page.all(
            "script", "img", "iframe", "object", "embed", "form", "base", "video", "audio", "use", "image"
        )
        assert "http://" not in html and "https://" not in html
        assert "@import" not in html and "url(" not in html
        assert not page.values("src") and not page.values("srcset")
        assert [one["href"] for one in page.all("link")] == ["data:,"]
        assert all(one.startswith("#") for one in (link["href"] or "" for link in page.all("a")))
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        (policy,) = (one["content"] for one in page.all("meta") if "http-equiv" in one)
        assert policy is not None and policy.startswith("default-src 'none';")


def test_the_page_is_accessible(rich: dict[str, Any], minimal: dict[str, Any]) -> None:
    for report in (rich, minimal):
        page = Page(render_html(report))
        ids = page.values("id")
        assert len(ids) == len(set(ids))
        referred = [link["href"][1:] for link in page.all("a") if link["href"]]
        assert {*referred, *page.values("aria-labelledby")} <= set(ids)
        assert page.all("html")[0]["lang"] == "en"
        assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
        assert len(page.all("caption")) == len(page.all("table"))
        assert all("scope" in cell for cell in page.all("th"))
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_bars_stay_within_their_picture(rich: dict[str, Any]) -> None:
    rich["layers"][0] |= {"source_us": 0.0, "compiled_us": 0.0, "sqnr_db": -20.0}
    rich["layers"][1] |= {"sqnr_db": 300.0}
    for bar in Page(render_html(rich)).all("rect"):
        start, width = (float((bar.get(key) or "0").rstrip("%")) for key in ("x", "width"))
        assert start >= 0 and width >= 0 and start + width <= 100.01


def test_a_histogram_is_drawn_above_its_range(rich: dict[str, Any]) -> None:
    item = next(each for each in rich["ranges"] if "histogram" in each)
    html = render_html(rich)
    row = html[html.index(">", html.index('id="ranges"')) :]
    row = row[row.index(item["value"]) :]
    picture = row[row.index("<svg") : row.index("</svg>")]
    assert picture.count('<rect class="source"') == sum(1 for count in item["histogram"] if count)
    heights = [float(text) for text in re.findall(r'source" [^/]*height="([0-9.]+)"', picture)]
    assert max(heights) == 24.0
    assert heights.index(24.0) == 2  # of those that are not empty


def test_bars_of_nothing_but_zeros(rich: dict[str, Any]) -> None:
    rich["layers"] = [layer | {"source_us": 0.0, "compiled_us": None} for layer in rich["layers"]]
    rich["compiled"]["ops"], rich["source"]["ops"] = {}, {}
    rich["ranges"][0] |= {"low": 0.0, "high": 0.0, "min": 0.0, "max": 0.0}
    rich["source"] |= {"nodes": 0}
    Page(render_html(rich))


def test_long_lists_are_cut_and_the_page_says_so(rich: dict[str, Any]) -> None:
    rich["layers"] = [rich["layers"][0] | {"node": f"node{at}"} for at in range(MOST_ROWS + 5)]
    rich["ranges"] = [rich["ranges"][0] | {"value": f"value{at}"} for at in range(MOST_ROWS + 5)]
    rich["fused"]["left_float"] = [f"float{at}" for at in range(MOST_ROWS + 5)]
    text = Page(render_html(rich)).text
    assert "The first 1,000 of 1,005 layers; all of them are in report.json." in text
    assert f"The {MOST_BARS} slowest of 1,005." in text
    assert "The first 1,000 of 1,005 values; all of them are in report.json." in text
    assert "and 5 more" in text
    assert "node999 " in text and "node1000 " not in text and "value1000" not in text


@pytest.mark.parametrize(
    "key", ["decision", "layers", "ranges", "fused", "recipe", "command", "data", "seed", "seconds"]
)
def test_an_optional_key_may_be_missing_or_empty(rich: dict[str, Any], key: str) -> None:
    empty: Any = [] if isinstance(rich[key], list) else None
    Page(render_html(rich | {key: empty}))
    del rich[key]
    Page(render_html(rich))


def test_ops_of_the_compiled_model_alone(rich: dict[str, Any]) -> None:
    del rich["source"]["ops"]
    text = Page(render_html(rich)).text
    assert "BatchNormalization" not in text
    assert "QuantizeLinear 29" in text


def test_commands_reproduce_the_result(rich: dict[str, Any], minimal: dict[str, Any]) -> None:
    text = Page(render_html(rich)).text
    assert f"echo '{'5e' * 32} nets/shapes-net.onnx' | sha256sum --check" in text
    assert (
        "qcompiler compile nets/shapes-net.onnx -o again --target ort-cpu --recipe recipe.toml --data calib.npz "
        "--seed 7 --threads 2 qcompiler bench nets/shapes-net.onnx again/model.onnx --threads 2"
    ) in text
    assert "qcompiler compile nets/shapes-net.onnx -o build --data calib.npz --min-sqnr 20" in text
    assert "qcompiler compile SOURCE.onnx -o again --target ort-cpu --recipe recipe.toml qcompiler bench" in (
        Page(render_html(minimal)).text
    )


@pytest.mark.parametrize(("path", "title"), [("a/b.onnx", "b.onnx"), ("C:\\m\\b.onnx", "b.onnx"), ("/", "/")])
def test_the_title_is_the_name_of_the_file(rich: dict[str, Any], path: str, title: str) -> None:
    rich["source"]["path"] = path
    assert f"<h1>{title}</h1>" in render_html(rich)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "x = none"),
        (True, "x = true"),
        (0.30000000000000004, "x = 0.3"),
        ([], "x = none"),
        (["a", 2], "x = a, 2"),
        ({"a": 1, "b": None}, "x = a 1, b none"),
        ({}, "x = none"),
        ("", 'x = ""'),
    ],
)
def test_options_read_as_in_a_recipe(rich: dict[str, Any], value: object, text: str) -> None:
    rich["passes"][0]["options"] = {"x": value}
    assert f"canonicalize {text} applied" in Page(render_html(rich)).text


def test_the_graph_is_drawn_around_each_layer_and_each_node_that_is_named(rich: dict[str, Any]) -> None:
    html = render_html(rich)
    section = html[html.index('id="graph"') : html.index('id="warnings"')]
    assert section.count("<details") == 3  # two layers that stand there, and the head; nowhere is nowhere
    first = section[section.index("<svg") : section.index("</svg>")]
    assert first.count("<path") == 3 and first.count("<line") == 2
    assert "…lu/with/a/long/name" in first
    assert 'href="#g-1"' in html[html.index('id="layers"') : html.index('id="graph"')]
    assert "in the source" in section


def test_a_hub_is_cut_and_the_page_says_so(rich: dict[str, Any]) -> None:
    hub = [{"name": "head", "op": "Relu", "inputs": [], "feeders": 0, "readers": 50}]
    rich["graph"] = {
        "source": [],
        "compiled": hub
        + [{"name": f"r{at}", "op": "Neg", "inputs": [0, 0], "feeders": 1, "readers": 0} for at in range(9)],
        "named": ["head"],
    }
    html = render_html(rich)
    assert "46 neighbours more." in Page(html).text
    section = html[html.index('id="graph"') : html.index('id="warnings"')]
    assert section.count("<path") == 5


def test_what_was_tried_is_a_picture_whose_best_points_are_joined(rich: dict[str, Any]) -> None:
    html = render_html(rich)
    picture = html[html.index("Accuracy against speed") :]
    picture = picture[picture.index("<svg") : picture.index("</svg>")]
    assert picture.count("<circle") == 2  # the float model has no decibels
    assert 'class="beaten"' not in picture  # the one is faster, the other closer
    rich["decision"]["tried"][1]["sqnr_db"] = 28.5
    html = render_html(rich)
    picture = html[html.index('id="f-search"') :]
    assert picture[: picture.index("</svg>")].count('class="beaten"') == 1


def test_energy_that_nobody_counted_says_why(rich: dict[str, Any]) -> None:
    rich["energy"] = {"source_j": None, "compiled_j": None, "counter": None, "reason": "this machine shows no counters"}
    assert "Energy was not measured: this machine shows no counters." in Page(render_html(rich)).text
