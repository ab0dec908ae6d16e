"""Every wrong input gives one clear line and the right exit status; nothing is half-written, the old result stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("compile", "model.onnx", "-o", "build", "-q")


def refused(found: Any, status: int, *expected: str) -> None:
    assert found.status == status, found.err
    assert found.out == ""
    lines = found.err.strip().splitlines()
    assert len(lines) == 1, found.err
    for text in expected:
        assert text in lines[0]


def untouched(folder: Path, before: set[str]) -> None:
    assert {item.name for item in folder.iterdir()} == before
    assert (folder / "old" / "model.onnx").read_text() == "the old one"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("random.onnx", os.urandom(4096)),
        ("text.onnx", b"This is no model.\n" * 20),
        ("empty.onnx", b""),
    ],
)
def test_a_file_that_is_no_model(command: Any, folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    before = {item.name for item in folder.iterdir()}
    refused(command("compile", name, "-o", "build", "-q", cwd=folder), 3, name, "not an ONNX model")
    untouched(folder, before)


def test_a_truncated_model(command: Any, folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    for part in (0.3, 0.9):
        (folder / "cut.onnx").write_bytes(data[: int(len(data) * part)])
        refused(command("compile", "cut.onnx", "-o", "build", "-q", cwd=folder), 3, "cut.onnx")


def test_a_missing_model(command: Any, folder: Path) -> None:
    refused(command("compile", "gone.onnx", "-o", "build", "-q", cwd=folder), 3, "there is no file gone.onnx")


def test_a_model_that_fails_the_checker(command: Any, folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].op_type = "Convolution"
    onnx.save(model, folder / "wrong.onnx")
    refused(
        command("compile", "wrong.onnx", "-o", "build", "-q", cwd=folder), 3, "not a valid ONNX model", "Convolution"
    )


@pytest.mark.parametrize(
    ("location", "expected"), [("gone.bin", "missing"), ("../secret.bin", "outside"), ("/etc/hostname", "outside")]
)
def test_external_data_that_is_not_there_or_not_ours(command: Any, folder: Path, location: str, expected: str) -> None:
    inner = folder / "model"
    inner.mkdir()
    (folder / "secret.bin").write_bytes(bytes(864))
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (inner / "model.onnx").write_bytes(model.SerializeToString())
    refused(command("compile", "model/model.onnx", "-o", "build", "-q", cwd=folder), 3, "'w'", expected)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({}, "image"),
        ({"picture": np.zeros((2, 3, 16, 16), np.float32)}, "image"),
        ({"image": np.zeros((2, 3, 16, 16), np.float32), "other": np.zeros(2, np.float32)}, "other"),
        ({"image": np.zeros((2, 3, 8, 16), np.float32)}, "16"),
        ({"image": np.zeros((2, 3, 16, 16), np.int64)}, "int64"),
        ({"image": np.full((2, 3, 16, 16), np.nan, np.float32)}, "image"),
        ({"image": np.zeros((0, 3, 16, 16), np.float32)}, "image"),
    ],
    ids=["empty file", "wrong name", "extra array", "wrong shape", "wrong type", "NaN", "no samples"],
)
def test_data_that_does_not_fit(command: Any, folder: Path, arrays: dict[str, Any], expected: str) -> None:
    np.savez(folder / "bad.npz", **arrays)
    before = {item.name for item in folder.iterdir()}
    refused(command(*WORDS, "--data", "bad.npz", cwd=folder), 3, "bad.npz", expected)
    untouched(folder, before)


def test_data_that_is_no_npz(command: Any, folder: Path) -> None:
    (folder / "bad.npz").write_text("no arrays")
    refused(command(*WORDS, "--data", "bad.npz", cwd=folder), 3, "bad.npz")
    refused(command(*WORDS, "--data", "gone.npz", cwd=folder), 3, "gone.npz")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--recipe", "int9"), "int8"),
        (("--recipe", "gone.toml"), "gone.toml"),
        (("--recipe", "int8"), "--data"),
        (("--target", "ort-gpu"), "ort-cpu"),
        (("--data", "data.npz", "--set", "quantise-static.ranges=mse"), "quantize-static"),
        (("--data", "data.npz", "--set", "quantize-static.range=mse"), "ranges"),
        (("--data", "data.npz", "--set", "quantize-static.ranges=widest"), "minmax"),
        (("--data", "data.npz", "--set", "quantize-static"), "PASS.OPTION=VALUE"),
        (("--data", "data.npz", "--exclude", "("), "regular expression"),
        (("--data", "data.npz", "--metric", "best"), "top1"),
        (("--data", "data.npz", "--max-drop", "0.1"), "--metric"),
        (("--data", "data.npz", "--min-sqnr", "much"), "much"),
        (("--dada", "data.npz"), "--dada"),
        (("--data", "no_such_module:samples"), "no_such_module"),
    ],
)
def test_wrong_usage(command: Any, folder: Path, words: tuple[str, ...], expected: str) -> None:
    before = {item.name for item in folder.iterdir()}
    refused(command(*WORDS, *words, cwd=folder), 2, expected)
    untouched(folder, before)


def test_unknown_pass_and_option_in_a_recipe_file(command: Any, folder: Path) -> None:
    for text, expected in (
        ('[[pass]]\nname = "fuse-everything"\n', "fuse-everything"),
        ('[[pass]]\nname = "fold-constants"\nspeed = 3\n', "speed"),
        ("[[pass\n", "TOML"),
        ("[gates]\nmin_beauty = 1\n", "min_beauty"),
        ("gates = 3\n", "table"),
        ('name = ["x"]\n', "text"),
    ):
        (folder / "mine.toml").write_text(text)
        refused(command(*WORDS, "--recipe", "mine.toml", cwd=folder), 2, expected)


def test_an_existing_folder_is_not_replaced_without_force(command: Any, folder: Path) -> None:
    refused(command("compile", "model.onnx", "-o", "old", "-q", cwd=folder), 2, "old exists", "--force")
    assert (folder / "old" / "model.onnx").read_text() == "the old one"
    done = command("compile", "model.onnx", "-o", "old", "-q", "--force", cwd=folder)
    assert done.status == 0
    onnx.checker.check_model(str(folder / "old" / "model.onnx"))


def test_force_does_not_replace_what_is_not_ours(command: Any, folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "dog.jpg").write_text("woof")
    refused(
        command("compile", "model.onnx", "-o", "photos", "-q", "--force", cwd=folder), 2, "not a folder that qcompiler"
    )
    refused(command("compile", "model.onnx", "-o", ".", "-q", "--force", cwd=folder), 2, "in which you are")
    assert (folder / "photos" / "dog.jpg").read_text() == "woof"


def test_strict_ends_with_4_and_writes_nothing(command: Any, folder: Path) -> None:
    before = {item.name for item in folder.iterdir()}
    found = command(*WORDS, "--data", "data.npz", "--min-speedup", "1000", "--strict", cwd=folder)
    refused(found, 4, "min_speedup")
    untouched(folder, before)


@pytest.mark.parametrize("size", [0, 300])
def test_a_full_disk(folder: Path, size: int) -> None:
    """A file size limit of the process stands for a full disk: the write fails half-way."""
    before = {item.name for item in folder.iterdir()}
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
        "from qcompiler.cli import main; main(sys.argv[1:])"
    )
    words = ["compile", "model.onnx", "-o", "old", "--force", "-q"]
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, *words], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    untouched(folder, before)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/ns").exists(), reason="root writes everywhere")
def test_a_place_that_cannot_be_written(command: Any, folder: Path) -> None:
    refused(
        command("compile", "model.onnx", "-o", "/proc/build", "-q", cwd=folder), 1, "/proc/build", "cannot be written"
    )


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_old_folder_whole(folder: Path, sent: signal.Signals) -> None:
    (folder / "slow.py").write_text(
        "import time\nimport numpy as np\n"
        "def samples():\n"
        "    for i in range(8):\n"
        "        open('running', 'w').close()\n"
        "        time.sleep(0.5)\n"
        "        yield {'image': np.zeros((1, 3, 16, 16), np.float32)}\n"
    )
    words = [sys.executable, "-B", "-m", "qcompiler", "compile", "model.onnx", "-o", "old", "--force", "-q"]
    process = subprocess.Popen(
        [*words, "--data", "slow:samples"], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "running").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "qcompiler: interrupted; the result was not written"
    untouched(folder, {"model.onnx", "data.npz", "old", "slow.py", "running"})


def test_every_command_refuses_a_missing_model(command: Callable[..., Any], folder: Path) -> None:
    for words in (
        ("inspect", "gone.onnx"),
        ("bench", "gone.onnx"),
        ("diff", "gone.onnx", "model.onnx", "--data", "data.npz"),
        ("run", "gone.onnx", "--data", "data.npz", "-o", "out.npz", "-q"),
    ):
        refused(command(*words, cwd=folder), 3, "gone.onnx")
    refused(command("optimise", "model.onnx", cwd=folder), 2, "there is no command")
