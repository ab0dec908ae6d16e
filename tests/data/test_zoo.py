"""Real photographs and texts through real models: what data prepares is what the models were trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tomli_w

from qcompiler.data import InputSpec, open_dataset, split


def inputs_of(session: onnxruntime.InferenceSession) -> list[InputSpec]:
    types: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(int64)": np.dtype(np.int64)}
    return [InputSpec(one.name, types[one.type], tuple(one.shape)) for one in session.get_inputs()]


def test_squeezenet_knows_60_percent_of_the_photographs(zoo: Path, tmp_path: Path) -> None:
    settings = {"folder": str(zoo / "data" / "imagenet-250"), "labels": r"name:(\d+)", "color": "BGR"}
    text = tomli_w.dumps({"images": settings | {"crop": [224, 224], "mean": [128.0, 128.0, 128.0]}})
    (tmp_path / "images.toml").write_text(text)
    session = onnxruntime.InferenceSession(zoo / "models" / "squeezenet1.1.onnx")
    dataset = open_dataset(tmp_path / "images.toml", inputs_of(session))
    assert dataset.labels is not None
    right = [
        int(session.run(None, dict(sample))[0].argmax()) == label
        for sample, label in zip(dataset, dataset.labels, strict=True)
    ]
    assert len(right) == 250 and 0.58 < np.mean(right) < 0.63


def test_texts_of_one_length_come_in_batches(zoo: Path) -> None:
    session = onnxruntime.InferenceSession(zoo / "models" / "minilm-l6.onnx")
    dataset = open_dataset(zoo / "data" / "agnews-minilm.npz", inputs_of(session), batch_size=8, limit=4)
    assert dataset.labels is not None and dataset.labels.shape == (4, 8)
    for half in split(dataset):
        for sample in half:
            assert len(session.run(None, dict(sample))[0]) == 8
