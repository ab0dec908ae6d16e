"""One network, exported by both of PyTorch's exporters: the same graph comes out. Needs torch and onnxscript."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (importlib.util.find_spec("torch") and importlib.util.find_spec("onnxscript")),
        reason="needs torch and onnxscript",
    ),
]


def test_a_bert_of_either_exporter_is_the_same_graph() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.exporters", "3"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the same graph", done.stdout
