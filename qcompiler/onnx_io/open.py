"""A model of the IR, loaded into onnxruntime: from memory where it fits into one protobuf, else through a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from qcompiler.ir import Model
from qcompiler.onnx_io.writer import needs_external_data, save, to_bytes
from qcompiler.runtime import Session

__all__ = ["open_session"]


def open_session(model: Model, **options: Any) -> Session:
    """A :class:`Session` of ``model``; ``options`` are that class's. Raises LoweringError or OutputError."""
    if not needs_external_data(model):
        return Session(to_bytes(model), **options)
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        return Session(path, **options)  # the weights are read before the folder goes
