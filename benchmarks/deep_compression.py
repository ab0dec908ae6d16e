"""Deep Compression (Han et al., 2015) of ONNX files: whole files, coded by entropy, beside what others make of them.

    python -m benchmarks.deep_compression [lenets] [zoo] [kmeans] [speed]

``lenets`` trains LeNet-300-100 and LeNet-5 on the zoo's mnist.npz and compresses them without and with training (needs
torch); ``zoo`` compresses trained models at a limit; ``kmeans`` holds exact k-means against scikit-learn's on their
tensors; ``speed`` packs and unpacks a gigabyte.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import qcompiler as qc
from benchmarks.networks import lenet_5, lenet_300_100
from benchmarks.zoo import model_path, samples, zoo_folder
from qcompiler.compiler import find_recipe, input_specs, passes
from qcompiler.data import open_dataset
from qcompiler.onnx_io import infer_types, to_bytes
from qcompiler.pipeline import Recipe
from qcompiler.storage import pack, unpack

LIMITS = {"squeezenet1.1": 15.0, "minilm-l6": 17.0, "ultraface-rfb320": 38.0, "yolox-nano": 20.0}
"""Decibels on the scoring half."""

COUNTS = {"minilm-l6": 512}


def main(names: list[str]) -> None:
    """Print the tables that are named, or all."""
    tables = {"lenets": lenets, "zoo": zoo, "kmeans": kmeans, "speed": speed}
    for name in names or list(tables):
        tables[name]()


def header(line: str) -> None:
    """The first two lines of a table."""
    print(f"\n{line}")
    print("|---" * (line.count("|") - 1) + "|")


def zoo() -> None:
    """Trained models by the recipe smallest, by k-means of 5 and 6 bits, and what general compressors do."""
    header("| model | how | bytes | smaller | SQNR dB | cosine | accuracy | seconds |")
    for name, limit in LIMITS.items():
        path, data = model_path(name), samples(name, COUNTS.get(name))
        metric = "top1" if name == "squeezenet1.1" else None
        size = path.stat().st_size
        for label, packed in general(path).items():
            print(f"| {name} | {label} | {packed} | {size / packed:.2f} | | | | |", flush=True)
        if name in ("squeezenet1.1", "ultraface-rfb320", "yolox-nano"):
            print(f"| {name} | zstd of quantize_static's int8 | {int8_of(path, data)} | | | | | |", flush=True)
        for label, options in {
            "smallest": {"recipe": "smallest", "min_sqnr": limit, "max_drop": 0.01 if metric else None},
            "k-means, 6 bits": {"recipe": "cluster", "settings": ["cluster-weights.bits=6"], "min_sqnr": -99.0},
            "k-means, 5 bits": {"recipe": "cluster", "settings": ["cluster-weights.bits=5"], "min_sqnr": -99.0},
            "k-means, 6 bits, plain": {
                "recipe": "cluster", "min_sqnr": -99.0,
                "settings": ["cluster-weights.bits=6", "cluster-weights.scaled=false",
                             "cluster-weights.compensate=false", "cluster-weights.sensitivity=false"],
            },
        }.items():  # fmt: skip
            began = time.perf_counter()
            made = qc.compile(path, data=data, metric=metric, min_speedup=0.0, **options)
            took = time.perf_counter() - began
            with tempfile.TemporaryDirectory() as folder:
                made.save(Path(folder) / "build")
                found = pack(Path(folder) / "build" / "model.onnx", Path(folder) / "model.qcz").packed_bytes
            print(
                f"| {name} | {label} | {found} | {size / found:.2f} | {quality(made.report)} | {took:.0f} |", flush=True
            )


def quality(report: dict[str, Any]) -> str:
    """Decibels and cosine of the worst output, and the metric, as cells."""
    outputs = report["quality"]["outputs"].values()
    metric = report["quality"]["metric"]
    accuracy = "" if metric is None else f"{100 * metric['source']:.1f} -> {100 * metric['compiled']:.1f} %"
    worst = min(item["sqnr_db"] if item["sqnr_db"] is not None else 999.0 for item in outputs)
    return f"{worst:.1f} | {min(item['cosine'] for item in outputs):.4f} | {accuracy}"


def general(path: Path) -> dict[str, int]:
    """What zip and zstandard make of the file."""
    import zstandard

    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.write(path)
        zipped = archive.stat().st_size
    return {
        "zip of the float file": zipped,
        "zstd -19 of the float file": len(zstandard.compress(path.read_bytes(), 19)),
    }


def int8_of(path: Path, data: Any) -> int:
    """Bytes of onnxruntime's quantize_static, per channel, after zstandard."""
    import zstandard
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset

    items = iter(list(open_dataset(data, input_specs(qc.load(path)), limit=8)))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(items, None)

    with tempfile.TemporaryDirectory() as folder:
        upgraded, prepared, made = (Path(folder) / name for name in ("up.onnx", "pre.onnx", "int8.onnx"))
        qc.compile(path, recipe="lossless").save(Path(folder) / "up")
        upgraded = Path(folder) / "up" / "model.onnx"
        quant_pre_process(str(upgraded), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return len(zstandard.compress(made.read_bytes(), 19))


def kmeans() -> None:
    """Exact k-means and scikit-learn's with 10 starts: error and time."""
    from sklearn.cluster import KMeans

    from qcompiler.passes.cluster import cluster
    from qcompiler.passes.cluster.layers import layers_of

    header("| model | tensors | clusters | error to scikit-learn's: worst, mean | s per million, ours | theirs |")
    for name in (
        "ultraface-rfb320",
        "cifar10-cnn",
        "mnist-cntk",
        "ppocrv3-det",
        "yolox-nano",
        "squeezenet1.1",
        "selfattn-mnist",
    ):
        layers, _ = layers_of(qc.compile(model_path(name), recipe="lossless").model, 512, None)
        for count in (16, 64):
            ratios, ours, theirs, total = [], 0.0, 0.0, 0
            for layer in layers:
                values = layer.rows.reshape(-1)
                began = time.perf_counter()
                found = cluster(values, count).error
                middle = time.perf_counter()
                peer = KMeans(count, n_init=10, random_state=0).fit(values[:, None]).inertia_
                ours, theirs = ours + middle - began, theirs + time.perf_counter() - middle
                total += values.size
                ratios.append(found / peer if peer else 1.0)
            print(f"| {name} | {len(layers)} | {count} | {max(ratios):.5f}, {np.mean(ratios):.4f} | "
                  f"{ours / total * 1e6:.2f} | {theirs / total * 1e6:.1f} |", flush=True)  # fmt: skip


def speed() -> None:
    """A gigabyte of clustered weights through the container: time on one core, and memory."""
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    header("| what | MB/s in | MB/s out | smaller | MiB above the start |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "build"
        folder.mkdir()
        tensors, start = [], 0
        with (folder / "model.onnx.data").open("wb") as file:
            for number in range(16):
                kind = number % 4
                size = 1 << 26
                for _ in range(16):  # 4 MiB at a time
                    draw = random.standard_normal(1 << 22, np.float32)
                    if kind == 0:  # even levels of 4 bits of entropy
                        file.write(np.clip(np.rint(draw * 4.5), -127, 127).astype(np.int8).tobytes())
                    elif kind == 1:  # indices of 4 bits, packed
                        low, high = np.clip(np.rint(draw * 2 + 7.5), 0, 15).astype(np.uint8).reshape(2, -1)
                        file.write(np.concatenate([low | high << 4] * 2).tobytes())
                    elif kind == 2:  # nine tenths of zeros
                        file.write(np.where(np.abs(draw) > 1.64, np.rint(draw * 4), 0).astype(np.int8).tobytes())
                    else:
                        file.write((draw[: 1 << 20] * 0.05).tobytes())
                types = (TensorProto.INT8, TensorProto.UINT4, TensorProto.INT8, TensorProto.FLOAT)
                tensor = TensorProto(name=f"w{number}", data_type=types[kind], data_location=TensorProto.EXTERNAL)
                tensor.dims.append(size * (2 if kind == 1 else 1) // (4 if kind == 3 else 1))
                for key, value in {"location": "model.onnx.data", "offset": start, "length": size}.items():
                    tensor.external_data.add(key=key, value=str(value))
                tensors.append(tensor)
                start += size
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y], tensors)
        (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
        before = peak()
        began = time.thread_time()
        found = pack(folder, Path(name) / "model.qcz")
        middle = time.thread_time()
        back = Path(name) / "back"
        back.mkdir()
        unpack(Path(name) / "model.qcz", back)
        end = time.thread_time()
        grown = peak() - before
        assert all((back / item.name).read_bytes() == item.read_bytes() for item in folder.iterdir())
        rates = [found.bytes / 1e6 / seconds for seconds in (middle - began, end - middle)]
        what = f"{found.bytes / 1e9:.2f} GB: int8, packed uint4, sparse int8, float32"
        print(f"| {what} | {rates[0]:.0f} | {rates[1]:.0f} | {found.ratio:.2f} | {grown} |", flush=True)


def peak() -> int:
    """Most memory that this process has held so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def lenets() -> None:
    """LeNet-300-100 and LeNet-5, trained here from ONNX files; compressed with and without training."""
    header("| network | how | bytes | smaller | test accuracy | seconds |")
    with np.load(zoo_folder() / "data" / "mnist.npz") as held:
        parts = {
            part: {"x": held[f"{part}_images"].astype(np.float32)[:, None] / 255,
                   "label": held[f"{part}_labels"].astype(np.int64)}
            for part in ("train", "test")
        }  # fmt: skip
    learn = parts["train"]
    for network, built in (("LeNet-300-100", lenet_300_100()), ("LeNet-5", lenet_5())):
        began = time.perf_counter()
        model = trained(built, learn)
        whole, size = accuracy(qc.compile(model, recipe="lossless"), parts["test"]), len(model)
        took = time.perf_counter() - began
        print(f"| {network} | float32 | {size} | 1.00 | {100 * whole:.2f} % | {took:.0f} |", flush=True)
        for how, choice in CHOICES.items():
            began = time.perf_counter()
            used = learn if how.startswith("zeros") else {key: array[::4] for key, array in learn.items()}
            packed, made = compressed(model, used, choice)
            took = time.perf_counter() - began
            right = accuracy(made, parts["test"])
            print(
                f"| {network} | {how} | {packed} | {size / packed:.1f} | {100 * right:.2f} % | {took:.0f} |", flush=True
            )


CLUSTERED = {"codebook": "even", "least": 16}
LEARNED = {"batch": 64, "labels": 0.5, "loss": "mse", "crop": 2, "hold_out": 0.0}
CHOICES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    f"levels at {limit:g} dB, without training": [("cluster-weights", CLUSTERED | {"sqnr": limit})]
    for limit in (26.0, 18.0)
} | {
    f"zeros {100 * sparsity:g} %, levels at {limit:g} dB, trained": [
        ("recover", LEARNED | {"sparsity": sparsity, "epochs": 30, "learning_rate": 2e-3}),
        ("cluster-weights", CLUSTERED | {"sqnr": limit}),
        ("recover", LEARNED | {"epochs": 10, "learning_rate": 1e-3}),
    ]
    for sparsity, limit in ((0.9, 22.0), (0.94, 20.0), (0.96, 18.0))
}  # fmt: skip
"""Fewer and fewer weights, trained; coarser and coarser levels; and trained again. Nothing is chosen by the result."""


def compressed(model: bytes, data: dict[str, Any], choice: list[tuple[str, dict[str, Any]]]) -> tuple[int, Any]:
    """Bytes of the container, and what was compiled."""
    known = passes()
    lossless = [item for item in find_recipe("lossless").passes if item.lossless]
    lossy = [known[name].configured(options) for name, options in choice]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(Recipe("benchmark", (*lossless, *lossy), "", True, pack=True).to_toml())
        few = {key: array[::16] for key, array in data.items()}
        made = qc.compile(
            model, recipe=path, data=data, score=few, min_sqnr=-99.0, min_speedup=0.0, explain=False
        )  # fmt: skip
        made.save(Path(folder) / "build")
        return (Path(folder) / "build" / "model.qcz").stat().st_size, made


def accuracy(made: Any, data: dict[str, Any]) -> float:
    """Share of right answers."""
    images, labels = data["x"], data["label"]
    scores = [made.run({"x": images[start : start + 100]})["y"] for start in range(0, len(images), 100)]
    return float((np.concatenate(scores).argmax(axis=1) == labels).mean())


def trained(model: bytes, data: dict[str, Any]) -> bytes:
    """The network after 30 epochs on the labels, images shifted by up to two pixels."""
    from qcompiler.training.loop import train
    from qcompiler.training.settings import Settings

    net = qc.load(model)
    infer_types(net)
    settings = Settings(epochs=30, batch=64, learning_rate=2e-3, labels=1.0, crop=2, hold_out=0.0)
    train(net, None, open_dataset(data, input_specs(net)), settings)
    return to_bytes(net)


if __name__ == "__main__":
    main(sys.argv[1:])
