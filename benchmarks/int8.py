"""Static int8 of qcompiler beside quantize_static of onnxruntime: same data, same run, one thread, interleaved.

    python -m benchmarks.int8 [MODEL ...]

quantize_static: uint8 activations, int8 weights per channel, min-max, Q/DQ, after quant_pre_process where that works.
Even samples calibrate, odd ones score.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import qcompiler as qc
from benchmarks.zoo import MODELS, model_path, samples
from qcompiler.compiler import input_specs
from qcompiler.data import Dataset, open_dataset, split
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session
from qcompiler.search import Quality, interleaved

SAMPLES = {"squeezenet1.1": None, "squeezenet1.1-fp16": 64, "minilm-l6": 64, "mnist-cntk": 400, "selfattn-mnist": 400,
           "cifar10-cnn": 400, "silero-vad": 128}  # fmt: skip


def main(names: list[str]) -> None:
    """Print three lines for each of ``names``, or for all."""
    print(f"{'model':22}{'what':24}{'SQNR dB':>9}{'agree':>8}{'ms':>9}{'speedup':>9}{'seconds':>9}")
    for name in names or list(MODELS):
        path, data = model_path(name), samples(name, SAMPLES.get(name, 64))
        calibration, scoring = split(open_dataset(data, input_specs(qc.load(path))))
        began = time.perf_counter()
        result = qc.compile(path, recipe="int8", data=data)
        spent = time.perf_counter() - began
        source = Session(path)
        sessions, labels, seconds = [source, open_session(result.model)], ["float", "qcompiler int8"], [0.0, spent]
        began = time.perf_counter()
        try:
            sessions.append(_quantize_static(path, calibration))
            labels.append("quantize_static")
            seconds.append(time.perf_counter() - began)
        except Exception as error:
            print(f"{name:22}quantize_static raised {type(error).__name__}: {str(error).splitlines()[0][:80]}")
        quality = [Quality() for _ in sessions]
        for sample in scoring:
            expected = source.run(sample)
            for item, session in zip(quality, sessions, strict=True):
                item.add(expected, session.run(sample))
        timings = interleaved(sessions, next(iter(scoring)), seconds=8)
        for label, item, timing, took in zip(labels, quality, timings, seconds, strict=True):
            agreed = "-" if item.agreement is None else f"{item.agreement:.3f}"
            print(f"{name:22}{label:24}{item.sqnr_db:9.2f}{agreed:>8}{timing.least:9.3f}"
                  f"{timings[0].least / timing.least:9.2f}{took:9.1f}", flush=True)  # fmt: skip
        print(f"    {result.report['decision']['reason'] if 'decision' in result.report else ''}")


class _Reader:
    """What quantize_static wants to read from."""

    def __init__(self, data: Dataset) -> None:
        self.rows = iter(data)

    def get_next(self) -> Any:
        return next(self.rows, None)


def _quantize_static(path: Path, calibration: Dataset) -> Session:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        upgraded = _at_opset_17(path, Path(folder) / "upgraded.onnx")
        try:
            with contextlib.chdir(folder):  # it leaves a file where it stands
                quant_pre_process(str(upgraded), str(prepared))
        except Exception:
            prepared = upgraded
        quantize_static(str(prepared), str(made), _Reader(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
        return Session(made)


def _at_opset_17(path: Path, upgraded: Path) -> Path:
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
