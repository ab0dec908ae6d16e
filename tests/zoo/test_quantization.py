"""What quantization has reached on real models, as floors. Times are benchmarks' business: ``benchmarks.quantization``.

Where only accuracy is looked at, the speed asked for is next to nothing, since what pays is the processor's matter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import qcompiler as qc
from benchmarks.quantization import accuracy
from benchmarks.zoo import model_path, samples
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session

pytestmark = pytest.mark.zoo


@pytest.fixture(autouse=True)
def there(zoo: Path) -> None:
    """Skips where the zoo is not."""


def compiled(name: str, count: int | None, recipe: str = "int8", **options: Any) -> qc.Result:
    return qc.compile(model_path(name), recipe=recipe, data=samples(name, count), **options)


def decibels(result: qc.Result) -> list[float]:
    """Of each output; one that is exact has 999."""
    found = result.report["quality"]["outputs"].values()
    return [999.0 if item["sqnr_db"] is None and item["max_abs"] == 0 else item["sqnr_db"] for item in found]


def test_squeezenet() -> None:
    """quantize_static reaches 23.0 dB and 96.8 % agreement on the same halves."""
    result = compiled("squeezenet1.1", None, metric="top1", min_speedup=0)
    report = result.report
    assert report["decision"]["kept"] == "int8"
    assert report["quality"]["samples"] == 125
    assert decibels(result)[0] >= 26.0
    assert report["quality"]["agreement"] >= 0.95
    assert report["quality"]["metric"]["drop"] <= 0.02
    assert report["fused"]["left_float"] == []
    assert report["size"]["ratio"] > 3.5


def test_ultraface() -> None:
    result = compiled("ultraface-rfb320", None, min_sqnr=38, min_speedup=0.01)
    assert result.report["decision"]["kept"] != "float"
    scores, boxes = decibels(result)
    assert scores >= 38
    assert boxes >= 43


@pytest.mark.long
@pytest.mark.parametrize("name", ["yolox-nano", "ppocrv3-det"])
def test_detectors(name: str) -> None:
    """quantize_static: 6.4 and 8.7 dB at best."""
    result = compiled(name, 64, min_sqnr=18, min_speedup=0.01)
    assert result.report["decision"]["kept"] != "float"
    assert min(decibels(result)) >= 18


@pytest.mark.long
def test_minilm() -> None:
    """Sentences by the nearest of four class centres; quantize_static's cosine is 0.39."""
    result = compiled("minilm-l6", 256, min_sqnr=18.5, min_speedup=0.01, budget=1)
    assert result.report["decision"]["kept"] == "int8"
    assert result.report["quality"]["outputs"]["sentence_embedding"]["cosine"] >= 0.993
    source, ours = (
        accuracy("minilm-l6", Session(model_path("minilm-l6"))),
        accuracy("minilm-l6", open_session(result.model)),
    )
    assert source is not None and ours is not None
    assert ours >= source - 0.005


def test_minilm_in_four_bits() -> None:
    """The table of embeddings too: a sixth of the float file."""
    result = compiled("minilm-l6", 64, "int4-weights")
    assert result.report["decision"]["kept"] == "int8"
    assert result.report["quality"]["outputs"]["sentence_embedding"]["cosine"] >= 0.98
    assert result.report["size"]["ratio"] >= 6.0


@pytest.mark.parametrize("name", ["cifar10-cnn", "mnist-cntk", "selfattn-mnist"])
def test_classifiers(name: str) -> None:
    result = compiled(name, 400, metric="top1", min_sqnr=25, min_speedup=0.01)
    assert result.report["decision"]["kept"] != "float"
    assert result.report["quality"]["metric"]["drop"] <= 0.005 or min(decibels(result)) >= 25


def test_silero() -> None:
    """Speech in the order in which it was spoken, the state fed back by the compiler."""
    data = samples("silero-vad", 128)
    given = {"input": data["input"], "sr": data["sr"]}
    result = qc.compile(
        model_path("silero-vad"), recipe="int8", data=given, feedback={"state": "stateN"}, min_sqnr=25, min_speedup=0.01
    )
    assert result.report["decision"]["kept"] != "float"
    assert min(decibels(result)) >= 25


def test_auto_keeps_the_speed_and_shrinks_the_table() -> None:
    result = compiled("minilm-l6", 64, "auto", min_sqnr=18.5, min_speedup=0.01, budget=1)
    assert result.report["size"]["ratio"] > 3.5
