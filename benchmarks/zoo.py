"""The zoo: ten real models with real data, where the environment has them. Preprocessing as each model's origin says.

The folder is named by QCOMPILER_ZOO, or stands beside the checkout in shared/zoo.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["MODELS", "model_path", "samples", "zoo_folder"]

Samples = dict[str, np.ndarray[Any, np.dtype[Any]]]


def zoo_folder() -> Path:
    """Where the zoo is; it need not exist."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "zoo"
    return Path(os.environ.get("QCOMPILER_ZOO", default))


def model_path(name: str) -> Path:
    """The file of a model."""
    return zoo_folder() / "models" / f"{name}.onnx"


def samples(name: str, count: int | None = None) -> Samples:
    """Arrays by input name, samples along axis 0, and `label` where there are labels; the first ``count`` or all."""
    return MODELS[name](count)


def _photographs(folder: str, count: int | None) -> list[tuple[Path, np.ndarray[Any, np.dtype[np.float32]]]]:
    """RGB photographs, float32 [height, width, 3] in 0..255; ``count`` of them, spread evenly over the folder."""
    from PIL import Image

    paths = sorted((zoo_folder() / "data" / folder).glob("*.jpg"))
    if count is not None and count < len(paths):
        paths = [paths[i * len(paths) // count] for i in range(count)]
    return [(path, np.asarray(Image.open(path).convert("RGB"), np.float32)) for path in paths]


def _planes(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _imagenet(count: int | None, dtype: Any = np.float32) -> Samples:
    images, labels = [], []
    for path, pixels in _photographs("imagenet-250", count):
        top, left = (pixels.shape[0] - 224) // 2, (pixels.shape[1] - 224) // 2
        cropped = pixels[top : top + 224, left : left + 224]
        images.append(_planes(cropped[:, :, ::-1] - 128))
        labels.append(int(path.stem))
    return {"data_0": np.stack(images).astype(dtype), "label": np.array(labels, np.int64)}


def _coco(count: int | None) -> Samples:
    return {"images": np.stack([_planes(pixels[:, :, ::-1]) for _, pixels in _photographs("coco-64", count)])}


def _faces(count: int | None) -> Samples:
    return {"input": np.stack([_planes((pixels - 127) / 128) for _, pixels in _photographs("faces-24", count)])}


def _text(count: int | None) -> Samples:
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = [_planes((pixels / 255 - mean) / std) for _, pixels in _photographs("coco-64", count)]
    return {"x": np.stack(images).astype(np.float32)}


def _digits(name: str, layout: Callable[[Any], Any]) -> Callable[[int | None], Samples]:
    def make(count: int | None) -> Samples:
        data = np.load(zoo_folder() / "data" / "mnist.npz")
        images = data["test_images"][:count].astype(np.float32)
        return {name: layout(images), "label": data["test_labels"][:count].astype(np.int64)}

    return make


def _cifar(count: int | None) -> Samples:
    data = np.load(zoo_folder() / "data" / "cifar10.npz")
    images = data["test_images"][:count].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    return {"modelInput": images.astype(np.float32), "label": data["test_labels"][:count].astype(np.int64)}


def _sentences(count: int | None) -> Samples:
    data = np.load(zoo_folder() / "data" / "agnews-minilm.npz")
    return {name: data[name][:count] for name in ("input_ids", "attention_mask")}


def _speech(count: int | None) -> Samples:
    """512 new samples after 64 of context, with the states that the float model itself fed back."""
    import onnxruntime

    with wave.open(str(zoo_folder() / "data" / "speech-16k" / "digits-theo.wav")) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    padded = np.concatenate([np.zeros(64, np.float32), sound])
    session = onnxruntime.InferenceSession(str(model_path("silero-vad")))
    state, inputs, states = np.zeros((2, 1, 128), np.float32), [], []
    for start in range(0, min(len(sound) - 512, 512 * (count or 1 << 30)), 512):
        piece = padded[None, start : start + 576]
        inputs.append(piece)
        states.append(state)
        _, state = session.run(None, {"input": piece, "state": state, "sr": np.array(16000)})
    return {"input": np.stack(inputs), "state": np.stack(states), "sr": np.array(16000)}


MODELS: Mapping[str, Callable[[int | None], Samples]] = {
    "cifar10-cnn": _cifar,
    "minilm-l6": _sentences,
    "mnist-cntk": _digits("Input3", lambda images: images[:, None]),
    "ppocrv3-det": _text,
    "selfattn-mnist": _digits("input_1", lambda images: images[..., None] / 255),
    "silero-vad": _speech,
    "squeezenet1.1": _imagenet,
    "squeezenet1.1-fp16": lambda count: _imagenet(count, np.float16),
    "ultraface-rfb320": _faces,
    "yolox-nano": _coco,
}
"""A loader for each model's samples."""
