"""The command line in other people's pipelines: many models and recipes, comparing, caching, completing, colours."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Outcome

COMMANDS = (
    "compile", "inspect", "explain", "compare", "diff", "bench", "sensitivity", "distill", "run", "pack", "unpack",
    "passes", "targets", "recipes", "cache", "completion",
)  # fmt: skip


@pytest.fixture
def models(folder: Path) -> Path:
    shutil.copy(folder / "model.onnx", folder / "other.onnx")
    (folder / "mine").mkdir()
    (folder / "mine" / "one.toml").write_text('name = "one"\n[[pass]]\nname = "simplify"\n')
    (folder / "mine" / "two.toml").write_text('name = "two"\n[[pass]]\nname = "canonicalize"\n')
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example_and_json(command: Any, tmp_path: Path, name: str) -> None:
    done = command(name, "--help", cwd=tmp_path)
    assert done.status == 0
    assert f"qcompiler {name}" in done.out.partition("Example")[2]
    assert "--json" in done.out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom qcompiler.cli import main\n"
        "try:\n    main(['compile', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'triton', 'dask', 'distributed', 'olive', 'onnx', 'onnxruntime', 'numpy'} & {*sys.modules}\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_compile_loads_no_torch_triton_or_dask(folder: Path) -> None:
    script = (
        "import sys\nfrom qcompiler.cli import main\n"
        "try:\n    main(['compile', 'model.onnx', '-o', 'made', '-q'])\nexcept SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'triton', 'dask', 'distributed', 'olive'} & {*sys.modules}\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_many_models_and_a_folder_of_recipes(command: Any, models: Path) -> None:
    words = ("compile", "model.onnx", "other.onnx", "--recipe", "mine", "--recipe", "lossless", "-o", "builds", "-q")
    done = command(*words, cwd=models)
    assert done.status == 0, done.err
    for model in ("model", "other"):
        for recipe in ("one", "two", "lossless"):
            assert (models / "builds" / model / recipe / "model.onnx").is_file()
    assert done.out.count("builds/") == 6


def test_one_that_fails_does_not_stop_the_others(command: Any, models: Path) -> None:
    (models / "broken.onnx").write_bytes(b"no model")
    words = ("compile", "broken.onnx", "model.onnx", "--recipe", "lossless", "-o", "builds", "-q", "--json")
    done = command(*words, cwd=models)
    assert done.status == 3
    found = json.loads(done.out)
    assert [(item["status"], "report" in item) for item in found["results"]] == [(3, False), (0, True)]
    assert found["status"] == 3
    assert "qcompiler: broken.onnx with lossless: broken.onnx is not an ONNX model" in done.err
    assert (models / "builds" / "model" / "model.onnx").is_file()
    assert not (models / "builds" / "broken").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("model.onnx", "sub/model.onnx", "-o", "b"), 2, "would both be written into b/model"),
        (("model.onnx", "--recipe", "empty", "-o", "b"), 2, "there is no recipe in empty"),
        (("model.onnx", "other.onnx", "-o", "olds", "--recipe", "lossless"), 2, "olds/model exists"),
        (("model.onnx", "-o", "b", "--executor", "moon"), 2, "there is no executor 'moon'"),
        (("model.onnx", "-o", "b", "--executor", "dask:tcp://127.0.0.1:9"), 1, "no Dask scheduler answers at tcp:"),
        (("model.onnx", "-o", "b", "--feedback", "a=b"), 2, "a state is fed back through a sequence of samples"),
        (("a b.onnx", "-o", "b", "--emit", "triton-server"), 2, "'a b' can be no model of a server"),
        (("model.onnx", "other.onnx", "-o", "result"), 2, "result is a compiled model"),
        (("model.onnx", "-o", "b", "--data", "random", "--feedback", "imag=scores"), 2, "did you mean 'image'?"),
    ],
)
def test_wrong_use(command: Any, models: Path, words: tuple[str, ...], status: int, said: str) -> None:
    for name in ("sub", "empty", "olds/model"):
        (models / name).mkdir(parents=True, exist_ok=True)
    for name in ("sub/model.onnx", "a b.onnx"):
        shutil.copy(models / "model.onnx", models / name)
    (models / "olds" / "model" / "notes.txt").write_text("mine")
    (models / "result").mkdir()
    (models / "result" / "report.json").write_text("{}")
    before = {str(path) for path in models.rglob("*")}
    if "--executor" in words:
        pytest.importorskip("distributed")
        words = (*words, "--data", "random", "--recipe", "int8")
    done = command("compile", *words, "-q", cwd=models)
    assert done.status == status, done.err
    assert said in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert {str(path) for path in models.rglob("*")} == before


def test_a_fault_of_ours_does_not_stop_the_others_and_an_interrupt_tells_what_is_done(
    command: Any, models: Path
) -> None:
    (models / "scripted.py").write_text(
        "import sys, qcompiler.compiler as c\n"
        "original = c.compile\n"
        "def compile(model, **options):\n"
        "    if model.stem == 'model': raise ZeroDivisionError('ours')\n"
        "    if model.stem == 'third': raise KeyboardInterrupt\n"
        "    return original(model, **options)\n"
        "c.compile = compile\n"
        "from qcompiler.cli import main\nmain(sys.argv[1:])\n"
    )
    shutil.copy(models / "model.onnx", models / "third.onnx")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        done = subprocess.run(
            [sys.executable, "scripted.py", "compile", *words, "-o", "out", "-q", "--json", "--recipe", "lossless", "--force"],
            cwd=models, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout), done.stderr

    status, found, said = run("model.onnx", "other.onnx")
    assert (status, [item["status"] for item in found["results"]]) == (1, [1, 0])
    assert "model.onnx with lossless: internal error: ZeroDivisionError: ours" in said
    status, found, _ = run("other.onnx", "third.onnx")
    assert (status, found["status"], [item["model"] for item in found["results"]]) == (130, 130, ["other.onnx"])


def test_the_time_left_is_that_of_the_rest_at_the_same_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.cli import console
    from qcompiler.progress import Step

    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    left = console._TimeLeft()
    assert left.after(Step("group 1 of 11", 0, 11)) == ""
    now[0] += 2
    assert left.after(Step("group 2 of 11", 1, 11)) == "20 s left"
    now[0] += 2
    assert left.after(Step("group 3 of 11", 2, 11)) == "18 s left"
    assert left.after("something else") == ""
    assert left.after(Step("sample 1 of 500", 0, 500)) == ""
    now[0] += 1
    assert left.after(Step("sample 2 of 500", 1, 500)) == "8 min left"
    assert left.after(Step("sample 500 of 500", 500, 500)) == ""


def test_compare_marks_what_no_other_beats_and_draws_it(command: Any, models: Path) -> None:
    words = ("compile", "model.onnx", "--recipe", "mine", "--recipe", "int8-weights", "-o", "builds", "-q")
    assert command(*words, "--min-speedup", "0", cwd=models).status == 0
    folders = [f"builds/{name}" for name in ("one", "two", "int8-weights")]
    done = command("compare", *folders, "--html", "page.html", cwd=models)
    assert done.status == 0, done.err
    assert "int8-weights" in done.out and "page.html" in done.out
    page = (models / "page.html").read_text()
    assert page.count("<circle") >= 4 and "<script" not in page
    found = json.loads(command("compare", *folders, "--json", cwd=models).out)["models"]
    assert [item["name"] for item in found] == ["one", "two", "int8-weights"]
    assert all(set(item["pareto"]) <= {"speed", "size"} for item in found)
    assert any("size" in item["pareto"] for item in found)


def test_compare_and_explain_refuse_a_report_of_another_schema(command: Any, models: Path) -> None:
    assert command("compile", "model.onnx", "--recipe", "lossless", "-o", "made", "-q", cwd=models).status == 0
    path = models / "made" / "report.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"schema": 7}))
    for words in (("compare", "made"), ("explain", "made")):
        done = command(*words, cwd=models)
        assert done.status == 2
        assert "is a report of schema 7, and this qcompiler reads schema 1" in done.err
        assert len(done.err.splitlines()) == 1
    path.write_text("{")
    done = command("compare", "made", cwd=models)
    assert done.status == 3 and "is not a report" in done.err
    assert command("compare", "nowhere", cwd=models).status == 3


def test_the_cache_answers_and_can_be_looked_at_emptied_and_left_out(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPILER_CACHE", str(folder / "cache"))
    words = ("compile", "model.onnx", "--data", "random", "--recipe", "int8-dynamic", "-o")
    assert "cache" not in command(*words, "a", cwd=folder).err.splitlines()[-1]
    again = command(*words, "b", cwd=folder)
    assert "the same was compiled before: its result is taken from the cache" in again.err
    assert (folder / "a" / "model.onnx").read_bytes() == (folder / "b" / "model.onnx").read_bytes()
    assert "taken from the cache" not in command(*words, "c", "--no-cache", cwd=folder).err
    found = json.loads(command("cache", "--json", cwd=folder).out)
    assert (found["folder"], found["results"]) == (str(folder / "cache"), 1)
    assert "1 result removed" in command("cache", "--clear", cwd=folder).out
    assert json.loads(command("cache", "--json", cwd=folder).out)["results"] == 0
    monkeypatch.setenv("QCOMPILER_CACHE", "off")
    assert "the cache is off" in command("cache", cwd=folder).out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(command: Any, tmp_path: Path, shell: str) -> None:
    done = command("completion", shell, cwd=tmp_path)
    assert done.status == 0
    assert f"_QCOMPILER_COMPLETE={shell}_complete" in done.out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.out, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_a_shell_is_told_commands_recipes_and_targets(tmp_path: Path) -> None:
    def completed(line: str) -> list[str]:
        words = line.split(" ")
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "_QCOMPILER_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-m", "qcompiler"],
            env=environment,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        return [entry.partition(",")[2] for entry in done.stdout.split() if entry.startswith("plain,")]

    assert completed("qcompiler comp") == ["compile", "compare", "completion"]
    assert set(completed("qcompiler compile --recipe int8-")) == {"int8-dynamic", "int8-weights"}
    assert completed("qcompiler compile --target ort-") == ["ort-cpu", "ort-cuda"]


def on_a_terminal(words: list[str], folder: Path, **environment: str) -> str:
    """What a command says to a terminal."""
    main, other = pty.openpty()
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "qcompiler", *words], cwd=folder, env=settings, stdout=other, stderr=other, stdin=other
    )
    os.close(other)
    said = b""
    while True:
        ready, _, _ = select.select([main], [], [], 60)
        try:
            part = os.read(main, 65536) if ready else b""
        except OSError:
            part = b""
        if not part:
            break
        said += part
    os.close(main)
    assert process.wait(60) == 0, said
    return said.decode(errors="replace")


def test_no_color_is_obeyed(folder: Path) -> None:
    words = [
        "compile",
        "model.onnx",
        "--data",
        "random",
        "--samples",
        "40",
        "--force",
        "-o",
        "made",
        "--recipe",
        "int8",
    ]
    coloured = on_a_terminal(words, folder)
    assert "\x1b[3" in coloured  # a colour
    plain = on_a_terminal(words, folder, NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "warning: calibrated and scored on random inputs" in plain


def test_a_server_repository_lies_in_the_folder(command: Any, folder: Path) -> None:
    words = ("compile", "model.onnx", "--data", "random", "-o", "made", "--emit", "triton-server", "-q")
    done: Outcome = command(*words, "--recipe", "int8-dynamic", cwd=folder)
    assert done.status == 0, done.err
    place = folder / "made" / "triton-server" / "model"
    assert (place / "1" / "model.onnx").read_bytes() == (folder / "made" / "model.onnx").read_bytes()
    assert "max_batch_size: 8" in (place / "config.pbtxt").read_text()
    assert (place / "warmup" / "input0").stat().st_size == 3 * 16 * 16 * 4
