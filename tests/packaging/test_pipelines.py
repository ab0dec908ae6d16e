"""examples/pipelines: held against schemas and linters of those who read it, and the steps of the action run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "examples" / "pipelines"
BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(BIN), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"no {name}")
    return found


@pytest.mark.parametrize(("file", "schema"), [("action.yml", "github-actions"), ("workflow.yml", "github-workflows")])
def test_github_would_take_it(file: str, schema: str) -> None:
    words = [tool("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", HERE / file]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run([tool("hadolint"), HERE / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def steps() -> dict[str, dict[str, Any]]:
    yaml = pytest.importorskip("ruamel.yaml")
    document = yaml.YAML(typ="safe").load((HERE / "action.yml").read_text())
    return {step["name"]: step for step in document["runs"]["steps"] if "run" in step}


def test_every_input_reaches_the_shell_as_a_variable() -> None:
    assert not [name for name, step in steps().items() if "${{" in step["run"]]


@pytest.mark.parametrize(("limit", "status"), [("10", 0), ("200", 4)])
def test_the_steps_compile_summarize_and_fail_at_the_end(tmp_path: Path, limit: str, status: int) -> None:
    place = tmp_path / "qcompiler" / "bin"
    place.mkdir(parents=True)
    for name in ("python", "qcompiler"):
        script = place / name
        module = "" if name == "python" else " -m qcompiler"
        script.write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
        script.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_OUTPUT": str(tmp_path / "output"), "HERE": str(HERE), "OUTPUT": "made", "TARGET": "ort-cpu",
        "MODEL": str(ROOT / "models" / "digits-resnet.onnx"), "DATA": str(ROOT / "models" / "digits-calib.npz"),
        "RECIPE": "int8-weights", "MIN_SQNR": limit, "MIN_SPEEDUP": "0", "MORE": "--samples\n16\n", "SCORE": "", "MAX_DROP": "",
    }  # fmt: skip
    found = steps()
    for name in ("Compile", "Summary"):
        words = ["bash", "-eo", "pipefail", "-c", found[name]["run"]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=") for line in (tmp_path / "output").read_text().split())
    assert outputs["gates"] == ("failed" if status else "passed")
    assert float(outputs["ratio"]) >= 1
    assert "| size |" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "made" / "report.json").is_file()
    words = ["bash", "-eo", "pipefail", "-c", found["Limits"]["run"]]
    done = subprocess.run(words, env=environment | {"GATES": outputs["gates"]}, check=False, capture_output=True)
    assert done.returncode == status
