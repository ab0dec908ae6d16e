"""What tells one compile from another: machine and versions, model, data, and how it was asked for."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from qcompiler.caching import sources_digest
from qcompiler.compiler.assess import environment
from qcompiler.data import Dataset
from qcompiler.dtypes import DType
from qcompiler.ir import Model, Tensor
from qcompiler.onnx_io import without_weights
from qcompiler.plugged import KINDS

__all__ = ["fingerprint", "sources_of"]

_LOOKED_AT = 32  # samples that tell one set of data from another, where not every one has to be the same
_MATTER = (
    "constriction", "ml_dtypes", "numpy", "onnx", "onnx-graphsurgeon", "tensorrt", "tensorrt-rtx", "torch", "triton",
    "zstandard",
)  # fmt: skip
"""Packages whose version, or absence, may change a result."""


def fingerprint(model: Model, datasets: Iterable[Dataset | None], said: tuple[Any, ...], *, every: bool) -> str:
    """A digest of all of it; with ``every`` of every sample and label, else of some samples."""
    found = hashlib.sha256(repr((environment("", 1), platform.machine(), _versions(), said)).encode())
    _add_model(found.update, model)
    for dataset in datasets:
        found.update(b"none" if dataset is None else str(len(dataset)).encode())
        if dataset is None or not len(dataset):
            continue
        for sample in dataset.walk(range(0, len(dataset), 1 if every else -(-len(dataset) // _LOOKED_AT))):
            for name, array in sample.items():
                _add_array(found.update, name, np.asarray(array))
        if dataset.labels is not None:
            _add_array(found.update, "label", np.asarray(dataset.labels))
    return found.hexdigest()


def sources_of(*things: Any) -> list[str] | None:
    """Digests of the packages that ``things``, functions or classes, were written in. None where one has no source, or
    was changed since it was looked at first: what runs is what was imported before."""
    paths = set()
    for thing in things:
        module = sys.modules.get(getattr(thing, "__module__", None) or "")
        top = sys.modules.get(module.__name__.partition(".")[0]) if module is not None else None
        file = getattr(top, "__file__", None)
        if top is None or file is None or top.__name__ == "__main__":
            return None
        paths.add(Path(file).parent if hasattr(top, "__path__") else Path(file))
    digests = {path: sources_digest(path) for path in sorted(paths)}
    changed = any(_first.setdefault(path, digest) != digest for path, digest in digests.items())
    return None if changed else list(digests.values())


_first: dict[Path, str] = {}


@functools.cache
def _versions() -> tuple[str, ...]:
    """Of what may change a result, what others have plugged in, and what onnxruntime was built with."""
    found = [onnxruntime.get_build_info(), *onnxruntime.get_available_providers()]
    for kind in KINDS:
        for point in entry_points(group=f"qcompiler.{kind}"):
            found.append(f"{kind} {point.name} {point.value} {point.dist.version if point.dist is not None else ''}")
    for name in _MATTER:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return tuple(found)


def _add_model(update: Callable[[bytes], object], model: Model) -> None:
    update(without_weights(model).SerializeToString(deterministic=True))
    for graph in model.graphs():
        for value in graph.constants:
            if isinstance(value.const, Tensor) and value.const.dtype is not DType.STRING:
                update(value.const.numpy().tobytes())


def _add_array(update: Callable[[bytes], object], name: str, array: np.ndarray[Any, np.dtype[Any]]) -> None:
    update(f"{name} {array.dtype} {array.shape}".encode())
    update(repr(array.tolist()).encode() if array.dtype.kind in "OSTU" else np.ascontiguousarray(array).tobytes())
