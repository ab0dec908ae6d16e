"""All lossless passes on trained models with real inputs: the same numbers, fewer nodes, and no second round needed."""

import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.ir import Model, clone_model, verify
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import infer_types, load, open_session, to_bytes, upgrade_opset
from qcompiler.passes.lossless import LOSSLESS
from qcompiler.pipeline import PassContext, Pipeline, deviation
from qcompiler.runtime import Session

Array = np.ndarray[Any, np.dtype[Any]]


def photo(path: Path, height: int, width: int, swap: bool) -> Array:
    """[1, 3, height, width], 0 to 255, red first unless ``swap``."""
    image = pytest.importorskip("PIL.Image", reason="the images extra is not installed")
    with image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((width, height)), np.float32)
    return np.ascontiguousarray((pixels[..., ::-1] if swap else pixels).transpose(2, 0, 1)[None])


def imagenet(data: Path, dtype: Any) -> list[dict[str, Array]]:
    paths = sorted((data / "imagenet-250").glob("*.jpg"))[:2]
    return [{"data_0": (photo(path, 224, 224, True) - 128).astype(dtype)} for path in paths]


def faces(data: Path) -> list[dict[str, Array]]:
    paths = sorted((data / "faces-24").glob("*.jpg"))[:2]
    return [{"input": (photo(path, 240, 320, False) - 127) / 128} for path in paths]


def coco(data: Path) -> list[dict[str, Array]]:
    return [{"images": photo(path, 416, 416, True)} for path in sorted((data / "coco-64").glob("*.jpg"))[:2]]


def text_lines(data: Path) -> list[dict[str, Array]]:
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    paths = sorted((data / "coco-64").glob("*.jpg"))[:2]
    sizes = [(224, 224), (160, 320)]
    return [{"x": (photo(path, *size, False) / 255 - mean) / std} for path, size in zip(paths, sizes, strict=True)]


def speech(data: Path) -> list[dict[str, Array]]:
    """Two windows at once; the state after the first is fed to the second."""
    with wave.open(str(next((data / "speech-16k").glob("*.wav")))) as file:
        samples = np.frombuffer(file.readframes(60000), np.int16).astype(np.float32) / 32768
    feeds = []
    for start in (8000, 40000):
        chunk = np.stack([samples[start : start + 576], samples[start + 512 : start + 1088]])
        feeds.append(
            {"input": chunk, "state": np.full((2, 2, 128), 0.1 * len(feeds), np.float32), "sr": np.array(16000)}
        )
    return feeds


def digits(data: Path, name: str, shape: tuple[int, ...], scale: float) -> list[dict[str, Array]]:
    with np.load(data / "mnist.npz") as arrays:
        return [{name: (image.reshape(shape) / scale).astype(np.float32)} for image in arrays["test_images"][:4]]


def objects(data: Path) -> list[dict[str, Array]]:
    with np.load(data / "cifar10.npz") as arrays:
        images = arrays["test_images"][:6].transpose(0, 3, 1, 2)
    return [{"modelInput": (batch / 127.5 - 1).astype(np.float32)} for batch in (images[:1], images[1:])]


def sentences(data: Path) -> list[dict[str, Array]]:
    with np.load(data / "agnews-minilm.npz") as arrays:
        ids, mask = arrays["input_ids"], arrays["attention_mask"]
    return [{"input_ids": ids[i:j, :s], "attention_mask": mask[i:j, :s]} for i, j, s in ((0, 1, 64), (1, 4, 40))]


# name -> inputs, nodes before, nodes after
MODELS: dict[str, tuple[Callable[[Path], list[dict[str, Array]]], int, int]] = {
    "squeezenet1.1": (lambda data: imagenet(data, np.float32), 66, 65),
    "squeezenet1.1-fp16": (lambda data: imagenet(data, np.float16), 66, 65),
    "ultraface-rfb320": (faces, 211, 125),
    "yolox-nano": (coco, 369, 360),
    "silero-vad": (speech, 190, 63),
    "ppocrv3-det": (text_lines, 280, 189),
    "selfattn-mnist": (lambda data: digits(data, "input_1", (1, 28, 28, 1), 255), 50, 41),
    "mnist-cntk": (lambda data: digits(data, "Input3", (1, 1, 28, 28), 1), 12, 8),
    "cifar10-cnn": (objects, 11, 11),
    "minilm-l6": (sentences, 252, 249),
}
FIRST = {"ultraface-rfb320"}  # its initializers are inputs


