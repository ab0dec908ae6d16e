"""Peak memory of calibrating squeezenet1.1 on 50 samples and on 1,000, each in a process of its own, and the ranges
of one file cut into batches in different ways.

    python -m benchmarks.calibration_memory
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.zoo import model_path, samples

_CHILD = """
import hashlib, sys
from qcompiler.calibrate import collect
from qcompiler.compiler import find_target, input_specs, peak_rss
from qcompiler.data import open_dataset
from qcompiler.onnx_io import infer_types, load, upgrade_opset
model = load(sys.argv[1]); upgrade_opset(model); infer_types(model)
target = find_target("ort-cpu")
values = target.observed(model, target.groups(model)[0])
found = collect(model, values, open_dataset(sys.argv[2], input_specs(model), limit=int(sys.argv[3])))
digest = hashlib.sha256()
for value in values:
    seen = found[value]
    digest.update(repr((value.name, seen.minmax(), seen.count)).encode() + seen.codes.tobytes() + seen.counts.tobytes())
print(peak_rss() / 2**20, digest.hexdigest()[:16])
"""


def main() -> None:
    """Print the peaks and their ratio."""
    images = samples("squeezenet1.1", 125)["data_0"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calib.npz"
        np.savez(path, data_0=np.concatenate([images] * 8))
        peaks = {}
        for count in (50, 1000):
            words = [sys.executable, "-c", _CHILD, str(model_path("squeezenet1.1")), str(path), str(count)]
            peak, digest = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
            peaks[count] = float(peak)
            print(f"{count:5} samples: peak {float(peak):.1f} MiB, ranges {digest}", flush=True)
        print(f"ratio {peaks[1000] / peaks[50]:.3f}")
    _batches()


def _batches() -> None:
    """A model with a dynamic batch: the same 120 samples one at a time, by 8, by 7 and one, shuffled."""
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
    for label, cuts in {"1": range(1, 120), "8": range(8, 120, 8), "7": range(7, 120, 7), "shuffled, 60": [60]}.items():
        parts = np.split(images[order] if label.startswith("shuffled") else images, list(cuts))
        found = collect(model, values, [{"modelInput": part} for part in parts])
        digest = hashlib.sha256()
        for value in values:
            digest.update(
                found[value].codes.tobytes() + found[value].counts.tobytes() + repr(found[value].minmax()).encode()
            )
        print(f"batches of {label:14} ranges {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
