"""What training brings back: each table with what was there without it. Needs torch.

    python -m benchmarks.recovery [resnet] [squeezenet] [minilm]

``resnet`` trains a ResNet-18-shaped teacher on the zoo's cifar10.npz and makes it int8, pruned and int8, and distills a
student of it, in int8; ``squeezenet`` recovers squeezenet1.1 without 30 % of its products on unlabelled photographs;
``minilm`` recovers minilm-l6 without 30 % of its hidden units on unlabelled rows, and makes it int8.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import qcompiler as qc
from benchmarks.networks import resnet18
from benchmarks.pruning import scored
from benchmarks.zoo import model_path, samples, zoo_folder
from qcompiler.compiler import find_recipe, input_specs, passes, statistics_of
from qcompiler.data import Dataset, open_dataset, split
from qcompiler.ir import Model
from qcompiler.onnx_io import infer_types, open_session, to_bytes
from qcompiler.pipeline import Recipe
from qcompiler.runtime import interleaved
from qcompiler.storage import pack


def main(names: list[str]) -> None:
    """Print the tables that are named, or all."""
    tables = {"resnet": resnet, "squeezenet": squeezenet, "minilm": minilm}
    for name in names or list(tables):
        tables[name]()


def header(line: str) -> None:
    """The first two lines of a table."""
    print(f"\n{line}")
    print("|---" * (line.count("|") - 1) + "|", flush=True)


def said(text: str) -> None:
    """Progress, to standard error."""
    if text.startswith("training"):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def recipe_of(folder: str, base: str, *front: tuple[str, dict[str, Any]]) -> Path:
    """A recipe file: the passes of ``base`` with ``front`` between the lossless ones and those that quantize."""
    known = passes()
    whole = find_recipe(base).passes
    made = [known[name].configured(options) for name, options in front]
    lossless, lossy = ([item for item in whole if item.lossless is kind] for kind in (True, False))
    path = Path(folder) / "recipe.toml"
    path.write_text(Recipe("benchmark", (*lossless, *made, *lossy), "", True).to_toml())
    return path


def cifar() -> dict[str, dict[str, Any]]:
    """Parts of cifar10.npz: learn (7 of 8 training images), score (the eighth) and test."""
    mean, deviation = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.247, 0.243, 0.262])
    with np.load(zoo_folder() / "data" / "cifar10.npz") as held:
        found = {}
        for part in ("train", "test"):
            images = (held[f"{part}_images"].astype(np.float32) / 255 - mean) / deviation
            found[part] = {
                "x": np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
                "label": held[f"{part}_labels"].astype(np.int64),
            }
    eighth = np.arange(len(found["train"]["x"])) % 8 == 7
    for name, rows in (("learn", ~eighth), ("score", eighth)):
        found[name] = {key: array[rows] for key, array in found["train"].items()}
    return found


def accuracy(model: Model, data: dict[str, Any]) -> float:
    """Percent of right answers."""
    session = open_session(model, threads=2)
    images, labels = data["x"], data["label"]
    scores = [session.run({"x": images[start : start + 100]})["y"] for start in range(0, len(images), 100)]
    return 100 * float((np.concatenate(scores).argmax(axis=1) == labels).mean())


def packed_bytes(model: bytes) -> int:
    """What the model takes coded by entropy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        return pack(path, Path(folder) / "model.qcz").packed_bytes


