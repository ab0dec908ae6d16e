"""Target tensorrt on the command line, with the package that builds engines and without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qcompiler as qc
from qcompiler.lower import TensorRt
from qcompiler.lower.tensorrt import engine, package
from tests.lower.models import proto_of

DYNAMIC = """agraph (float[N,8,H,8] x) => (float[N,4,H,8] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  y = Conv(r, w2) }"""
WEIGHTS = {"w1": (64, 8, 3, 3), "w2": (4, 64, 1, 1)}
WORDS = ("compile", "m.onnx", "--target", "tensorrt", "-q", "--min-speedup", "0.01")

needs_builder = pytest.mark.skipif(not package().startswith("tensorrt_rtx"), reason="TensorRT for RTX is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tensorrt")
    onnx.save(proto_of(DYNAMIC, 17, **WEIGHTS), where / "m.onnx")
    onnx.save(proto_of("agraph (float[1,8] x) => (float[1,8] y) { y = MatMul(x, w) }", 17, w=(8, 8)), where / "mm.onnx")
    text = "agraph (float[1,8] x) => (uint8[1,8] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(x) }"
    onnx.save(proto_of(text, 17), where / "refused.onnx")
    random = np.random.default_rng(0)
    np.savez(where / "d.npz", x=random.standard_normal((8, 8, 12, 8)).astype(np.float32))
    np.savez(where / "r.npz", x=random.standard_normal((8, 8)).astype(np.float32))
    return where


@needs_builder
def test_what_a_compile_leaves(folder: Path, command: Any) -> None:
    profile = "tensorrt.profile=x:1x8x4x8,1x8x12x8,2x8x32x8"
    done = command(*WORDS, "--data", "d.npz", "-o", "build", "--set", profile, "--arch", "sm_89", cwd=folder)
    assert done.status == 0, done.err
    report = json.loads((folder / "build" / "report.json").read_text())
    found = report["tensorrt"]
    assert found["profile"] == {"x": [[1, 8, 4, 8], [1, 8, 12, 8], [2, 8, 32, 8]]}
    (item,) = found["engines"]
    assert item["architecture"] == "sm_89" and item["planned"] == item["found"] > 0
    assert report["fused"] == {"planned": item["planned"], "found": item["found"], "left_float": []}
    assert report["latency"]["speedup"] is None and report["latency"]["estimate"]["card"] == "L40S (sm_89)"
    inside = folder / "build" / "tensorrt"
    assert {path.name for path in inside.iterdir()} == {
        "build.json", "build.sh", "build_engine.py", "model.sm_89.engine", "onnxruntime.json"
    }  # fmt: skip
    assert (inside / "model.sm_89.engine").stat().st_size == item["bytes"]
    said = (inside / "build.sh").read_text()
    assert f'\n{found["command"]} "$@"\n' in said and "--maxShapes=x:2x8x32x8" in said
    providers = json.loads((inside / "onnxruntime.json").read_text())
    assert providers["providers"][0][1]["trt_profile_opt_shapes"] == "x:1x8x12x8"
    assert "profile" in (folder / "build" / "recipe.toml").read_text()
    again = command(*WORDS, "--data", "d.npz", "-o", "again", "--recipe", "build/recipe.toml", cwd=folder)
    assert again.status == 0, again.err
    assert json.loads((folder / "again" / "report.json").read_text())["tensorrt"]["profile"] == found["profile"]
    assert (folder / "again" / "tensorrt" / "model.sm_89.engine").is_file()
    again = subprocess.run([sys.executable, "build_engine.py"], cwd=inside, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and '"file": "model.sm_89.engine"' in again.stdout
    explained = command("explain", "build", cwd=folder)
    assert f"{item['found']} of {item['planned']}" in explained.out and "sm_89" in explained.out
    assert "Engines" in (folder / "build" / "report.html").read_text()
    ran = command("run", "build", "--data", "d.npz", "-o", "out.npz", cwd=folder)
    assert ran.status == 0 and np.load(folder / "out.npz")["y"].shape == (8, 4, 12, 8)


@needs_builder
def test_shapes_of_the_data_are_the_profile(folder: Path, command: Any) -> None:
    done = command(*WORDS, "--data", "d.npz", "-o", "shaped", "--arch", "sm_86", cwd=folder)
    assert done.status == 0 and "input 'x' has dynamic axes: engines take 1x8x12x8, as the data has it" in done.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--data", "d.npz", "--set", "quantize-static.activations=uint8"), 2, "target 'tensorrt' cannot have activations in uint8: TensorRT has no uint8 there"),
        (("--data", "d.npz", "--set", "quantize-static.activations=int16"), 2, "TensorRT has no int16 there"),
        (("--recipe", "lossless"), 2, "input 'x' [Nx8xHx8] has dynamic axes and no profile says which sizes"),
        (("--data", "d.npz", "--set", "tensorrt.profile=x:1x8x4"), 2, "3 axes where the input has 4"),
        (("--data", "d.npz", "--set", "tensorrt.floats=float8"), 2, "floats cannot be 'float8'; it is one of float16, bfloat16, float32"),
        (("--data", "d.npz", "--set", "tensorrt.fp16=true"), 2, "target 'tensorrt' has no such option; it has: products, floats, weights"),
        (("--data", "d.npz", "--set", "tensorrt.refit=perhaps"), 2, "tensorrt.refit cannot be 'perhaps'"),
        (("--data", "d.npz", "--arch", "sm_10"), 2, "there is no architecture 'sm_10'"),
        (("--data", "d.npz", "--for-cpu", "vnni"), 2, "is not for processors of several kinds"),
    ],
)  # fmt: skip
def test_wrong_requests(folder: Path, command: Any, words: tuple[str, ...], status: int, said: str) -> None:
    done = command(*WORDS, "-o", "no", *words, cwd=folder)
    assert done.status == status, done.err
    assert said in done.err and len(done.err.strip().splitlines()) == 1 and not (folder / "no").exists()


def test_asymmetric_weights(folder: Path, command: Any) -> None:
    """Blocks do without zero points there; what there is no form of at all is refused."""
    words = ("compile", "mm.onnx", "--target", "tensorrt", "-q", "--data", "r.npz")
    done = command(*words, "-o", "four", "--recipe", "int4-weights", "--set", "quantize-weights.least=1", cwd=folder)
    assert done.status == 0, done.err
    graph = onnx.load(folder / "four" / "model.onnx").graph
    (back,) = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    zero = next(item for item in graph.initializer if item.name == back.input[2])
    assert zero.data_type == onnx.TensorProto.INT4 and not onnx.numpy_helper.to_array(zero).any()
    two = ("--recipe", "int8-weights", "--set", "quantize-weights.bits=2", "--set", "quantize-weights.least=1")
    done = command(*words, "-o", "no", *two, cwd=folder)
    assert done.status == 2 and not (folder / "no").exists()
    assert "cannot have weights in int2: TensorRT has no int2 there; change --set quantize-weights.bits" in done.err


@needs_builder
def test_an_operator_that_tensorrt_refuses(folder: Path, command: Any) -> None:
    words = ("compile", "refused.onnx", "--target", "tensorrt", "-q", "--data", "r.npz")
    done = command(*words, "-o", "no", cwd=folder)
    assert done.status == 1 and not (folder / "no").exists()
    assert "TensorRT's parser refuses node" in done.err and "(DynamicQuantizeLinear)" in done.err
    done = command(*words, "-o", "elsewhere", "--set", "tensorrt.engine=false", cwd=folder)
    assert done.status == 0 and (folder / "elsewhere" / "tensorrt" / "onnxruntime.json").is_file()


def test_without_the_package_the_folder_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PACKAGES", ())
    package.cache_clear()
    try:
        result = qc.compile(folder / "m.onnx", target="tensorrt", data=folder / "d.npz", min_speedup=0.01)
    finally:
        package.cache_clear()
    (said,) = [text for text in result.report["warnings"] if "no engine was built" in text]
    assert "tensorrt/build.sh" in said and "(trtexec --onnx=../model.onnx " in said and "qcompiler[tensorrt]" in said
    assert result.report["tensorrt"]["package"] is None and result.report["fused"] is None
    result.save(folder / "bare")
    assert {path.name for path in (folder / "bare" / "tensorrt").iterdir()} == {
        "build.json", "build.sh", "build_engine.py", "onnxruntime.json"
    }  # fmt: skip


def test_a_builder_that_fails_leaves_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies is told, and everything else is written."""
    if not package():
        pytest.skip("there is no builder")
    result = qc.compile(
        folder / "m.onnx",
        target="tensorrt",
        data=folder / "d.npz",
        min_speedup=0.01,
        settings=["tensorrt.engine=false"],
    )
    assert result.report["tensorrt"]["engines"] == []
    monkeypatch.setattr(engine.sys, "executable", "/bin/false")
    made = TensorRt(profile="x:1x8x12x8").artifacts(
        result.model, [{"x": np.zeros((1, 8, 12, 8), np.float32)}], lambda _: None
    )
    assert any("no engine could be built" in text for text in made.problems)


