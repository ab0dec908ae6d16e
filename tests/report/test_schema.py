"""Schema 1: what a report must hold is written once, as data, and every key of it is looked at."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qcompiler.report import SCHEMA, validate
from qcompiler.report.schema import SHAPE, Shape, ordered

from .conftest import RICH

Path = tuple[Any, ...]


def keys(value: Any, shape: Shape, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Path of every key of ``value`` that the shape names, and whether it must be there."""
    if isinstance(shape, tuple):
        shape = next((each for each in shape if isinstance(each, dict)), None)
    if isinstance(shape, list):
        yield from keys(value[0], shape[0], (*path, 0))
    elif isinstance(shape, dict) and str in shape:
        for key in value:
            yield from keys(value[key], shape[str], (*path, key))
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            name = key.removesuffix("?")
            yield (*path, name), name == key
            yield from keys(value[name], inner, (*path, name))


def holder(report: Any, path: Path) -> Any:
    for key in path[:-1]:
        report = report[key]
    return report


def written(path: Path) -> str:
    """``path`` as a message names it."""
    text = ""
    for at, key in enumerate(path):
        of_any_name = at and path[at - 1] in ("outputs", "ops", "options", "rewrites")
        text += f"[{key!r}]" if isinstance(key, int) or of_any_name else f".{key}"
    return text.removeprefix(".")


REQUIRED = [path for path, needed in keys(RICH, SHAPE) if needed]
OPTIONAL = [path for path, needed in keys(RICH, SHAPE) if not needed]


def test_a_full_and_an_empty_report_are_valid(rich: dict[str, Any], minimal: dict[str, Any]) -> None:
    validate(rich)
    validate(minimal)
    assert rich["schema"] == SCHEMA == 1


@pytest.mark.parametrize("path", REQUIRED, ids=written)
def test_a_missing_key_is_named(rich: dict[str, Any], path: Path) -> None:
    del holder(rich, path)[path[-1]]
    with pytest.raises(ValueError) as caught:
        validate(rich)
    assert str(caught.value) == f"report: {written(path)} is missing"


@pytest.mark.parametrize("path", OPTIONAL, ids=written)
def test_an_optional_key_may_be_missing(rich: dict[str, Any], path: Path) -> None:
    del holder(rich, path)[path[-1]]
    validate(rich)


@pytest.mark.parametrize("path", [*REQUIRED, *OPTIONAL], ids=written)
def test_a_value_of_another_type_is_named(rich: dict[str, Any], path: Path) -> None:
    held = holder(rich, path)
    held[path[-1]] = "text" if not isinstance(held[path[-1]], str) else ["a list"]
    if path in (("passes", 0, "reason"), ("energy", "reason")) or path[-1] in ("gpu", "macs") or held[path[-1]] is None:
        held[path[-1]] = ["a list"]
    with pytest.raises(ValueError, match=r"^report: ") as caught:
        validate(rich)
    assert str(caught.value).startswith(f"report: {written(path)} is ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("latency", "speedup"), "2", "latency.speedup is text, not a number or null"),
        (("latency", "threads"), 2.5, "latency.threads is a number, not a whole number or null"),
        (("latency", "threads"), True, "latency.threads is true or false, not a whole number or null"),
        (("source", "bytes"), None, "source.bytes is null, not a whole number"),
        (("source", "bytes"), math.inf, "source.bytes is null, not a whole number"),
        (("gates", 1, "passed"), 1, "gates[1].passed is a whole number, not true or false"),
        (("gates", 1), [], "gates[1] is a list, not an object"),
        (("gates",), {}, "gates is an object, not a list"),
        (("schema",), 2, "schema is 2, not 1"),
        (("schema",), True, "schema is True, not 1"),
        (("passes", 0, "status"), "done", "passes[0].status is 'done', not applied or no-op or rolled-back or skipped"),
        (("passes", 2, "rewrites"), {"silu": "3"}, "passes[2].rewrites['silu'] is text, not a whole number"),
        (("compiled", "ops", "a.b"), None, "compiled.ops['a.b'] is null, not a whole number"),
        (("quality", "outputs", "y"), 3, "quality.outputs['y'] is a whole number, not an object"),
        (("quality", "metric"), {"name": "top1"}, "quality.metric.source is missing"),
        (("quality", "metric"), "top1", "quality.metric is text, not an object or null"),
        (("decision", "kept"), "some", "decision.kept is 'some', not float or int8 or partly"),
        (("warnings",), ["a", None], "warnings[1] is null, not text"),
        (("layers", 3, "node"), None, "layers[3].node is null, not text"),
    ],
)
def test_the_message_says_what_is_there_and_what_should_be(
    rich: dict[str, Any], path: Path, value: Any, message: str
) -> None:
    holder(rich, path)[path[-1]] = value
    with pytest.raises(ValueError) as caught:
        validate(rich)
    assert str(caught.value) == f"report: {message}"


def test_what_becomes_json_is_what_counts(rich: dict[str, Any]) -> None:
    rich["source"]["bytes"] = np.int64(5)
    rich["latency"]["speedup"] = np.float32(2)
    rich["gates"][0]["passed"] = np.bool_(True)
    rich["warnings"] = ("a", "b")
    rich["passes"][0]["changed"] = True
    validate(rich)


def test_unknown_keys_are_allowed(rich: dict[str, Any]) -> None:
    rich["tomorrow"] = {"x": 1}
    rich["passes"][0]["colour"] = "blue"
    validate(rich)


def test_the_first_fault_in_the_order_of_the_schema_is_told(rich: dict[str, Any]) -> None:
    del rich["warnings"], rich["size"]["ratio"], rich["target"]
    with pytest.raises(ValueError, match=r"^report: target is missing$"):
        validate(rich)


def test_keys_are_put_in_the_order_of_the_schema(rich: dict[str, Any]) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(shuffled, value))
        return {key: shuffled(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    report = ordered(shuffled(rich) | {"zebra": 1, "ant": 2})
    assert list(report)[:5] == ["schema", "qcompiler", "target", "recipe", "command"]
    assert list(report)[-2:] == ["ant", "zebra"]
    assert list(report["latency"]) == ["source_ms", "compiled_ms", "speedup", "threads", "runs", "batch", "estimate"]
    assert list(report["quality"]["metric"]) == ["name", "source", "compiled", "drop"]
    assert list(report["gates"][2]) == ["name", "limit", "value", "passed"]
    assert list(report["decision"]["tried"][0])[:2] == ["name", "sqnr_db"]
    # Objects whose keys are names keep the order that they came in: it is that of the model.
    assert list(report["quality"]["outputs"]) == ["count", "boxes", "scores"]
    before = copy.deepcopy(rich)
    assert ordered(rich) == before == rich
