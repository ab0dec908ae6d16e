"""Compile the small model that comes with the project to int8, and print what that gained and lost.

Run it with ``make demo``. The model is calibrated on models/digits-calib.npz and scored here on
models/digits-test.npz, which neither training nor calibration has seen.
"""

from __future__ import annotations

from pathlib import Path

import qcompiler as qc
from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.onnx_io import open_session
from qcompiler.progress import Step
from qcompiler.runtime import Session, interleaved
from qcompiler.search import find_metric

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "digits-resnet.onnx"
OUTPUT = ROOT / "demo-build"


def compile_demo(min_speedup: float) -> qc.Result:
    """The model that comes along, in int8 where it keeps the accuracy and is ``min_speedup`` times as fast."""
    return qc.compile(
        MODEL,
        data=ROOT / "models" / "digits-calib.npz",
        metric="top1",
        max_drop=0.005,
        min_speedup=min_speedup,
        progress=lambda text: None if isinstance(text, Step) else print(f"  {text}"),
    )


def main() -> None:
    """Compile, score on the test part, print a table."""
    result = compile_demo(1.0)
    if result.report["decision"]["kept"] == "float":
        reason = result.report["decision"]["reason"]
        print(f"\nOn this processor int8 does not pay: {reason}.")
        print("The model would stay float; for its size alone, then:\n")
        result = compile_demo(0.0)
    result.save(OUTPUT, force=True)
    test = open_dataset(ROOT / "models" / "digits-test.npz", input_specs(qc.load(MODEL)))
    sessions, metric = [Session(MODEL), open_session(result.model)], find_metric("top1")
    accuracy = [metric.score([session.run(sample) for sample in test], test.labels) for session in sessions]
    before, after = interleaved(sessions, test.sample(0))
    size = result.report["size"]
    rows = [
        ("accuracy on 400 test images", *(f"{share:.2%}" for share in accuracy)),
        ("size", f"{size['source_bytes'] / 1e6:.2f} MB", f"{size['compiled_bytes'] / 1e6:.2f} MB"),
        ("time of one image, one thread", f"{before.least:.3f} ms", f"{after.least:.3f} ms"),
    ]
    print(f"\n{'':32}{'before':>12}{'after':>12}")
    for name, was, now in rows:
        print(f"{name:32}{was:>12}{now:>12}")
    ratio = before.least / after.least
    print(f"\n{size['ratio']:.1f} x smaller, {ratio:.2f} x faster; {result.report['decision']['reason']}.")
    print(f"Everything that was done and measured: {OUTPUT.relative_to(ROOT)}/report.html")


if __name__ == "__main__":
    main()