@needs_builder
@pytest.mark.parametrize("recipe", ["cluster", "int8-weights", "int4-weights", "prune-int8", "auto"])
def test_whatever_recipe_the_engine_is_built(folder: Path, command: Any, recipe: str) -> None:
    """What TensorRT does not take, such as codebooks, is rolled back."""
    words = ("--recipe", recipe, "--data", "d.npz", "--arch", "sm_89", "--min-sqnr", "10")
    done = command(*WORDS, "-o", recipe, *words, cwd=folder)
    assert done.status == 0, done.err
    report = json.loads((folder / recipe / "report.json").read_text())
    assert len(report["tensorrt"]["engines"]) == 1
    if recipe == "cluster":
        (item,) = [item for item in report["passes"] if item["name"] == "cluster-weights"]
        assert item["status"] == "rolled-back" and "TensorRT's parser refuses" in item["reason"]
    if recipe in ("int8-weights", "int4-weights"):
        assert any("cards are slower in float32" in text for text in report["warnings"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("architectures = [10]", "there is no architecture sm_10"),
        ('architectures = ["sm_86"]', "target_options.tensorrt.architectures cannot be 'sm_86'"),
        ("profile = 3", "profile '3' is not INPUT:MIN,OPT,MAX"),
        ('engine = "perhaps"', "target_options.tensorrt.engine cannot be 'perhaps'"),
        ('colour = "red"', "target 'tensorrt' has no option 'colour'"),
        ('products = "float8"\narchitectures = [86]', "sm_86 has no 8-bit floats"),
    ],
)
def test_wrong_options_in_a_recipe(folder: Path, command: Any, text: str, said: str) -> None:
    recipe = 'name = "mine"\n[target_options.tensorrt]\n' + text + '\n[[pass]]\nname = "quantize-static"\n'
    (folder / "mine.toml").write_text(recipe)
    done = command(*WORDS, "-o", "no", "--recipe", "mine.toml", "--data", "d.npz", cwd=folder)
    assert done.status == 2 and said in done.err and "Traceback" not in done.err
