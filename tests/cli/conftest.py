"""The command line as a user calls it: a process of its own, real files, real models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def command() -> Callable[..., Outcome]:
    """``command("compile", "m.onnx", cwd=folder)`` runs the command line to its end."""

    def call(*words: object, cwd: Path) -> Outcome:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "qcompiler", *map(str, words)],
            cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small convolutional model, data for it, and an older result."""
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        small (float[n,3,16,16] image) => (float[n,4] scores)
        <float[8,3,3,3] w, float[8] b, float[8,4] v>
        {
          c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (image, w, b)
          r = Relu (c)
          p = GlobalAveragePool (r)
          f = Flatten (p)
          scores = MatMul (f, v)
        }""")
    random = np.random.default_rng(0)
    del model.graph.initializer[:]
    for name, shape in {"w": (8, 3, 3, 3), "b": (8,), "v": (8, 4)}.items():
        array = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    images = random.standard_normal((16, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=images, label=np.arange(16) % 4)
    old = tmp_path / "old"
    old.mkdir()
    (old / "report.json").write_text("{}")
    (old / "model.onnx").write_text("the old one")
    return tmp_path
