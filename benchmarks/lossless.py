"""Every zoo model through the lossless recipe: nodes, difference of outputs, and time against the source.

python -m benchmarks.lossless [MODEL ...]
"""

from __future__ import annotations

import sys

import qcompiler as qc
from benchmarks.zoo import MODELS, model_path, samples
from qcompiler.data import open_dataset
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session, interleaved


def main(names: list[str]) -> None:
    """Print a line for each of ``names``, or for all."""
    print(f"{'model':22}{'nodes':>14}{'difference':>14}{'source ms':>12}{'ours ms':>10}{'ratio':>8}")
    for name in names or list(MODELS):
        data = samples(name, 8)
        result = qc.compile(model_path(name), recipe="lossless", data=data)
        source, ours = Session(model_path(name)), open_session(result.model)
        fed = list(open_dataset(data, source.inputs, limit=8))
        worst, largest = 0.0, 0.0  # over all samples together: one of them may hold nothing but a sigmoid's 1e-8
        for feeds in fed:
            expected, found = source.run(feeds), ours.run(feeds)
            for key in expected:
                a, b = expected[key].astype("f8"), found[key].astype("f8")
                worst, largest = max(worst, abs(a - b).max()), max(largest, abs(a).max())
        worst /= largest
        before, after = interleaved([source, ours], fed[0], seconds=6)
        nodes = f"{result.report['source']['nodes']} -> {result.report['compiled']['nodes']}"
        ratio = after.least / before.least
        print(f"{name:22}{nodes:>14}{worst:14.2e}{before.least:12.3f}{after.least:10.3f}{ratio:8.3f}", flush=True)
        for text in result.report["warnings"]:
            print(f"    {text}")


if __name__ == "__main__":
    main(sys.argv[1:])
