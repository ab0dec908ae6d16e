"""The one file that checks kernels where only numpy, triton and torch are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import carry
from qcompiler.kernels import KERNELS

pytest.importorskip("torch")
pytest.importorskip("triton")


def test_it_checks_every_kernel_without_the_checkout(tmp_path: Path) -> None:
    carry(tmp_path / "gpu.pyz")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "gpu.pyz", "--json", "figures.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**environment, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERENT" not in done.stdout
    assert {line.split()[2] for line in done.stdout.splitlines() if line.startswith("same bits")} == set(KERNELS)
    assert '"same_bits": true' in (tmp_path / "figures.json").read_text()


def test_without_a_card_it_says_what_to_do(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    carry(tmp_path / "gpu.pyz")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "gpu.pyz"], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.startswith("there is no card here; TRITON_INTERPRET=1 ")
