"""Engines for TensorRT, ours beside the peers': ``python -m benchmarks.tensorrt [MODEL ...] [--modelopt PYTHON]``.

Each file is built with TensorRT for RTX for three architectures, on a machine without a card, and read back: products
that are written to multiply in int8 (both factors behind a DequantizeLinear) and those found so, launches, and launches
that only change type or layout. Quality is that of the file in onnxruntime's CPU provider without optimizations, on
samples that did not calibrate. ``--modelopt`` names a Python that has nvidia-modelopt[onnx] and its own versions of
onnx; ``--peers FOLDER`` keeps what peers made.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import qcompiler as qc
from benchmarks.zoo import model_path, samples
from qcompiler.compiler import input_specs, name_all
from qcompiler.data import open_dataset, split
from qcompiler.ir import Model
from qcompiler.lower import TensorRt
from qcompiler.lower.tensorrt import build_engines, engine_record
from qcompiler.lower.tensorrt.cost import eight_bits
from qcompiler.lower.tensorrt.deployment import build_settings, write_settings
from qcompiler.lower.tensorrt.profiles import profile_of_samples
from qcompiler.onnx_io import infer_types, load, save
from qcompiler.search import Quality

MODELS: dict[str, dict[str, Any]] = {
    "squeezenet1.1": {"count": None, "metric": "top1"},
    "yolox-nano": {"count": 64, "min_sqnr": 18},
    "ultraface-rfb320": {"count": None},
    "cifar10-cnn": {"count": 400, "min_speedup": 0.0},
    "ppocrv3-det": {"count": 64, "min_sqnr": 18,
                    "settings": ["tensorrt.profile=x:1x3x64x64,1x3x416x416,1x3x960x960"]},
    "minilm-l6": {"count": 128, "min_sqnr": 18.5},
}  # fmt: skip

MODELOPT = """
import sys, numpy as np
from modelopt.onnx.quantization import quantize
source, data, target, kind = sys.argv[1:]
quantize(source, quantize_mode="int8", calibration_data=dict(np.load(data)), calibration_method="max",
         calibration_eps=["cpu"], high_precision_dtype=kind, output_path=target)
"""


def engines(model: Model, feeds: list[dict[str, Any]]) -> list[str]:
    """One line an architecture, or why there is no engine."""
    infer_types(model)
    name_all(model)
    planned = [node.name for node in model.graph if eight_bits(node)]
    shapes = profile_of_samples(model, feeds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(model, folder / "model.onnx")
        write_settings(folder, build_settings(shapes, TensorRt().cards, False, "model.onnx"))
        built = build_engines(folder)
        lines = [problem[:160] for problem in built.problems]
        for engine in built.engines:
            found = engine_record(engine, planned)
            lines.append(
                f"{engine.architecture}: {found['found']} of {found['planned']} planned in int8,"
                f" {found['layers']} launches, {found['products']} products ({found['int8']} int8),"
                f" {found['reformats']} reformats"
            )
        return lines


def decibels(model: Path | Model, source: str, feeds: list[dict[str, Any]]) -> str:
    from qcompiler.runtime import Session

    quality = Quality()
    exact = Session(model_path(source))
    session = TensorRt().open(load(model) if isinstance(model, Path) else model, 1)
    for feed in feeds:
        quality.add(exact.run(feed), session.run(feed))
    return ", ".join(f"{item.sqnr_db:.1f} dB (cosine {item.cosine:.4f})" for item in quality.outputs.values())


def static_of(name: str, feeds: list[dict[str, Any]], target: Path) -> None:
    """What quantize_static makes for TensorRT: symmetric int8 on both sides, per channel, biases float."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter(feeds)

        def get_next(self) -> Any:
            return next(self.feeds, None)

    ready = plain(name, target.with_suffix(".plain.onnx"))
    prepared = target.with_suffix(".pre.onnx")
    quant_pre_process(str(ready), str(prepared), skip_symbolic_shape=True)
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    quantize_static(
        str(prepared), str(target), Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8, per_channel=True, extra_options=options,
    )  # fmt: skip


def plain(name: str, target: Path) -> Path:
    """The model in operator set 13 or later and without initializers among its inputs, which both peers need."""
    proto = onnx.load(str(model_path(name)))
    held = {item.name for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in held]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, 8)
    if proto.opset_import[0].version < 13:
        proto = onnx.version_converter.convert_version(proto, 13)
    onnx.save(proto, str(target))
    return target


def modelopt_of(python: str, name: str, feeds: list[dict[str, Any]], target: Path) -> str:
    """What ModelOpt makes, and in which type the rest is; float32 where its float16 fails."""
    data = target.with_suffix(".npz")
    np.savez(data, **{key: np.concatenate([feed[key] for feed in feeds]) for key in feeds[0]})
    source = plain(name, target.with_suffix(".plain.onnx"))
    why = ""
    for kind in ("fp16", "fp32"):
        words = [python, "-c", MODELOPT, str(source), str(data), str(target), kind]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0 and target.is_file():
            return kind
        why = (done.stderr.strip().splitlines() or ["no reason"])[-1]
    raise RuntimeError(why)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", choices=[*MODELS, []])
    parser.add_argument("--modelopt", metavar="PYTHON")
    parser.add_argument("--peers", type=Path)
    given = parser.parse_args()
    folder = given.peers or Path(tempfile.mkdtemp(prefix="peers-"))
    for name in given.models or MODELS:
        options = dict(MODELS[name])
        arrays = samples(name, options.pop("count"))
        begin = time.perf_counter()
        made = qc.compile(model_path(name), target="tensorrt", recipe="int8", data=arrays, **options)
        report = made.report
        said = f"{report['decision']['reason'].split(',')[0]}, {time.perf_counter() - begin:.0f} s"
        print(f"{name}\n  qcompiler: {decibels_of(report)}; {said}", flush=True)
        for item in report["tensorrt"]["engines"]:
            print(
                f"    {item['architecture']}: {item['found']} of {item['planned']} planned in int8,"
                f" {item['layers']} launches, {item['products']} products ({item['int8']} int8),"
                f" {item['reformats']} reformats", flush=True
            )  # fmt: skip
        dataset = open_dataset(arrays, input_specs(load(model_path(name))))
        calibration, scoring = split(dataset)
        feeds = [calibration.sample(len(calibration) * i // 16) for i in range(min(16, len(calibration)))]
        others = [scoring.sample(len(scoring) * i // 32) for i in range(min(32, len(scoring)))]
        for peer in ("quantize_static", "modelopt"):
            if peer == "modelopt" and not given.modelopt:
                continue
            target = folder / f"{name}.{peer}.onnx"
            kind = ""
            try:
                if not target.is_file():
                    if peer == "modelopt":
                        kind = " " + modelopt_of(given.modelopt, name, feeds, target)
                    else:
                        static_of(name, feeds, target)
                print(f"  {peer}{kind}: {decibels(target, name, others)}", flush=True)
                for line in engines(load(target), feeds):
                    print(f"    {line}", flush=True)
            except Exception as error:  # a peer's failure is a result
                print(f"  {peer}: {type(error).__name__}: {str(error).splitlines()[0][:160]}", flush=True)


def decibels_of(report: dict[str, Any]) -> str:
    outputs = report["quality"]["outputs"].values()
    metric = report["quality"]["metric"]
    top = "" if metric is None else f", {metric['source']:.1%} -> {metric['compiled']:.1%}"
    return ", ".join(f"{item['sqnr_db']:.1f} dB (cosine {item['cosine']:.4f})" for item in outputs) + top


if __name__ == "__main__":
    main()
