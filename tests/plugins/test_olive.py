"""Olive runs our pass as one of its own: by a workflow, by its data configs, and with its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("olive")

ROOT = Path(__file__).resolve().parents[2]
MODEL, DATA = ROOT / "models" / "digits-resnet.onnx", ROOT / "models" / "digits-calib.npz"

# Olive sends what it is used for to its makers unless it runs in CI.
ENVIRONMENT = {"CI": "1", "OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def workflow(folder: Path, **options: Any) -> dict[str, Any]:
    accelerator = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    return {
        "input_model": {"type": "ONNXModel", "config": {"model_path": str(MODEL)}},
        "systems": {"local": {"type": "LocalSystem", "config": {"accelerators": [accelerator]}}},
        "passes": {"compile": {"type": "QCompiler", "config": options}},
        "host": "local",
        "target": "local",
        "evaluate_input_model": False,
        "cache_dir": str(folder / "cache"),
        "output_dir": str(folder / "out"),
        "log_severity_level": 3,
    }


def run_olive(folder: Path, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (folder / "run.json").write_text(json.dumps(config))
    environment = os.environ | ENVIRONMENT
    words = [sys.executable, "-m", "qcompiler.plugins.olive"]
    listed = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    (folder / "package.json").write_text(listed.stdout)
    words = [sys.executable, "-m", "olive", "run", "--config", "run.json", "--package-config", "package.json"]
    return subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_olive_runs_it_from_the_command_line(tmp_path: Path) -> None:
    done = run_olive(tmp_path, workflow(tmp_path, recipe="int8-dynamic", data=str(DATA), samples=16, min_speedup=0))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["target"] == "ort-cpu"
    assert report["recipe"] == "int8-dynamic"
    assert (tmp_path / "out" / "report.html").is_file()
    found = json.loads((tmp_path / "out" / "model_config.json").read_text())
    assert found["config"]["model_attributes"]["qcompiler"]["ratio"] == report["size"]["ratio"]


def test_a_limit_that_is_missed_fails_the_workflow(tmp_path: Path) -> None:
    options = {"recipe": "lossless", "data": str(DATA), "samples": 4, "min_speedup": 1000, "strict": True}
    done = run_olive(tmp_path, workflow(tmp_path, **options))
    assert done.returncode != 0
    assert "GateError: gate min_speedup was not met" in done.stdout + done.stderr


def test_a_data_config_of_olive_calibrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict

    from qcompiler.plugins import olive

    shape: dict[str, Any] = {"input_shapes": [[1, 1, 32, 32]], "input_names": ["image"], "input_types": ["float32"]}
    data = {
        "name": "images",
        "type": "DummyDataContainer",
        "load_dataset_config": {"params": shape | {"max_samples": 4}},
    }
    recipe = str(ROOT / "tests" / "workers" / "static.toml")
    item = create_pass_from_dict(olive.QCompiler, {"recipe": recipe, "data_config": data}, disable_search=True)
    made = item.run(ONNXModelHandler(str(MODEL)), str(tmp_path / "made"))
    assert Path(made.model_path) == tmp_path / "made" / "model.onnx"
    assert made.model_attributes["qcompiler"]["gates"]
