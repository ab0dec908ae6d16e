"""Trained models in few bytes, without training: what docs/clustering.md promises, with some room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcompiler as qc
from benchmarks.zoo import model_path, samples
from qcompiler.onnx_io import open_session
from qcompiler.passes.cluster import cluster
from qcompiler.passes.cluster.layers import layers_of
from qcompiler.storage import pack, unpack

pytestmark = pytest.mark.zoo


@pytest.fixture(autouse=True)
def there(zoo: Path) -> None:
    """Skips where the zoo is not."""


def smallest(name: str, folder: Path, count: int | None = None, **options: object) -> tuple[float, qc.Result]:
    """How many times smaller the container is, and the result."""
    result = qc.compile(model_path(name), recipe="smallest", data=samples(name, count), min_speedup=0.0, **options)  # type: ignore[arg-type]
    result.save(folder / "build")
    size = (folder / "build" / "model.qcz").stat().st_size
    (folder / "back").mkdir()
    unpack(folder / "build" / "model.qcz", folder / "back")
    assert (folder / "back/model.onnx").read_bytes() == (folder / "build/model.onnx").read_bytes()
    return model_path(name).stat().st_size / size, result


def test_ultraface(tmp_path: Path) -> None:
    ratio, result = smallest("ultraface-rfb320", tmp_path, min_sqnr=38.0)
    assert ratio >= 8.0
    outputs = result.report["quality"]["outputs"].values()
    assert min(item["sqnr_db"] for item in outputs) >= 38.0


@pytest.mark.long
def test_squeezenet(tmp_path: Path) -> None:
    ratio, result = smallest("squeezenet1.1", tmp_path, metric="top1", max_drop=0.01, min_sqnr=15.0)
    assert ratio >= 7.5
    assert result.report["quality"]["metric"]["drop"] <= 0.01


@pytest.mark.long
def test_yolox(tmp_path: Path) -> None:
    ratio, _ = smallest("yolox-nano", tmp_path, min_sqnr=20.0)
    assert ratio >= 5.0


@pytest.mark.long
def test_minilm(tmp_path: Path) -> None:
    ratio, result = smallest("minilm-l6", tmp_path, 256, min_sqnr=17.0)
    assert ratio >= 7.5
    assert result.report["quality"]["outputs"]["sentence_embedding"]["cosine"] >= 0.99


@pytest.mark.parametrize(
    "name",
    [
        "silero-vad", "selfattn-mnist", "mnist-cntk",
        pytest.param("cifar10-cnn", marks=pytest.mark.long), pytest.param("squeezenet1.1-fp16", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_others_keep_their_limit_or_stay(name: str, tmp_path: Path) -> None:
    """Nested graphs, recurrent layers, float16: whatever is clustered loads in a stock onnxruntime."""
    result = qc.compile(model_path(name), recipe="cluster", data=samples(name, 16), min_sqnr=25.0, min_speedup=0.0)
    (record,) = [item for item in result.report["passes"] if item["name"] == "cluster-weights"]
    assert record["status"] == "applied", record["reason"]
    worst = [item["sqnr_db"] for item in result.report["quality"]["outputs"].values()]
    assert min(item for item in worst if item is not None) >= 25.0
    assert result.report["compiled"]["bytes"] < 0.6 * result.report["source"]["bytes"]
    result.save(tmp_path / "build")
    open_session(qc.load(tmp_path / "build" / "model.onnx"))


def test_exact_k_means_of_real_weights_is_not_beaten() -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    model = qc.compile(model_path("ultraface-rfb320"), recipe="lossless").model
    layers, _ = layers_of(model, 512, None)
    assert len(layers) > 30
    for layer in layers[::12]:
        values = layer.rows.reshape(-1)
        peer = sklearn.KMeans(16, n_init=10, random_state=0).fit(values[:, None]).inertia_
        assert cluster(values, 16).error <= peer * (1 + 1e-6)


def test_float_models_come_back_from_a_container(tmp_path: Path) -> None:
    for name in ("silero-vad", "mnist-cntk", "ppocrv3-det"):
        pack(model_path(name), tmp_path / f"{name}.qcz")
        (tmp_path / name).mkdir()
        unpack(tmp_path / f"{name}.qcz", tmp_path / name)
        (held,) = (tmp_path / name).iterdir()
        assert np.array_equal(np.fromfile(held, np.uint8), np.fromfile(model_path(name), np.uint8))