def resnet(width: int = 24) -> None:
    """The four rows: float, int8, pruned and int8, distilled student in int8."""
    from qcompiler.training.loop import train
    from qcompiler.training.settings import Settings

    header("| model | bytes | smaller | packed | smaller | test accuracy | lost | ms | faster | seconds |")
    data = cifar()
    few = {key: array[:: len(array) // 500] for key, array in data["learn"].items()}
    began = time.perf_counter()
    net = qc.load(resnet18(width))
    infer_types(net)
    taught = Settings(
        epochs=32, batch=64, learning_rate=3e-3, weight_decay=0.05, labels=1.0, flip=True, crop=4, hold_out=0.05,
        precision="bfloat16",
    )  # fmt: skip
    train(net, None, open_dataset(data["train"], input_specs(net)), taught, progress=said)
    teacher = to_bytes(net)
    rows: list[tuple[str, Model, float]] = [("float", net, time.perf_counter() - began)]
    options = {"score": data["score"], "metric": "top1", "progress": said}
    limits = {"min_sqnr": -99.0, "min_speedup": 0.0, "explain": False}
    recovery = {"batch": 64, "flip": True, "crop": 4, "temperature": 4.0, "labels": 0.1, "precision": "bfloat16",
                "hold_out": 0.05}  # fmt: skip

    def quantized(name: str, model: Model | bytes, start: float) -> None:
        source = model if isinstance(model, bytes) else to_bytes(model)
        made = qc.compile(source, recipe="int8", data=few, **options, **limits)
        rows.append((name, made.model, time.perf_counter() - start))

    quantized("int8", teacher, time.perf_counter())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = recipe_of(folder, "lossless", ("prune-channels", {"ratio": 0.7}))
        pruned = qc.compile(teacher, recipe=path, data=few, **options, **limits).model
    learned = recovery | {"epochs": 12, "learning_rate": 5e-4}
    made = qc.distill(teacher, to_bytes(pruned), data=data["learn"], options=learned, **options)
    quantized("30 % of the channels pruned, trained, int8", made.model, start)
    start = time.perf_counter()
    learned = recovery | {"epochs": 50, "learning_rate": 3e-3}
    made = qc.distill(teacher, data=data["learn"], width=0.4, options=learned, **options)
    quantized("a student with 0.4 of the channels, distilled, int8", made.model, start)
    timings = interleaved([open_session(model) for _, model, _ in rows], {"x": data["test"]["x"][:1]}, seconds=8)
    whole, right = len(teacher), accuracy(net, data["test"])
    for (name, model, took), timing in zip(rows, timings, strict=True):
        file = to_bytes(model)
        packed, score = packed_bytes(file), accuracy(model, data["test"])
        print(f"| {name} | {len(file)} | {whole / len(file):.2f} | {packed} | {whole / packed:.2f} | {score:.1f} % | "
              f"{right - score:.1f} | {timing.least:.3f} | {timings[0].least / timing.least:.2f} | {took:.0f} |",
              flush=True)  # fmt: skip


FREE = {"min_sqnr": -99.0, "min_speedup": 0.0, "explain": False, "progress": said}
"""Nothing is rolled back: the tables are to show what each step loses."""


def row(label: str, source: Model, model: Model, scoring: Dataset, began: float) -> None:
    """One line of the tables of zoo models: ``model`` against ``source`` on ``scoring``."""
    took = time.perf_counter() - began
    sessions = [open_session(each) for each in (source, model)]
    first, timing = interleaved(sessions, scoring.sample(0), seconds=4)
    left = statistics_of(model)["macs"] / statistics_of(source)["macs"]
    smaller = len(to_bytes(source)) / len(to_bytes(model))
    told = f"{left:.2f}" if left > 0.01 else ""  # products of integers are not counted
    print(f"| {label} | {told} | {smaller:.2f} | {first.least / timing.least:.2f} | "
          f"{scored(*sessions, scoring)} | {took:.0f} |", flush=True)  # fmt: skip


def squeezenet() -> None:
    """squeezenet1.1 with 30 % fewer products: refitted alone, and trained on the calibration half without labels."""
    header("| squeezenet1.1 | MACs left | smaller | faster | SQNR dB | cosine | top-1 | seconds |")
    path, data = model_path("squeezenet1.1"), samples("squeezenet1.1")
    source = qc.load(path)
    infer_types(source)
    _, scoring = split(open_dataset(data, input_specs(source)))
    row("as it came", source, source, scoring, time.perf_counter())
    pruning = ("prune-channels", {"macs": 0.7})
    recovery = {"epochs": 20, "batch": 8, "learning_rate": 3e-5, "flip": True, "crop": 16, "mixup": True}
    for label, front in (("least squares alone", [pruning]), ("and trained", [pruning, ("recover", recovery)])):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            made = qc.compile(path, recipe=recipe_of(folder, "lossless", *front), data=data, metric="top1", **FREE)
            row(label, source, made.model, scoring, began)


def minilm() -> None:
    """minilm-l6 with 30 % fewer hidden units of its feed-forward layers, in int8, trained on unlabelled rows."""
    header("| minilm-l6 | MACs left | smaller | faster | SQNR dB | cosine | | seconds |")
    path = model_path("minilm-l6")
    rows = {key: array for key, array in samples("minilm-l6").items() if key != "label"}
    learn, score = ({key: array[start::2] for key, array in rows.items()} for start in (0, 1))
    few = {key: array[::8] for key, array in learn.items()}
    source = qc.load(path)
    infer_types(source)
    scoring = open_dataset({key: array[::4] for key, array in score.items()}, input_specs(source))
    options = {"data": few, "score": {key: array[1::32] for key, array in score.items()}, **FREE}

    def quantized(label: str, model: Any, began: float) -> None:
        row(label, source, qc.compile(model, recipe="int8", budget=30.0, **options).model, scoring, began)

    quantized("int8", path, time.perf_counter())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_of(folder, "lossless", ("prune-channels", {"ratio": 0.7}))
        pruned = qc.compile(path, recipe=recipe, **options).model
    row("pruned", source, pruned, scoring, began)
    quantized("pruned, int8", to_bytes(pruned), began)
    learned = qc.distill(
        path, to_bytes(pruned), data=learn, score=options["score"], progress=said,
        options={"epochs": 2, "batch": 16, "learning_rate": 1e-4, "features": "auto", "exclude": "embeddings"},
    ).model  # fmt: skip
    row("pruned, trained", source, learned, scoring, began)
    quantized("pruned, trained, int8", to_bytes(learned), began)


if __name__ == "__main__":
    main(sys.argv[1:])
