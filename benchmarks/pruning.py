"""Pruning without training: what is left of real models, by criterion, amount and time.

    python -m benchmarks.pruning [criteria] [times] [int8]

Even samples calibrate, odd ones score. ``criteria`` cuts a fifth of squeezenet1.1's products and minilm-l6's units by
every criterion; ``times`` cuts from 5 to 80 % and times each model in turn with the whole one, one thread; ``int8``
compares the recipes int8 and prune-int8.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import qcompiler as qc
from benchmarks.zoo import model_path, samples
from qcompiler.compiler import find_target, input_specs, statistics_of
from qcompiler.data import Dataset, open_dataset, split
from qcompiler.ir import Model, clone_model
from qcompiler.onnx_io import infer_types, open_session
from qcompiler.passes.prune import PruneChannels
from qcompiler.pipeline import PassContext
from qcompiler.runtime import Session, interleaved
from qcompiler.search import Accuracy, Quality

COUNTS = {"squeezenet1.1": None, "minilm-l6": 512, "cifar10-cnn": 400}


def main(names: list[str]) -> None:
    """Print the tables that are named, or all."""
    tables = {"criteria": criteria, "times": times, "int8": int8}
    for name in names or list(tables):
        tables[name]()


def header(line: str) -> None:
    """The first two lines of a table."""
    print(line)
    print("|---" * (line.count("|") - 1) + "|")


def opened(name: str) -> tuple[Model, Session, Dataset, Dataset]:
    """The model after the lossless recipe, its session, and both halves of its data."""
    model = qc.compile(model_path(name), recipe="lossless", data=samples(name, 4)).model
    infer_types(model)
    calibration, scoring = split(open_dataset(samples(name, COUNTS[name]), input_specs(model)))
    return model, open_session(model), calibration, scoring


def pruned(model: Model, data: Dataset, options: dict[str, Any]) -> Model:
    """A copy of ``model`` after the pass."""
    made = clone_model(model)
    PruneChannels(**options).run(made, PassContext(data=data, target=find_target("ort-cpu")))
    infer_types(made)
    return made


def scored(source: Session, session: Session, scoring: Dataset) -> str:
    """Decibels, cosine and accuracy, as cells."""
    quality = Quality()
    outputs = []
    for sample in scoring:
        outputs.append(session.run(sample))
        quality.add(source.run(sample), outputs[-1])
    cosine = min(item.cosine for item in quality.outputs.values())
    accuracy = "" if scoring.labels is None else f"{100 * Accuracy('top1').score(outputs, scoring.labels):.1f} %"
    return f"{quality.sqnr_db:.1f} | {cosine:.4f} | {accuracy}"


def criteria() -> None:
    """The same amount by every criterion."""
    header("| model | what goes | how | MACs left | SQNR dB | cosine | accuracy | seconds |")
    amounts: dict[str, dict[str, Any]] = {"squeezenet1.1": {"macs": 0.8}, "minilm-l6": {"ratio": 0.8}}
    ways: dict[str, dict[str, Any]] = {
        "reconstruction": {},
        "energy": {"criterion": "energy"},
        "l1": {"criterion": "l1"},
        "l2": {"criterion": "l2"},
        "l2, the same share everywhere": {"criterion": "l2", "spread": "uniform"},
        "l2, without refit": {"criterion": "l2", "refit": False},
        "random": {"criterion": "random", "spread": "uniform"},
        "random, without refit": {"criterion": "random", "spread": "uniform", "refit": False},
    }
    for name, amount in amounts.items():
        model, source, calibration, scoring = opened(name)
        whole = statistics_of(model)["macs"]
        print(f"| {name} | nothing | | 1.00 | {scored(source, source, scoring)} | |", flush=True)
        for label, options in ways.items():
            began = time.perf_counter()
            made = pruned(model, calibration, amount | options)
            took = time.perf_counter() - began
            left = statistics_of(made)["macs"] / whole
            what = " ".join(f"{key} {value}" for key, value in amount.items())
            cells = scored(source, open_session(made), scoring)
            print(f"| {name} | {what} | {label} | {left:.2f} | {cells} | {took:.0f} |", flush=True)


def times() -> None:
    """The same criterion by every amount, timed; widths are multiples of what was measured to be fast here."""
    print(f"Fast here: multiples of {dict(find_target('ort-cpu').fast_multiples(1))}\n")
    header("| model | MACs left | accuracy and error | ms | speed-up |")
    for name in ("squeezenet1.1", "cifar10-cnn"):
        model, source, calibration, scoring = opened(name)
        whole = statistics_of(model)["macs"]
        made = {share: pruned(model, calibration, {"macs": share}) for share in (0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2)}
        sessions = [source, *map(open_session, made.values())]
        first, *others = interleaved(sessions, scoring.sample(0), seconds=10)
        print(f"| {name} | 1.00 | | {first.least:.3f} | 1.00 |")
        for item, session, timing in zip(made.values(), sessions[1:], others, strict=True):
            left, cells = statistics_of(item)["macs"] / whole, scored(source, session, scoring)
            print(f"| {name} | {left:.2f} | {cells.replace(' |', ',')} | {timing.least:.3f} | "
                  f"{first.least / timing.least:.2f} |", flush=True)  # fmt: skip


def int8() -> None:
    """int8 alone, and after pruning."""
    header("| model | recipe | bytes | smaller | faster | SQNR dB | accuracy | of which pruning dB |")
    for recipe in ("int8", "prune-int8"):
        made = qc.compile(
            model_path("squeezenet1.1"), recipe=recipe, data=samples("squeezenet1.1"), metric="top1"
        )  # fmt: skip
        report = made.report
        stage = next((item["sqnr_db"] for item in report["passes"] if item["name"] == "prune-channels"), None)
        worst = min(item["sqnr_db"] for item in report["quality"]["outputs"].values())
        size, metric = report["size"], report["quality"]["metric"]
        print(f"| squeezenet1.1 | {recipe} | {size['compiled_bytes']} | {size['ratio']:.2f} | "
              f"{report['latency']['speedup']:.2f} | {worst:.1f} | {100 * metric['compiled']:.1f} % | "
              f"{'' if stage is None else f'{stage:.1f}'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
