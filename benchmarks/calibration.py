"""Time and memory of calibrating and quantizing squeezenet1.1 with percentile ranges on 125 images, beside
quantize_static; peak memory on 50 and on 1,000 samples; and the same ranges whatever the batches, order and workers.

    python -m benchmarks.calibration

Each figure is that of a process of its own, with its data in memory before the clock starts.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo import model_path, samples

_COMMON = """
import sys, time
import numpy as np
from qcompiler.compiler import peak_rss
images = np.load(sys.argv[2])["data_0"][: int(sys.argv[3])]
rows = [{"data_0": images[i : i + 1]} for i in range(len(images))]
"""

_OURS = (
    _COMMON
    + """
from qcompiler.compiler import find_target, input_specs
from qcompiler.data import open_dataset
from qcompiler.onnx_io import infer_types, load, save, upgrade_opset
from qcompiler.passes.quantize import QuantizeStatic
from qcompiler.pipeline import PassContext
before, start = peak_rss(), time.perf_counter()
model = load(sys.argv[1]); upgrade_opset(model); infer_types(model)
context = PassContext(data=open_dataset(rows, input_specs(model)), target=find_target("ort-cpu"))
QuantizeStatic(ranges="percentile").run(model, context)
plan = {group: forms[0] for group, forms in context.facts["forms"].items()}
save(context.target.lower(model, plan), sys.argv[4])
print(time.perf_counter() - start, before / 2**20, peak_rss() / 2**20)
"""
)

_THEIRS = (
    _COMMON
    + """
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
class Reader:
    def __init__(self): self.rows = iter(rows)
    def get_next(self): return next(self.rows, None)
before, start = peak_rss(), time.perf_counter()
quantize_static(sys.argv[1], sys.argv[4], Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile)
print(time.perf_counter() - start, before / 2**20, peak_rss() / 2**20)
"""
)


def main() -> None:
    """Print the table and the digests."""
    from benchmarks.quantization import at_opset_17

    images = samples("squeezenet1.1", 125)["data_0"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calib.npz"
        np.savez(path, data_0=np.concatenate([images] * 8))
        source = at_opset_17(model_path("squeezenet1.1"), Path(folder) / "source.onnx")
        print("| what | samples | seconds | MiB before | MiB at most | above |\n|---|---|---|---|---|---|")
        found: dict[tuple[str, int], tuple[float, float]] = {}
        for label, code, count in [
            ("quantize_static", _THEIRS, 125), ("qcompiler", _OURS, 125), ("qcompiler", _OURS, 50),
            ("qcompiler", _OURS, 1000),
        ]:  # fmt: skip
            words = [sys.executable, "-c", code, str(source), str(path), str(count), str(Path(folder) / "made.onnx")]
            text = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            seconds, before, peak = map(float, text.split())
            found[label, count] = seconds, peak - before
            print(
                f"| {label} | {count} | {seconds:.2f} | {before:.0f} | {peak:.0f} | {peak - before:.0f} |", flush=True
            )
    theirs, ours = found["quantize_static", 125], found["qcompiler", 125]
    flat = found["qcompiler", 1000][1] / found["qcompiler", 50][1]
    print(f"{theirs[0] / ours[0]:.1f} times as fast, {ours[1] / theirs[1]:.3f} of the memory above the data; "
          f"1,000 samples take {flat:.2f} of that of 50")  # fmt: skip
    _same_ranges()


def _same_ranges() -> None:
    """A model with a dynamic batch: the same 120 samples one at a time, by 8, by 7 and one, shuffled, by workers."""
    from qcompiler.calibrate import collect
    from qcompiler.compiler import find_target
    from qcompiler.onnx_io import infer_types, load, upgrade_opset

    model = load(model_path("cifar10-cnn"))
    upgrade_opset(model)
    infer_types(model)
    target = find_target("ort-cpu")
    values = target.observed(model, target.groups(model)[0])
    images = samples("cifar10-cnn", 120)["modelInput"]
    order = np.random.default_rng(0).permutation(len(images))

    def show(label: str, cuts: Any, images: Any = images, **options: Any) -> None:
        found = collect(model, values, [{"modelInput": part} for part in np.split(images, list(cuts))], **options)
        digest = hashlib.sha256()
        for value in values:
            seen = found[value]
            digest.update(seen.codes.tobytes() + seen.counts.tobytes() + repr((seen.minmax(), seen.average())).encode())
        print(f"{label:20} ranges {digest.hexdigest()[:16]}")

    show("batches of 1", range(1, 120))
    show("batches of 8", range(8, 120, 8))
    show("batches of 7", range(7, 120, 7))
    show("shuffled, 60", [60], images[order])
    for workers in (1, 2):
        with ProcessPoolExecutor(workers) as pool:
            show(f"{workers} workers", range(1, 120), executor=pool)


if __name__ == "__main__":
    main()