def compiled(path: Path, samples: list[dict[str, Array]]) -> tuple[Model, Model, PassContext]:
    model = load(path)
    infer_types(model)
    context = PassContext(samples=samples)
    return clone_model(model), *_run(model, context)


def _run(model: Model, context: PassContext) -> tuple[Model, PassContext]:
    made, records = Pipeline([item() for item in LOSSLESS]).run(model, context)
    verify(made)
    assert {record.status for record in records} <= {"applied", "no-op"}
    return made, context


@pytest.mark.parametrize("name", MODELS)
def test_same_numbers_and_fewer_nodes(zoo: Path, name: str) -> None:
    feeds, before, after = MODELS[name]
    samples = feeds(zoo / "data")
    source, model, context = compiled(zoo / "models" / f"{name}.onnx", samples)
    assert (len(list(source.nodes())), len(list(model.nodes()))) == (before, after)
    assert len(to_bytes(model)) <= len(to_bytes(source))
    assert len(context.warnings) == (name in FIRST)
    first, second = open_session(source, optimize=False), open_session(model, optimize=False)
    for sample in samples:
        expected, found = first.run(sample), second.run(sample)
        assert list(found) == list(expected)
        for output, array in expected.items():
            assert deviation(array, found[output]) <= (1e-2 if name.endswith("fp16") else 1e-4), output


# name -> nodes at most, as the best simplifier leaves it; nodes at most once onnxruntime has optimized the result
FLOORS = {
    "minilm-l6": (251, 222),
    "ppocrv3-det": (230, 203),
    "yolox-nano": (365, 257),
    "ultraface-rfb320": (125, 151),
    "silero-vad": (52, 36),
    "selfattn-mnist": (41, 38),
}


@pytest.mark.parametrize("name", FLOORS)
def test_as_small_as_the_best_simplifier_and_in_onnxruntime_as_small_as_the_source(
    zoo: Path, name: str, tmp_path: Path
) -> None:
    """Nodes of the main graph, as those counted that the figures come from."""
    model = load(zoo / "models" / f"{name}.onnx")
    upgrade_opset(model)
    infer_types(model)
    model, _ = _run(model, PassContext(target=OrtCpu()))
    Session(to_bytes(model), optimized_to=tmp_path / "optimized.onnx", level="extended")
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    most, most_optimized = FLOORS[name]
    assert len(model.graph) <= most
    assert len(optimized.node) <= most_optimized


@pytest.mark.parametrize("name", MODELS)
def test_one_round_is_enough(zoo: Path, name: str) -> None:
    model = load(zoo / "models" / f"{name}.onnx")
    infer_types(model)
    model, _ = _run(model, PassContext())
    _, records = Pipeline([item() for item in LOSSLESS]).run(model, PassContext())
    assert {record.name: record.rewrites for record in records if record.changed} == {}


def test_branches_are_rewritten_too(zoo: Path) -> None:
    """silero-vad keeps all but 42 of its nodes in the branches of Ifs."""
    model = load(zoo / "models" / "silero-vad.onnx")
    infer_types(model)
    before = len(list(model.nodes())) - len(model.graph)
    model, _ = _run(model, PassContext())
    assert len(list(model.nodes())) - len(model.graph) < before


def test_it_takes_no_time(zoo: Path) -> None:
    """About half a second for all ten on one core; the bound leaves room for a slow machine."""
    models = [load(zoo / "models" / f"{name}.onnx") for name in MODELS]
    start = time.perf_counter()
    for model in models:
        infer_types(model)
        _run(model, PassContext())
    assert time.perf_counter() - start < 20
