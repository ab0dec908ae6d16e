"""Quality of ``ort-cuda`` beside ``ort-cpu``, same recipe and data, without a card: ``python -m benchmarks.cuda``.

The executor runs kernels by their numpy references, whose numbers are those of a card, and rounds float16 as a card
does. Times are not measured here;
``python -m benchmarks.gpu`` does that where there is a card.
"""

from __future__ import annotations

import sys
import time

import qcompiler as qc
from benchmarks.zoo import model_path, samples

MODELS = {"squeezenet1.1": "top1", "ultraface-rfb320": None, "minilm-l6": None, "yolox-nano": None}


def row(name: str, target: str, count: int | None) -> None:
    begin = time.perf_counter()
    options = {"arch": ["none"]} if target == "ort-cuda" else {}
    made = qc.compile(
        model_path(name), target=target, recipe="int8", data=samples(name, count), metric=MODELS[name], **options
    )
    report = made.report
    quality = ", ".join(f"{item['sqnr_db']:.1f} dB" for item in report["quality"]["outputs"].values())
    cosine = min(item["cosine"] for item in report["quality"]["outputs"].values())
    metric = report["quality"]["metric"]
    top = "" if metric is None else f", {metric['source']:.1%} -> {metric['compiled']:.1%}"
    placed = report.get("placement", [])
    ours = sum(item["runs_on"] == "kernel" for item in placed)
    kernels = f", {ours} of {len(placed)} nodes are kernels" if placed else ""
    reason = report["decision"]["reason"].split(",")[0]
    seconds = time.perf_counter() - begin
    print(f"{name:18} {target:9} {quality}, cosine {cosine:.4f}{top}; {reason}{kernels}; {seconds:.0f} s", flush=True)


def main() -> None:
    names = [name for name in sys.argv[1:] if name in MODELS] or list(MODELS)
    for name in names:
        for target in ("ort-cpu", "ort-cuda"):
            row(name, target, 256 if name == "minilm-l6" else None)


if __name__ == "__main__":
    main()
