"""Real models for TensorRT: the floors of ort-cpu's int8 less one decibel, and engines in which everything planned is int8.

Engines are built by TensorRT for RTX, without a card, for three architectures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import qcompiler as qc
from benchmarks.zoo import model_path, samples
from qcompiler.lower.tensorrt import package
from tests.zoo.test_quantization import decibels

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not package().startswith("tensorrt_rtx"), reason="TensorRT for RTX is not installed"),
]


@pytest.fixture(autouse=True)
def there(zoo: Path) -> None:
    """Skips where the zoo is not."""


def compiled(name: str, count: int | None, least: int, **options: Any) -> dict[str, Any]:
    """The report; at least ``least`` products are int8, each of them in every engine."""
    result = qc.compile(model_path(name), target="tensorrt", recipe="int8", data=samples(name, count), **options)
    report = result.report
    engines = report["tensorrt"]["engines"]
    assert [item["architecture"] for item in engines] == ["sm_86", "sm_89", "sm_120"]
    for item in engines:
        assert item["found"] == item["planned"] >= least and item["left_float"] == []
    assert report["fused"]["found"] == report["fused"]["planned"] == engines[0]["planned"]
    return {"report": report, "decibels": decibels(result)}


def test_ultraface() -> None:
    found = compiled("ultraface-rfb320", None, 52)
    scores, boxes = found["decibels"]
    assert scores >= 37 and boxes >= 42


def test_cifar10() -> None:
    """So small that int8 gains nothing on a card: the smallest form is asked for."""
    found = compiled("cifar10-cnn", 200, 5, min_sqnr=24, min_speedup=0)
    assert min(found["decibels"]) >= 24


@pytest.mark.long
def test_squeezenet() -> None:
    found = compiled("squeezenet1.1", None, 24, metric="top1")
    assert found["decibels"][0] >= 25
    assert found["report"]["quality"]["metric"]["drop"] <= 0.02


@pytest.mark.long
def test_yolox() -> None:
    found = compiled("yolox-nano", 64, 70, min_sqnr=17)
    assert min(found["decibels"]) >= 17


@pytest.mark.long
def test_ppocr_with_a_profile() -> None:
    profile = "tensorrt.profile=x:1x3x64x64,1x3x416x416,1x3x960x960"
    found = compiled("ppocrv3-det", 64, 10, min_sqnr=17, settings=[profile])
    assert min(found["decibels"]) >= 17
    assert found["report"]["tensorrt"]["profile"] == {"x": [[1, 3, 64, 64], [1, 3, 416, 416], [1, 3, 960, 960]]}


@pytest.mark.long
def test_minilm() -> None:
    found = compiled("minilm-l6", 64, 16, min_sqnr=17.5)
    assert found["report"]["quality"]["outputs"]["sentence_embedding"]["cosine"] >= 0.992
