"""The report as a file: the same report gives the same text, and what is read back is what was written."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import DataError, UsageError
from qcompiler.report import read, to_json
from qcompiler.report.plain import plain

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_the_text_is_indented_ends_with_a_line_end_and_comes_back(rich: dict[str, Any], tmp_path: Path) -> None:
    text = to_json(rich)
    assert text.startswith('{\n  "schema": 1,\n  "qcompiler": "0.1.0",\n  "target": "ort-cpu",\n')
    assert text.endswith("}\n")
    (tmp_path / "report.json").write_text(text, "utf-8")
    assert read(tmp_path / "report.json") == read(str(tmp_path)) == rich


def test_the_order_in_which_a_report_was_made_does_not_show(rich: dict[str, Any]) -> None:
    reverse = {key: rich[key] for key in reversed(rich)}
    reverse["latency"] = {key: rich["latency"][key] for key in reversed(rich["latency"])}
    assert to_json(reverse) == to_json(rich)


def test_what_is_not_finite_becomes_null(rich: dict[str, Any]) -> None:
    rich["passes"][0]["sqnr_db"] = math.inf
    rich["quality"]["outputs"]["scores"] = {"sqnr_db": np.float32("nan"), "cosine": -math.inf, "max_abs": np.nan}
    again = json.loads(to_json(rich), parse_constant=pytest.fail)
    assert again["passes"][0]["sqnr_db"] is None
    assert again["quality"]["outputs"]["scores"] == {"sqnr_db": None, "cosine": None, "max_abs": None}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float16("inf"), None),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("name"), "name"),
        (np.array([[1, 2], [3, 4]], np.int8), [[1, 2], [3, 4]]),
        (np.array([np.nan, 1.0]), [None, 1.0]),
        (np.longdouble("0.25"), 0.25),
        ((1, "a"), [1, "a"]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, 1}), [1, 2]),
        (PurePosixPath("a/b"), "a/b"),
        ({1: 2}, {"1": 2}),
        ("\ud800", "\\ud800"),
        (b"\xff".decode("utf-8", "surrogateescape"), "\\udcff"),
    ],
)
def test_values_of_other_types_become_what_json_has(value: object, expected: object) -> None:
    made = plain(value)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize("value", [object(), b"bytes", np.array([1j]), 1j, lambda: None])
def test_what_json_cannot_hold_is_refused_by_name(rich: dict[str, Any], value: object) -> None:
    rich["passes"][1]["options"]["epsilon_floor"] = value
    with pytest.raises(TypeError, match=r"^passes\[1\]\.options\.epsilon_floor"):
        to_json(rich)


@given(TREES)
def test_any_tree_is_written_and_read_as_it_was(tree: object) -> None:
    text = to_json({"extra": tree})
    assert json.loads(text.encode(), parse_constant=pytest.fail) == {"extra": plain(tree)}
    assert to_json(json.loads(text)) == text


def test_names_in_any_language_stay_readable(rich: dict[str, Any]) -> None:
    rich["source"]["path"] = "modèle-模型.onnx"
    assert '"modèle-模型.onnx"' in to_json(rich)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*none.json; give a folder"):
        read(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"report\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"text"',
        "{}",
        '{"schema": 1',
        "\x00",
        "[" * 100_000,
        '{"schema": 1, "schema": 1}',
        "{'a'}",
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(DataError, match="compile the model again") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00" + text.encode())
    with pytest.raises(DataError):
        read(path)


def test_a_missing_key_is_damage(rich: dict[str, Any], tmp_path: Path) -> None:
    del rich["gates"][0]["limit"]
    (tmp_path / "report.json").write_text(to_json(rich), "utf-8")
    with pytest.raises(DataError, match=r"is damaged: report: gates\[0\]\.limit is missing; compile"):
        read(tmp_path)


def test_nan_in_a_file_of_somebody_else_is_null(rich: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(to_json(rich).replace('"speedup": 2.138,', '"speedup": NaN,', 1), "utf-8")
    assert read(tmp_path)["latency"]["speedup"] is None


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, [1]])
def test_another_schema_is_wrong_usage(rich: dict[str, Any], tmp_path: Path, schema: object) -> None:
    rich["schema"] = schema
    (tmp_path / "report.json").write_text(json.dumps(rich))
    with pytest.raises(UsageError, match="and this qcompiler reads schema 1; use the qcompiler that wrote it"):
        read(tmp_path)
