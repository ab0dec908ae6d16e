"""Target ort-cuda on the command line of a machine without a card."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.onnx_io import save
from qcompiler.runtime import no_card
from tests.lower.test_cuda import build

pytestmark = [
    pytest.mark.skipif(not no_card(), reason="there is a card here"),
    pytest.mark.skipif(find_spec("triton") is None, reason="the extra triton is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, command: Any) -> Path:
    where = tmp_path_factory.mktemp("cuda")
    save(build("pooling and joining"), where / "m.onnx")
    random = np.random.default_rng(0)
    np.savez(where / "d.npz", x=random.standard_normal((12, 8, 9, 7)).astype(np.float32))
    done = command(
        "compile",
        "m.onnx",
        "--target",
        "ort-cuda",
        "--arch",
        "sm_80",
        "--data",
        "d.npz",
        "-o",
        "build",
        "-q",
        cwd=where,
    )
    assert done.status == 0, done.err
    assert "the speed was not measured" in done.err
    assert "Traceback" not in done.err
    return where


def test_what_a_compile_leaves(folder: Path) -> None:
    report = json.loads((folder / "build" / "report.json").read_text())
    assert report["latency"]["speedup"] is None
    assert report["latency"]["estimate"]["card"] == "A100 (sm_80)"
    assert report["environment"]["gpu"] is None
    assert report["kernels"]["architectures"] == ["sm_80"] and report["kernels"]["problems"] == []
    index = json.loads((folder / "build" / "kernels" / "index.json").read_text())
    assert len(index["kernels"]) == report["kernels"]["built"] > 3
    for item in index["kernels"]:
        assert (folder / "build" / "kernels" / item["cubins"]["80"]["file"]).stat().st_size > 1000
    (gate,) = (gate for gate in report["gates"] if gate["name"] == "min_speedup")
    assert gate["value"] is None and not gate["passed"]
    page = (folder / "build" / "report.html").read_text()
    assert "What runs what" in page and "an estimate, which chose between forms and proves nothing" in page


def test_every_way_to_run_it_agrees(command: Any, folder: Path) -> None:
    outputs = {}
    for way in ("auto", "cpu", "interpreter", "onnxruntime"):
        done = command(
            "run", "build", "--data", "d.npz", "--samples", 2, "--on", way, "-o", f"{way}.npz", "-q", cwd=folder
        )
        assert done.status == 0, done.err
        outputs[way] = np.load(folder / f"{way}.npz")["y"]
        assert ("runs on the processor" in done.err) == (way == "auto")
    assert np.array_equal(outputs["auto"], outputs["cpu"])
    assert np.array_equal(outputs["cpu"], outputs["interpreter"])
    assert np.abs(outputs["cpu"] - outputs["onnxruntime"]).max() < 0.1 * np.abs(outputs["cpu"]).max()


def test_explain_says_what_runs_each_node_and_why(command: Any, folder: Path) -> None:
    told = json.loads(command("explain", "build", "--json", cwd=folder).out)
    assert told["estimated"] is True
    places = {item["op"]: item for item in told["placement"]}
    assert places["Int8Conv"]["runs_on"] == "kernel" and places["Int8Conv"]["count"] == 2
    assert places["Transpose"]["runs_on"] == "onnxruntime"
    standing = sum(item["count"] for item in told["placement"])
    assert standing == json.loads((folder / "build" / "report.json").read_text())["compiled"]["nodes"]
    text = command("explain", "build", places["Int8Conv"]["nodes"][0], cwd=folder).out
    assert "run by kernel: convolution of int8" in text
    assert "estimated" in text


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("compile", "m.onnx", "--target", "ort-cuda", "--arch", "sm_75", "-o", "no"), 2, "no architecture 'sm_75'; there are: sm_80"),
        (("compile", "m.onnx", "--arch", "sm_80", "-o", "no"), 2, "target 'ort-cpu' is not for cards"),
        (("compile", "m.onnx", "--target", "ort-cuda", "--arch", "none", "--data", "d.npz", "--strict", "-q", "-o", "no"), 4, "could not be measured"),
        (("run", "build", "--data", "d.npz", "--on", "cuda", "-o", "no.npz"), 1, "there is no card to run on: "),
        (("run", "build", "--data", "d.npz", "--on", "abacus", "-o", "no.npz"), 2, "'abacus' is not one of"),
        (("run", "m.onnx", "--data", "d.npz", "--on", "interpreter", "-o", "no.npz"), 2, "has no kernels; compile it with --target ort-cuda"),
        (("run", "m.onnx", "--data", "d.npz", "--tune", "-o", "no.npz"), 2, "has no kernels"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line(
    command: Any, folder: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    done = command(*words, cwd=folder)
    assert done.status == status
    assert said in done.err.strip().splitlines()[-1]
    assert "Traceback" not in done.err
    assert not list(folder.glob("no*"))


def test_without_triton_there_is_a_warning_and_no_kernels(
    folder: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    import qcompiler as qc

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    result = qc.compile(folder / "m.onnx", target="ort-cuda", data=folder / "d.npz")
    assert result.artifacts is None
    assert any("no kernels were compiled" in text and "qcompiler[triton]" in text for text in result.report["warnings"])
    assert result.run({"x": np.zeros((1, 8, 9, 7), np.float32)})["y"].shape == (1, 8, 9, 7)
