"""``qcompiler run``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qcompiler.cli.console import emit_json, progress_line, result

__all__ = ["run"]

WAYS = ("auto", "cuda", "cpu", "interpreter", "onnxruntime")


@click.command(epilog="\b\nExample:\n  qcompiler run build --data test.npz -o outputs.npz")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="SPEC", help="As for compile; every sample is run.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="OUT.npz", help="Result.")
@click.option("--samples", type=click.IntRange(min=1), help="Run at most so many samples.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cut batches of this size where the model allows it.")
@click.option("--on", type=click.Choice(WAYS), default="auto", show_default=True, help="What runs kernels.")
@click.option("--tune", is_flag=True, help="Measure on the card which tiles are fastest, and remember it.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: where the outputs are, and their shapes.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(
    folder: Path,
    data: str,
    output: Path,
    samples: int | None,
    batch_size: int | None,
    on: str,
    tune: bool,
    threads: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the model in FOLDER over data; OUT.npz holds each output, samples along axis 0.

    A model with kernels runs on the card where there is one, else on the processor by the kernels' references
    (`--on cpu`), by Triton's interpreter (`interpreter`, slow), or as function bodies by a stock onnxruntime
    (`onnxruntime`). A model for TensorRT runs on the processor, as its graph says, without optimizations.
    """
    from qcompiler.cli.files import write_whole
    from qcompiler.cli.models import model_file
    from qcompiler.data import open_dataset
    from qcompiler.onnx_io import read_proto
    from qcompiler.progress import Step

    path = model_file(folder)
    read_proto(path)
    session = _opened(folder, path, on, tune, threads)
    dataset = open_dataset(data, session.inputs, limit=samples, batch_size=batch_size)
    found: dict[str, list[Any]] = {name: [] for name in session.outputs}
    with progress_line(quiet) as progress:
        for index, sample in enumerate(dataset):
            progress(Step(f"sample {index + 1} of {len(dataset)}", index, len(dataset)))
            for name, array in session.run(sample).items():
                found[name].append(array)
    arrays = {name: _together(name, items) for name, items in found.items()}
    write_whole(output, lambda partial: _write_npz(partial, arrays))
    if as_json:
        about = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}
        emit_json({"path": str(output), "samples": len(dataset), "outputs": about})
        return
    result(f"{output}: " + ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()))


def _opened(folder: Path, path: Path, on: str, tune: bool, threads: int) -> Any:
    """The model at ``path``, ready to run by ``on``."""
    from qcompiler.cli.console import warn
    from qcompiler.errors import UsageError
    from qcompiler.kernels import DOMAIN
    from qcompiler.lower import TensorRt, open_program
    from qcompiler.onnx_io import load
    from qcompiler.runtime import Session

    model = None if on == "onnxruntime" else load(path)
    if model is not None and (path.parent / "tensorrt").is_dir() and on in ("auto", "cpu"):
        return TensorRt().open(model, threads)  # onnxruntime fuses Q/DQ of halves into what it has not in that type
    if model is None or not any(node.domain == DOMAIN for node in model.graph):
        if on in ("cuda", "interpreter") or tune:
            raise UsageError("the model has no kernels", hint="compile it with --target ort-cuda")
        return Session(path, threads=threads)
    device = {"auto": "auto", "cuda": "cuda"}.get(on, "cpu")
    kernels = "interpreter" if on == "interpreter" else "reference"
    inside = folder / "kernels" if folder.is_dir() else None
    return open_program(model, threads=threads, device=device, kernels=kernels, folder=inside, tune=tune, tell=warn)


def _together(name: str, items: list[Any]) -> Any:
    """Samples along axis 0: joined where they have that axis, else stacked. Raises OutputError when they differ."""
    import numpy as np

    from qcompiler.errors import OutputError

    arrays = [np.asarray(item) for item in items]
    if arrays[0].dtype == object:
        arrays = [array.astype(str) for array in arrays]
    if arrays[0].ndim and len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    if len({array.shape for array in arrays}) > 1:
        raise OutputError(
            f"output '{name}' has another shape for each sample and does not fit one array", hint="use --samples 1"
        )
    return np.stack(arrays)


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """An npz file of arrays of any name; numpy's own function takes `file` for an argument."""
    import zipfile

    import numpy as np

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
