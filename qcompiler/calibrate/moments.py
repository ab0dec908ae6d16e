"""Second moments of what layers read: all that least squares on their outputs needs, whatever the number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.calibrate.exposing import with_outputs
from qcompiler.data import Sample
from qcompiler.errors import CalibrationError, QCompilerError
from qcompiler.ir import Model, Node
from qcompiler.onnx_io import open_session

__all__ = ["Moments", "second_moments"]

Array = np.ndarray[Any, np.dtype[Any]]

_POSITIONS = 64  # places of a convolution that are looked at in each sample
_BYTES = 512 << 20  # of moments that are summed up in one walk over the samples
_LARGEST = 8192  # inner size beyond which a layer is left out


@dataclass
class Moments:
    """Sums over the vectors x that a layer multiplies: ``second`` x x^T, ``first`` x, and how many, ``count``.

    float64 [groups, inner, inner] and [groups, inner]; ``largest`` are magnitudes, [groups, inner]. For a convolution
    x is a patch, channel by channel, and there is one matrix for each of its groups; for a matrix product x is a row,
    and there is one.
    """

    second: Array
    first: Array
    largest: Array
    count: int = 0


def second_moments(
    model: Model,
    nodes: Sequence[Node],
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[Node, Moments]:
    """Moments of the first input of ``nodes``: Conv in one or two dimensions, Gemm and MatMul with constant weights.

    Layers that read the same in the same way share one. Of a convolution at most 64 patches a sample are looked at,
    spread evenly. What is not finite is left out. Layers of another kind, or of more than 8192 inner elements, are not
    in the result, nor those of loops that give another shape in each turn. Where the sums of all layers would take more
    than 512 MiB, ``samples`` are walked several times. Raises CalibrationError when no sample runs.
    """
    keys: dict[tuple[Any, ...], list[Node]] = {}
    for node in nodes:
        key = _key(node)
        if key is not None:
            keys.setdefault(key, []).append(node)
    found: dict[Node, Moments] = {}
    done = 0
    for part in _parts(list(keys)):
        sums = {key: _nothing(key[1], key[2]) for key in part}
        exposed, names = with_outputs(model, list(dict.fromkeys(key[0] for key in part)))
        session = open_session(exposed, threads=threads)
        fed = {spec.name for spec in session.inputs}
        wanted = [name for name in dict.fromkeys(names.values()) if name not in fed]
        ran, reason = 0, ""
        for sample in samples:
            try:
                outputs = session.run(sample, wanted)
            except QCompilerError as error:
                reason = error.what
                continue
            ran += 1
            done += 1
            progress(done)
            for key in part:
                name = names[key[0]]
                _add(sums[key], _vectors(np.asarray(sample[name] if name in fed else outputs[name]), key))
        if not ran and any(key[0].home is not model.graph for key in part):
            outer = [node for key in part if key[0].home is model.graph for node in keys[key]]
            found |= second_moments(model, outer, samples, threads=threads, progress=progress) if outer else {}
            continue
        if not ran:
            raise CalibrationError(f"no sample runs: {reason}" if reason else "there are no samples")
        found |= {node: sums[key] for key in part for node in keys[key]}
    return found


def _nothing(groups: int, inner: int) -> Moments:
    return Moments(np.zeros((groups, inner, inner)), np.zeros((groups, inner)), np.zeros((groups, inner)))


def _key(node: Node) -> tuple[Any, ...] | None:
    """(value, groups, inner size, how vectors are cut from it); None for what has no such moments."""
    data, weight = node.input(0), node.input(1)
    if data is None or weight is None or weight.constant is None:
        return None
    shape = weight.constant.shape
    if node.is_op("MatMul", "Gemm") and len(shape) == 2 and not node.attr("transA", 0):
        inner = shape[1] if node.is_op("Gemm") and node.attr("transB", 0) else shape[0]
        return (data, 1, inner, None) if inner <= _LARGEST else None
    if not node.is_op("Conv") or len(shape) not in (3, 4) or node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    rank = len(shape) - 2
    ones, none = (1,) * rank, (0,) * (2 * rank)
    geometry = (
        tuple(shape[2:]),
        tuple(node.attr("strides", ones)),
        tuple(node.attr("dilations", ones)),
        tuple(node.attr("pads", none)),
    )
    inner = int(np.prod(shape[1:]))
    return (data, int(node.attr("group", 1)), inner, geometry) if inner <= _LARGEST else None


def _parts(keys: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """``keys`` in runs whose sums fit into the budget, or that are one alone."""
    part: list[tuple[Any, ...]] = []
    size = 0
    for key in keys:
        bytes_ = key[1] * key[2] ** 2 * 8
        if part and size + bytes_ > _BYTES:
            yield part
            part, size = [], 0
        part.append(key)
        size += bytes_
    if part:
        yield part


def _vectors(array: Array, key: tuple[Any, ...]) -> Array:
    """[groups, vectors, inner], float32."""
    _, groups, inner, geometry = key
    if not array.size:  # of a branch that was not taken
        return np.zeros((groups, 0, inner), np.float32)
    if geometry is None:
        return array.reshape(1, -1, inner).astype(np.float32)
    kernel, strides, dilations, pads = geometry
    if len(kernel) == 1:  # as a picture of one row
        array = array[..., None, :]
        kernel, strides, dilations, pads = (1, *kernel), (1, *strides), (1, *dilations), (0, pads[0], 0, pads[1])
    array = array.reshape(-1, *array.shape[-3:])  # the turns of a loop, too
    padded = np.pad(array, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    sizes = [
        (padded.shape[2 + axis] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1 for axis in range(2)
    ]
    total = max(0, sizes[0]) * max(0, sizes[1])
    count = min(_POSITIONS, total)
    places = (np.arange(count) * total) // max(1, count)
    rows = (places // max(1, sizes[1]) * strides[0])[:, None] + np.arange(kernel[0]) * dilations[0]
    columns = (places % max(1, sizes[1]) * strides[1])[:, None] + np.arange(kernel[1]) * dilations[1]
    patches = padded[:, :, rows[:, :, None], columns[:, None, :]]  # [batch, channels, places, height, width]
    batch = patches.shape[0]
    split = patches.reshape(batch, groups, -1, count, *kernel).transpose(1, 0, 3, 2, 4, 5)
    return np.ascontiguousarray(split.reshape(groups, batch * count, inner), np.float32)


def _add(moments: Moments, vectors: Array) -> None:
    usable = np.isfinite(vectors).all(axis=(0, 2))
    vectors = vectors if usable.all() else vectors[:, usable]
    moments.second += np.matmul(vectors.transpose(0, 2, 1), vectors)
    moments.first += vectors.sum(axis=1, dtype=np.float64)
    moments.largest = np.maximum(moments.largest, np.abs(vectors).max(axis=1, initial=0.0))
    moments.count += vectors.shape[1]
