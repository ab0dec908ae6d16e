"""Real models with real data: the floors on quality that the project has reached, so that they cannot rot.

Times are benchmarks' business, not tests'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler as qc
from benchmarks.zoo import MODELS, model_path, samples
from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session

pytestmark = pytest.mark.zoo


@pytest.fixture(autouse=True)
def there(zoo: Path) -> None:
    """Skips where the zoo is not."""


def nodes_left(report: dict[str, Any]) -> int:
    return int(report["compiled"]["nodes"])


@pytest.mark.parametrize("name", MODELS)
def test_lossless_keeps_the_numbers(name: str) -> None:
    data = samples(name, 8)
    result = qc.compile(model_path(name), recipe="lossless", data=data)
    # On a busy machine a model of microseconds may be timed as slower and its source kept: that is no fault of a pass.
    kept = "the source was kept as it is"
    assert [record.reason for record in result.records if record.reason not in ("", kept)] == []
    source, ours = Session(model_path(name)), open_session(result.model)
    assert [str(spec) for spec in source.inputs] == [str(spec) for spec in ours.inputs]
    assert source.outputs == ours.outputs
    worst = dict.fromkeys(source.outputs, 0.0)
    largest = dict.fromkeys(source.outputs, 0.0)
    for feeds in open_dataset(data, source.inputs):
        expected, found = source.run(feeds), ours.run(feeds)
        for key, array in expected.items():
            worst[key] = max(worst[key], float(np.abs(array.astype("f8") - found[key].astype("f8")).max()))
            largest[key] = max(largest[key], float(np.abs(array.astype("f8")).max()))
    limit = 1e-2 if name.endswith("fp16") else 1e-4
    for key, error in worst.items():
        assert error <= limit * largest[key], key
    assert nodes_left(result.report) <= result.report["source"]["nodes"]


PEERS = {
    "minilm-l6": 251,
    "ppocrv3-det": 230,
    "yolox-nano": 365,
    "ultraface-rfb320": 125,
    "silero-vad": 52,
    "selfattn-mnist": 41,
}
"""Nodes that the better of OnnxSlim 0.1.98 and onnxsim 0.8 leaves, those in branches not counted."""


@pytest.mark.parametrize("name", PEERS)
def test_no_more_nodes_than_the_best_simplifier(name: str) -> None:
    result = qc.compile(model_path(name), recipe="lossless", data=samples(name, 4))
    assert len(result.model.graph) <= PEERS[name]


def test_branches_of_silero_are_rewritten_too() -> None:
    source = qc.load(model_path("silero-vad"))
    result = qc.compile(model_path("silero-vad"), recipe="lossless", data=samples("silero-vad", 4))
    before, inner = (
        sum(1 for node in model.nodes() if node.graph is not model.graph) for model in (source, result.model)
    )
    assert inner < before


def test_batch_norms_of_ultraface_fold_into_its_convolutions() -> None:
    """Its initializers are listed among the inputs, which keeps other tools from folding anything."""
    result = qc.compile(model_path("ultraface-rfb320"), recipe="lossless", data=samples("ultraface-rfb320", 4))
    assert "BatchNormalization" not in result.report["compiled"]["ops"]
    assert any("freeze-initializers" in text for text in result.report["warnings"])


@pytest.mark.parametrize(
    "name",
    [
        "cifar10-cnn",
        "mnist-cntk",
        "selfattn-mnist",
        "silero-vad",
        "squeezenet1.1-fp16",
        pytest.param("ultraface-rfb320", marks=pytest.mark.long),
        pytest.param("minilm-l6", marks=pytest.mark.long),
        pytest.param("ppocrv3-det", marks=pytest.mark.long),
        pytest.param("yolox-nano", marks=pytest.mark.long),
    ],
)
def test_int8_keeps_its_limit_or_says_why_not(name: str) -> None:
    count = 100 if name in ("cifar10-cnn", "mnist-cntk", "selfattn-mnist") else 32
    result = qc.compile(model_path(name), recipe="int8", data=samples(name, count))
    report = result.report
    decision = report["decision"]
    assert decision["reason"]
    worst = min(
        (item["sqnr_db"] for item in report["quality"]["outputs"].values() if item["sqnr_db"] is not None), default=None
    )
    assert worst is None or worst >= 20.0
    if decision["kept"] == "float":
        assert any("stays float" in text for text in report["warnings"])
        assert "QuantizeLinear" not in report["compiled"]["ops"]
    feeds = open_dataset(samples(name, 1), input_specs(qc.load(model_path(name)))).sample(0)
    assert list(result.run(feeds)) == [value.name for value in result.model.graph.outputs]
