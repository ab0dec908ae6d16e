"""What is said of the numbers: in a few lines for the terminal and in a few sentences on the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.report import summary_lines
from qcompiler.report.summary import fewer, verdict


def lines(report: dict[str, Any]) -> dict[str, str]:
    return {label: text.replace("\N{NO-BREAK SPACE}", " ") for label, text in summary_lines(report)}


def sentences(report: dict[str, Any]) -> str:
    return " ".join(verdict(report)).replace("\N{NO-BREAK SPACE}", " ")


def test_lines_of_a_full_report(rich: dict[str, Any]) -> None:
    assert lines(rich) == {
        "size": "44.7 MB → 11.5 MB (3.89× smaller); model.qcz 8.12 MB (5.50× smaller)",
        "latency": "12.3 ms → 5.77 ms (2.14× faster, 2 threads, 60 runs)",
        "quality": "27.9 dB SQNR, same answer on 99.22 % (256 samples)",
        "metric": "top1 0.9312 → 0.9297 (drop 0.0015)",
        "gates": "min_sqnr passed: 27.9 dB, at least 20.0 dB; max_drop passed: 0.0015, at most 0.005; "
        "min_speedup FAILED: 2.14×, at least 2.50×",
        "nodes": "412 → 133",
        "engines": "planned in 8 bits and found so: 25 of 26 on sm_86, ? of 26 on sm_90",
    }


def test_lines_of_an_empty_report(minimal: dict[str, Any]) -> None:
    assert lines(minimal) == {
        "size": "900 bytes → 900 bytes (the same size)",
        "latency": "not measured",
        "quality": "not measured",
        "metric": "not measured",
        "gates": "none set",
        "nodes": "3 → 3",
    }


def test_sentences_of_a_full_report(rich: dict[str, Any]) -> None:
    assert sentences(rich) == (
        "Against the source, the compiled model is 3.89× smaller and 2.14× faster, "
        "timed on Example Silicon 9000 @ 2.40GHz with 2 threads. "
        "On 256 samples the noise in the worst of its outputs lies 27.9 dB below the signal. "
        "1 of 3 gates failed: min_speedup. "
        "Only a part of it runs in int8: 4 of 53 convolutions stay float, which costs 3 % of the time and gains 9 dB."
    )


def test_sentences_of_an_empty_report(minimal: dict[str, Any]) -> None:
    assert sentences(minimal) == (
        "Against the source, the compiled model is the same size; its speed was not measured. "
        "How far its outputs are from the source's was not measured. No gate was set."
    )


def test_worse_is_called_worse(rich: dict[str, Any]) -> None:
    rich["size"] = {"source_bytes": 100, "compiled_bytes": 150, "ratio": 2 / 3}
    rich["latency"]["speedup"] = 0.5
    rich["quality"]["outputs"]["boxes"]["sqnr_db"] = -3.0
    rich["quality"]["metric"]["drop"] = -0.01
    assert "is 1.50× larger and 2.00× slower, timed" in sentences(rich)
    assert "lies 3.0 dB above the signal" in sentences(rich)
    assert lines(rich)["metric"].endswith("(gain 0.01)")


def test_a_difference_too_small_to_show_is_none(rich: dict[str, Any]) -> None:
    rich["size"] = {"source_bytes": 100_000, "compiled_bytes": 99_990, "ratio": 1.0001}
    rich["latency"]["speedup"] = 0.998
    assert "is the same size and just as fast, timed" in sentences(rich)


def test_identical_outputs_are_called_so(rich: dict[str, Any]) -> None:
    rich["quality"]["outputs"] = {"count": rich["quality"]["outputs"]["count"]}
    assert "On 256 samples its outputs are identical to the source's." in sentences(rich)
    assert lines(rich)["quality"].startswith("identical, ")


def test_infinite_decibels_are_identical_too(rich: dict[str, Any]) -> None:
    rich["quality"]["outputs"] = {"y": {"sqnr_db": np.inf, "cosine": 1.0, "max_abs": np.float32(0)}}
    assert lines(rich)["quality"].startswith("identical, ")


@pytest.mark.parametrize(
    ("kept", "reason", "end"),
    [
        ("int8", "it is best", "failed: min_speedup."),
        ("float", "int8 is slower here.", "No int8 was kept: int8 is slower here."),
        ("float", "", "No int8 was kept."),
    ],
)
def test_what_was_kept_is_told_unless_it_is_what_was_asked_for(
    rich: dict[str, Any], kept: str, reason: str, end: str
) -> None:
    rich["decision"] |= {"kept": kept, "reason": reason}
    assert sentences(rich).endswith(end)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "No gate was set."), (1, "The gate passed."), (2, "Both gates passed.")]
)
def test_gates_that_all_passed(rich: dict[str, Any], count: int, text: str) -> None:
    rich["gates"] = rich["gates"][:count]
    assert text in sentences(rich)


@pytest.mark.parametrize(
    ("target", "gpu", "machine"),
    [
        ("ort-cpu", "Example GPU", "Example Silicon 9000 @ 2.40GHz"),
        ("ort-cuda", "Example GPU", "Example GPU"),
        ("tensorrt", None, "Example Silicon 9000 @ 2.40GHz"),
    ],
)
def test_the_machine_is_the_one_that_the_target_runs_on(
    rich: dict[str, Any], target: str, gpu: str | None, machine: str
) -> None:
    rich["target"], rich["environment"]["gpu"] = target, gpu
    assert f"timed on {machine} with 2 threads." in sentences(rich)


def test_a_size_that_is_not_known(rich: dict[str, Any]) -> None:
    rich["size"] = {"source_bytes": 100, "compiled_bytes": 0, "ratio": None}
    assert sentences(rich).startswith("How much smaller the model became is not known; it is 2.14× faster, timed on ")
    assert lines(rich)["size"] == "100 bytes → 0 bytes (not measured)"


def test_only_one_of_two_latencies(rich: dict[str, Any]) -> None:
    rich["latency"] |= {"source_ms": None, "speedup": None}
    assert lines(rich)["latency"] == "not measured → 5.77 ms (2 threads, 60 runs)"
    assert "3.89× smaller; its speed was not measured." in sentences(rich)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (412, 133, "67.7 % fewer"),
        (100, 101, "1 % more"),
        (52, 117, "2.25× as many"),
        (3, 3, "as many"),
        (0, 0, "as many"),
        (0, 4, "new"),
        (4, 0, "100 % fewer"),
        (None, 4, "not measured"),
    ],
)
def test_how_many_fewer(before: int | None, after: int | None, text: str) -> None:
    assert str(fewer(before, after)).replace("\N{NO-BREAK SPACE}", " ") == text
