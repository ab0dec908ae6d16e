"""``qcompiler distill``, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.onnx_io import load, save
from qcompiler.report import validate
from tests.lower.models import model_of
from tests.training.models import images, net

pytest.importorskip("torch", reason="the extra recover is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(net(), tmp_path / "teacher.onnx")
    save(net(0.3), tmp_path / "student.onnx")
    rows = np.concatenate([sample["x"] for sample in images(net(), 96)])
    np.savez(tmp_path / "data.npz", x=rows, label=np.arange(96) % 4)
    np.savez(tmp_path / "test.npz", x=rows[:16], label=np.arange(16) % 4)
    return tmp_path


QUICK = ("--epochs", "8", "--set", "batch=8", "--set", "learning-rate=0.005", "--set", "threads=1")


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qcompiler", "distill", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = started(folder, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_a_given_student_learns_and_the_report_says_what(folder: Path) -> None:
    status, out, err = run(
        folder, "--teacher", "teacher.onnx", "--student", "student.onnx", "--data", "data.npz", "-o", "build",
        "--json", *QUICK,
    )  # fmt: skip
    assert status == 0, err
    report: dict[str, Any] = json.loads(out)
    validate(report)
    (told,) = [item for item in report["passes"] if item["name"] == "recover"]
    assert report["quality"]["outputs"]["y"]["sqnr_db"] > told["details"]["before"]["sqnr_db"] + 3
    assert {path.name for path in (folder / "build").iterdir()} >= {"model.onnx", "report.html", "recipe.toml"}
    assert not (folder / "build.unfinished").exists()
    assert "training: epoch 8/8" in err


def test_a_student_is_made_from_the_teacher(folder: Path) -> None:
    status, out, err = run(
        folder, "--teacher", "teacher.onnx", "--student-width", "0.5", "--student-depth", "0.4", "--data", "data.npz",
        "--score", "test.npz", "--labels", "0.5", "--metric", "top1", "-o", "build", *QUICK,
    )  # fmt: skip
    assert status == 0, err
    assert "top1" in out
    made = load(folder / "build" / "model.onnx")
    convolutions = [node for node in made.graph if node.op_type == "Conv"]
    assert len(convolutions) == 1  # the branch went, and half of the channels
    assert convolutions[0].inputs[1].shape == (4, 3, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--teacher", "no.onnx", "--data", "data.npz", "-o", "b"], 3, "no.onnx"),
        (["--teacher", "teacher.onnx", "--data", "no.npz", "-o", "b"], 3, "no.npz"),
        (["--teacher", "teacher.onnx", "--data", "data.npz"], 2, "--output"),
        (["--teacher", "teacher.onnx", "--student", "other.onnx", "--data", "data.npz", "-o", "b"], 2, "same interface"),
        (["--teacher", "teacher.onnx", "--data", "data.npz", "-o", "b", "--set", "epochs"], 2, "OPTION=VALUE"),
        (["--teacher", "teacher.onnx", "--data", "data.npz", "-o", "b", "--set", "epoch=3"], 2, "no option 'epoch'"),
        (["--teacher", "teacher.onnx", "--data", "data.npz", "-o", "b", "--student-width", "2"], 2, "width"),
        (["--teacher", "teacher.onnx", "--data", "data.npz", "-o", "b", "--student", "student.onnx", "--student-depth",
          "0.5"], 2, "not both"),
        (["--teacher", "teacher.onnx", "--data", "data.npz", "-o", "b", "--exclude", "("], 2, "regular expression"),
        (["--teacher", "teacher.onnx", "--data", "data.npz", "-o", "b", "--max-drop", "1"], 2, "--metric"),
        (["--teacher", "teacher.onnx", "--data", "bare.npz", "-o", "b", "--labels", "0.5"], 2, "no labels"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)  # fmt: skip
def test_wrong_input_is_one_line_and_leaves_nothing(folder: Path, arguments: list[str], status: int, told: str) -> None:
    save(model_of("g (float[n,3,8,8] x) => (float[n,5] z) <float[5,192] w> { f = Flatten(x) z = Gemm<transB = 1>(f, w) }",
                  w=(5, 192)), folder / "other.onnx")  # fmt: skip
    np.savez(folder / "bare.npz", x=np.ones((4, 3, 8, 8), np.float32))
    found, out, err = run(folder, *arguments, "-q")
    assert found == status, err
    assert told in err and len(err.strip().splitlines()) == 1 and not out
    assert not (folder / "b").exists() and not (folder / "b.unfinished").exists()


def test_a_gate_that_is_not_met_under_strict(folder: Path) -> None:
    status, _, err = run(
        folder, "--teacher", "teacher.onnx", "--student", "student.onnx", "--data", "data.npz", "-o", "b", "-q",
        "--min-sqnr", "200", "--strict", *QUICK,
    )  # fmt: skip
    assert status == 4 and "min_sqnr" in err and not (folder / "b").exists()


def test_interrupted_it_keeps_the_last_epoch_and_goes_on(folder: Path) -> None:
    arguments = ["--teacher", "teacher.onnx", "--student", "student.onnx", "--data", "data.npz", *QUICK]
    whole = run(folder, *arguments, "-o", "whole")
    assert whole[0] == 0
    with started(folder, *arguments, "-o", "killed") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 4/8" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert (folder / "killed.unfinished").exists() and not (folder / "killed").exists()
    status, _, err = run(folder, *arguments, "-o", "killed")
    assert status == 0 and "going on behind epoch" in err
    assert (folder / "killed" / "model.onnx").read_bytes() == (folder / "whole" / "model.onnx").read_bytes()
    assert not (folder / "killed.unfinished").exists()
