"""int8 of qcompiler beside the quantizers of onnxruntime and NNCF: same data, same run, one thread, interleaved.

    python -m benchmarks.quantization [MODEL ...]

NNCF with OpenVINO is there where both are installed (the extra ``peers``). OpenVINO works on a thread of its own, so
that its rows are timed in turn with float onnxruntime by the wall's clock; their speed-up is against that.

quantize_static: uint8 activations, int8 weights per channel, Q/DQ, after quant_pre_process where that works.
Even samples calibrate, odd ones score.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import qcompiler as qc
from benchmarks.zoo import MODELS, model_path, samples, zoo_folder
from qcompiler.compiler import input_specs
from qcompiler.data import Dataset, open_dataset, split
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session, interleaved
from qcompiler.search import Accuracy, Quality

SAMPLES = {"squeezenet1.1": None, "squeezenet1.1-fp16": 64, "minilm-l6": 256, "mnist-cntk": 400, "selfattn-mnist": 400,
           "cifar10-cnn": 400, "silero-vad": 128}  # fmt: skip


LIMITS = {"squeezenet1.1": 20.0, "ultraface-rfb320": 38.0, "yolox-nano": 18.0, "ppocrv3-det": 18.0, "minilm-l6": 18.5}
"""Decibels asked of ours, where it is not 25."""


def main(names: list[str]) -> None:
    """Print a block of lines for each of ``names``, or for all."""
    print("| model | what | SQNR dB | cosine | same answer | accuracy | ms | speed-up | seconds to make |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names or list(MODELS):
        path, data = model_path(name), samples(name, SAMPLES.get(name, 64))
        calibration, scoring = split(open_dataset(data, input_specs(qc.load(path))))
        source = Session(path)
        sessions, seconds, failed = {"float": source}, {"float": 0.0}, {}

        def ours(path: Path = path, name: str = name, data: Any = data) -> Session:
            return open_session(qc.compile(path, recipe="int8", data=data, min_sqnr=LIMITS.get(name, 25.0)).model)

        makers: dict[str, Callable[[], Session]] = {
            "qcompiler": ours,
            "quantize_static min-max": lambda path=path, data=calibration: _quantize_static(path, data, "MinMax"),
            "quantize_static percentile": lambda path=path, data=calibration: _quantize_static(
                path, data, "Percentile"
            ),
            "quantize_dynamic": lambda path=path: _quantize_dynamic(path),
        }
        if find_spec("nncf") and find_spec("openvino"):
            makers["OpenVINO float"] = lambda path=path: OpenVino(path)
            makers["NNCF, OpenVINO"] = lambda path=path, data=calibration: OpenVino(path, data)
        for label, make in makers.items():
            began = time.perf_counter()
            try:
                sessions[label] = make()
                sessions[label].run(scoring.sample(0))
            except Exception as error:
                sessions.pop(label, None)
                failed[label] = f"{type(error).__name__}: {str(error).splitlines()[0][:70]}"
            seconds[label] = time.perf_counter() - began
        quality = {label: Quality() for label in sessions}
        for sample in scoring:
            expected = source.run(sample)
            for label, session in sessions.items():
                quality[label].add(expected, session.run(sample))
        first = next(iter(scoring))
        own = {label: session for label, session in sessions.items() if session.threads == 1}
        times = dict(zip(own, interleaved(list(own.values()), first, seconds=8), strict=True))
        speedups = {label: times["float"].least / timing.least for label, timing in times.items()}
        for label, session in sessions.items():
            if label not in times:
                wall, times[label] = interleaved([source, session], first, seconds=4)
                speedups[label] = wall.least / times[label].least
        for label, session in sessions.items():
            found = quality[label]
            outputs = list(found.outputs.values())
            decibels = " and ".join(f"{item.sqnr_db:.1f}" for item in outputs)
            cosine = min(item.cosine for item in outputs)
            agreed = "" if found.agreement is None else f"{100 * found.agreement:.1f} %"
            share = accuracy(name, session, scoring)
            right = "" if share is None else f"{100 * share:.1f} %"
            print(f"| {name} | {label} | {decibels} | {cosine:.4f} | {agreed} | {right} | {times[label].least:.3f} | "
                  f"{speedups[label]:.2f} | {seconds[label]:.1f} |", flush=True)  # fmt: skip
        for label, reason in failed.items():
            print(f"| {name} | {label} | {reason} | | | | | | |", flush=True)


def accuracy(name: str, session: Session, scoring: Dataset | None = None) -> float | None:
    """Share of right answers: top-1 on the labels, or the nearest class centre for sentence embeddings."""
    if name == "minilm-l6":
        data = np.load(zoo_folder() / "data" / "agnews-minilm.npz")
        rows = [
            session.run({key: data[key][i : i + 1] for key in ("input_ids", "attention_mask")}) for i in range(2000)
        ]
        vectors = np.concatenate([next(iter(row.values())) for row in rows])
        labels = data["label"]
        centres = np.stack([vectors[:1000][labels[:1000] == kind].mean(0) for kind in range(4)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        return float(((vectors[1000:] @ centres.T).argmax(1) == labels[1000:]).mean())
    if scoring is None or scoring.labels is None:
        return None
    return Accuracy("top1").score([session.run(sample) for sample in scoring], scoring.labels)


class OpenVino(Session):
    """A model in OpenVINO, quantized by NNCF when there is data; one thread, which is not the caller's."""

    def __init__(self, path: Path, data: Dataset | None = None) -> None:
        import openvino

        model = openvino.Core().read_model(str(path))
        if data is not None:
            import nncf

            model = nncf.quantize(model, nncf.Dataset(list(data)), subset_size=len(data))
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        made = openvino.compile_model(model, "CPU", options)
        self.request = made.create_infer_request()
        self.names = [item.get_any_name() for item in made.outputs]
        self.threads = 0  # not ours: the wall's clock has to be taken

    def run(self, feeds: Any, outputs: Any = None) -> dict[str, Any]:
        self.request.infer(dict(feeds))
        return {name: self.request.get_tensor(name).data.copy() for name in self.names}

    def prepared(self, feeds: Any) -> Any:
        held = dict(feeds)
        return lambda: self.request.infer(held)


class _Reader:
    """What quantize_static wants to read from."""

    def __init__(self, data: Dataset) -> None:
        self.rows = iter(data)

    def get_next(self) -> Any:
        return next(self.rows, None)


def _quantize_static(path: Path, calibration: Dataset, method: str) -> Session:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        upgraded = at_opset_17(path, Path(folder) / "upgraded.onnx")
        try:
            with contextlib.chdir(folder):  # it leaves a file where it stands
                quant_pre_process(str(upgraded), str(prepared))
        except Exception:
            prepared = upgraded
        quantize_static(
            str(prepared), str(made), _Reader(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod[method],
        )  # fmt: skip
        return Session(made)


def _quantize_dynamic(path: Path) -> Session:
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        quantize_dynamic(str(path), str(Path(folder) / "int8.onnx"))
        return Session(Path(folder) / "int8.onnx")


def at_opset_17(path: Path, upgraded: Path) -> Path:
    """Old files as quantize_static needs them for weights per channel: operator set 17, initializers no inputs."""
    import onnx
    from onnx import version_converter

    model = onnx.load(str(path))
    if model.opset_import[0].version >= 13:
        return path
    constants = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = 8
    onnx.save(version_converter.convert_version(model, 17), str(upgraded))
    return upgraded


if __name__ == "__main__":
    main(sys.argv[1:])
