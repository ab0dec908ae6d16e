"""``qcompiler diff``"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from qcompiler.cli.console import emit_json, progress_line, result, table

__all__ = ["diff"]

_SHOWN = 20


@click.command(epilog="\b\nExample:\n  qcompiler diff model.onnx build/model.onnx --data test.npz")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="SPEC")
@click.option("--samples", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-q", "--quiet", is_flag=True)
def diff(
    a: Path, b: Path, data: str, samples: int, batch_size: int | None, threads: int, as_json: bool, quiet: bool
) -> None:
    """Outputs of models A and B side by side, and inner tensors that bear the same name in both."""
    with progress_line(quiet) as progress:
        found = differences(a, b, data, samples, batch_size, threads, progress)
    if as_json:
        emit_json(found)
        return
    table([_row(name, item) for name, item in found["outputs"].items()], ("output", "SQNR dB", "cosine", "max abs"))
    if found["agreement"] is not None:
        result(f"agreement {found['agreement']:.4f} over {found['samples']} samples")
    inner = sorted(found["tensors"].items(), key=lambda pair: _decibels(pair[1]))
    if inner:
        table([_row(name, item) for name, item in inner[:_SHOWN]], ("inner tensor", "SQNR dB", "cosine", "max abs"))
        if len(inner) > _SHOWN:
            result(f"{len(inner) - _SHOWN} more are closer (--json lists them)")


def differences(
    a: Path, b: Path, data: str, samples: int, batch_size: int | None, threads: int, progress: Any
) -> dict[str, Any]:
    """Quality of B's outputs and inner tensors against A's. Raises ImportFailure, DataError, UsageError."""
    from qcompiler.calibrate import with_outputs
    from qcompiler.cli.models import model_file
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset
    from qcompiler.errors import UsageError
    from qcompiler.ir import Model
    from qcompiler.onnx_io import infer_types, load, open_session
    from qcompiler.progress import Step
    from qcompiler.search import Quality

    models = [load(model_file(path)) for path in (a, b)]
    outputs = [[value.name for value in model.graph.outputs] for model in models]
    if outputs[0] != outputs[1]:
        raise UsageError(
            f"the outputs are {outputs[0]} in A and {outputs[1]} in B", hint="give models of one interface"
        )

    def inner(model: Model) -> dict[str, Any]:
        infer_types(model)
        values = (value for node in model.graph for value in node.outputs)
        floats = (value for value in values if value.dtype is not None and value.dtype.is_float)
        return {value.name: value for value in floats if value.name and not value.is_output}

    tensors = [inner(model) for model in models]
    common = [name for name in tensors[0] if name in tensors[1]]
    sessions = []
    for model, found in zip(models, tensors, strict=True):
        exposed, _ = with_outputs(model, [found[name] for name in common])
        sessions.append(open_session(exposed, threads=threads))
    dataset = open_dataset(data, input_specs(models[0]), limit=samples, batch_size=batch_size)
    quality, inside = Quality(), Quality()
    for index, sample in enumerate(dataset):
        progress(Step(f"sample {index + 1} of {len(dataset)}", index, len(dataset)))
        first, second = (session.run(sample) for session in sessions)
        quality.add({name: first[name] for name in outputs[0]}, second)
        inside.add({name: first[name] for name in common}, second)
    return {
        "a": str(a),
        "b": str(b),
        "samples": quality.samples,
        "agreement": quality.agreement,
        "outputs": quality.record(),
        "tensors": inside.record(),
    }


def _row(name: str, item: dict[str, Any]) -> tuple[str, str, str, str]:
    decibels = _decibels(item)
    shown = "equal" if item["max_abs"] == 0 else f"{decibels:.1f}" if math.isfinite(decibels) else "not comparable"
    return name, shown, f"{item['cosine']:.6f}", f"{item['max_abs']:.3g}"


def _decibels(item: dict[str, Any]) -> float:
    if item["sqnr_db"] is not None:
        return float(item["sqnr_db"])
    return math.inf if item["max_abs"] == 0 else -math.inf
