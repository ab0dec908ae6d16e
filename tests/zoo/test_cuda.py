"""Real models on ort-cuda, run whole through the executor: the quality of ort-cpu's int8, as floors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler as qc
from benchmarks.zoo import model_path, samples
from qcompiler.ir import clone_model
from qcompiler.lower import open_program
from qcompiler.onnx_io import open_session
from tests.zoo.test_quantization import decibels

pytestmark = pytest.mark.zoo


@pytest.fixture(autouse=True)
def there(zoo: Path) -> None:
    """Skips where the zoo is not."""


def compiled(name: str, count: int | None, **options: Any) -> qc.Result:
    result = qc.compile(
        model_path(name), target="ort-cuda", arch=["none"], recipe="int8", data=samples(name, count), **options
    )
    placed = {item["node"]: item for item in result.report["placement"]}
    assert placed.keys() == {node.name for node in result.model.graph}
    assert all(item["why"] for item in placed.values())
    return result


@pytest.mark.long
def test_squeezenet() -> None:
    """ort-cpu's: 27.2 dB; in integers from the first convolution to the last."""
    result = compiled("squeezenet1.1", None, metric="top1")
    assert decibels(result)[0] >= 26.0
    assert result.report["quality"]["metric"]["drop"] <= 0.02
    kernels = [item for item in result.report["placement"] if item["runs_on"] == "kernel"]
    assert len(kernels) >= 37 and len(result.report["placement"]) - len(kernels) <= 5


def test_ultraface_and_its_bodies() -> None:
    """ort-cpu's: 42.2 and 53.5 dB. A stock onnxruntime without optimizations gives what the executor gives."""
    result = compiled("ultraface-rfb320", 24)
    assert min(decibels(result)) >= 41.0
    assert sum(item["op"] == "Int8Conv" for item in result.report["placement"]) == 52
    feed = {"input": samples("ultraface-rfb320", 1)["input"]}
    ours = result.run(feed)
    stock = open_session(result.model, optimize=False).run(feed)
    for name, array in ours.items():
        noise = np.square(array - stock[name]).sum() / np.square(array).sum()
        assert noise < 1e-4  # ties of rounding


@pytest.mark.long
def test_the_interpreter_runs_a_whole_model() -> None:
    pytest.importorskip("triton")
    pytest.importorskip("torch")
    result = compiled("ultraface-rfb320", 8)
    feed = {"input": samples("ultraface-rfb320", 1)["input"]}
    found = open_program(clone_model(result.model), device="cpu", kernels="interpreter").run(feed)
    assert all(np.array_equal(found[name], array) for name, array in result.run(feed).items())


@pytest.mark.long
@pytest.mark.parametrize(("name", "least"), [("yolox-nano", 18.0), ("minilm-l6", 19.0)])
def test_detectors_and_sentences(name: str, least: float) -> None:
    """ort-cpu's: 18.5 dB and 19.5 dB (cosine 0.9944)."""
    result = compiled(name, 64)
    assert decibels(result)[0] >= least
    if name == "minilm-l6":
        assert result.report["quality"]["outputs"]["sentence_embedding"]["cosine"] >= 0.993
