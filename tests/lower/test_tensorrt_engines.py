"""Engines of TensorRT: profiles, the script that builds them, and what is read out of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompiler as qc
from qcompiler.errors import LoweringError, UsageError
from qcompiler.lower import TensorRt
from qcompiler.lower.tensorrt import Layer, build_engines, engine_record, layers_of_inspector, layers_of_plan, package
from qcompiler.lower.tensorrt.deployment import build_settings, trtexec_command
from qcompiler.lower.tensorrt.engine import Engine, refusal
from qcompiler.lower.tensorrt.profiles import parse_profile, profile_of_samples
from qcompiler.onnx_io import to_proto
from tests.lower.models import model_of, proto_of
from tests.lower.tensorrt import CONV, WEIGHT, engine_of, lowered, needs_builder, noise

SHAPED = "agraph (float[N,3,H,W] x, float[N] s) => (float[N,3,H,W] y) { y = Relu(x) t = Relu(s) }"


def test_a_profile() -> None:
    model = model_of(SHAPED, 17)
    found = parse_profile("x:1x3x32x32,1x3x640x640,4x3x960x960; s:1,1,4", model)
    assert found == {"x": ((1, 3, 32, 32), (1, 3, 640, 640), (4, 3, 960, 960)), "s": ((1,), (1,), (4,))}
    assert parse_profile("x:2x3x8x8;s:2", model)["x"] == ((2, 3, 8, 8),) * 3
    command = trtexec_command(build_settings(found, (86,), True))
    assert "--minShapes=x:1x3x32x32,s:1 --optShapes=x:1x3x640x640,s:1 --maxShapes=x:4x3x960x960,s:4 --refit" in command


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "profile 'x' is not INPUT:MIN,OPT,MAX"),
        ("x:1x3xAx8;s:1", "profile 'x:1x3xAx8' is not"),
        ("z:1", "no dynamic input 'z'"),
        ("x:1x3x8x8,1x3x8x8;s:1", "has 2 shapes, not 1 or 3"),
        ("x:1x3x8;s:1", "3 axes where the input has 4"),
        ("x:1x4x8x8;s:1", "a size of 4 where the input has 3 there"),
        ("x:0x3x8x8;s:1", "a size of 0 where the input has 1 or more"),
        ("x:1x3x8x8,1x3x4x8,1x3x8x8;s:1", "8, 4, 8 do not grow"),
        ("x:1x3x8x8", "nothing of input 's'"),
    ],
)  # fmt: skip
def test_wrong_profiles(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_profile(text, model_of(SHAPED, 17))
    assert said in caught.value.what


def test_the_profile_of_samples() -> None:
    model = model_of(SHAPED, 17)
    shapes = [(1, 32, 64), (1, 32, 64), (2, 64, 32)]
    samples = [{"x": np.zeros((n, 3, h, w), np.float32), "s": np.zeros(n, np.float32)} for n, h, w in shapes]
    assert profile_of_samples(model, samples) == {
        "x": ((1, 3, 32, 32), (1, 3, 32, 64), (2, 3, 64, 64)),
        "s": ((1,), (1,), (2,)),
    }
    assert profile_of_samples(model_of(CONV, 17, **WEIGHT), samples) == {}


@needs_builder
@pytest.mark.parametrize("capability", [86, 89, 120])
def test_an_engine_multiplies_in_int8(capability: int) -> None:
    made = lowered(model_of(CONV, 17, **WEIGHT))
    layers = engine_of(made, capability)
    assert [layer.in_8_bits for layer in layers if layer.multiplies] == [True, True]


@needs_builder
def test_an_engine_multiplies_in_8_bit_floats() -> None:
    model = model_of(CONV, 17, **WEIGHT)
    target = TensorRt(products="float8")
    assert target.cards == (89, 120) and TensorRt(products="float8", architectures=()).card.capability == 89
    made = lowered(model, target)
    assert noise(model, made) < 0.01
    layers = engine_of(made, 89)
    assert [layer.reads[:2] for layer in layers if layer.multiplies] == [("float8", "float8")] * 2
    assert target.runs_as(next(node for node in made.graph if node.name == "a")) == "float8 Conv"
    with pytest.raises(ValueError, match="sm_86 has no 8-bit floats"):
        TensorRt(architectures=(86,), products="float8")


@needs_builder
def test_an_engine_with_a_profile() -> None:
    text = CONV.replace("float[1,8,8,8] x", "float[N,8,8,8] x").replace("float[1,8,8,8] y", "float[N,8,8,8] y")
    made = lowered(model_of(text, 17, **WEIGHT))
    shapes = {"x": ((1, 8, 8, 8), (2, 8, 8, 8), (4, 8, 8, 8))}
    assert sum(layer.in_8_bits for layer in engine_of(made, 86, shapes)) == 2


@needs_builder
def test_the_parsers_words(tmp_path: Path) -> None:
    text = "agraph (float[1,8] x) => (uint8[1,8] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(x) }"
    onnx.save(proto_of(text, 17), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), False, "model.onnx")))
    assert re.match(r"TensorRT's parser refuses node .*\(DynamicQuantizeLinear\): .+", refusal(tmp_path))


@needs_builder
def test_the_script_by_itself(tmp_path: Path) -> None:
    """Engines of a folder that somebody copied; one for a card that the package does not know."""
    script = Path(sys.modules[refusal.__module__].__file__ or "").with_name("build_engine.py")
    (tmp_path / "build_engine.py").write_text(script.read_text())
    onnx.save(to_proto(lowered(model_of(CONV, 17, **WEIGHT))), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86, 89), False, "model.onnx")))
    command = [sys.executable, str(tmp_path / "build_engine.py"), "--arch", "sm_89", "--arch", "sm_90"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    assert said[0]["package"] == "tensorrt_rtx" and said[1]["file"] == "model.sm_89.engine"
    assert "does not build for sm_90" in said[2]["problem"] and ended.returncode == 1
    assert len(layers_of_plan((tmp_path / "model.sm_89.engine").read_bytes())) > 2


def test_an_engine_that_nobody_can_read() -> None:
    with pytest.raises(LoweringError, match="no program that could be read"):
        layers_of_plan(b"ptrt\0\1\2descriptors of something")


def test_what_the_inspector_says() -> None:
    """The JSON of TensorRT 10 and of 11, which names the type of a tensor apart from its format."""
    ten = {"Name": "c1 + r1", "LayerType": "CaskConvolution", "Metadata": "[ONNX Layer: c1]\x1e[ONNX Layer: r1]",
           "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
           "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}]}  # fmt: skip
    mixed = {"Name": "c3", "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", "Format/Datatype": "Int8"}],
             "Outputs": [], "Weights": {"Type": "Half", "Count": 9}}  # fmt: skip
    eleven = {"Name": "c2", "LayerType": "gemm", "Metadata": "[ONNX Layer: c2]",
              "Inputs": [{"Name": "x", "Format": "Row major", "Datatype": "Half"}], "Outputs": [{"Name": "y", "Datatype": "Half"}]}  # fmt: skip
    moved = {"Name": "reformat", "LayerType": "Reformat", "Inputs": [], "Outputs": []}
    first, second, third = layers_of_inspector(json.dumps({"Layers": [ten, eleven, moved]}))
    assert not layers_of_inspector(json.dumps({"Layers": [mixed]}))[0].in_8_bits
    assert first.in_8_bits and first.nodes == ("c1", "r1") and first.gives == ("float16",)
    assert second.multiplies and not second.in_8_bits and second.reads == ("float16", "float16")
    assert third.moves and not third.multiplies
    with pytest.raises(LoweringError, match="cannot be read"):
        layers_of_inspector("[1]")


def test_a_residual_in_int8_makes_no_int8_product() -> None:
    assert not Layer("c", (), ("int8", "float16", "int8"), (), True, False).in_8_bits


@needs_builder
def test_an_input_that_holds_sizes(tmp_path: Path) -> None:
    onnx.save(
        proto_of("agraph (float[1,8] x, int64[2] s) => (float[N,M] y) { r = Relu(x) y = Reshape(r, s) }", 17),
        tmp_path / "model.onnx",
    )
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), False, "model.onnx")))
    (problem,) = build_engines(tmp_path).problems
    assert "input 's' holds sizes, for which there is no profile of shapes" in problem


@needs_builder
def test_refit_without_a_card(tmp_path: Path) -> None:
    onnx.save(to_proto(lowered(model_of(CONV, 17, **WEIGHT))), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), True, "model.onnx")))
    built = build_engines(tmp_path)
    assert built.engines or "can be refitted only where there is a card" in built.problems[0]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--arch", "foo"), 1, ""),
        (("--settings", "nofile.json"), 1, "No such file"),
        (("--package", "json"), 2, "json is here as TensorRT"),
        (("--package", "nope"), 2, "pip install tensorrt"),
    ],
)
@needs_builder
def test_wrong_words_to_the_script(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    onnx.save(to_proto(lowered(model_of(CONV, 17, **WEIGHT))), tmp_path / "model.onnx")
    (tmp_path / "build.json").write_text(json.dumps(build_settings({}, (86,), False, "model.onnx")))
    script = Path(sys.modules[refusal.__module__].__file__ or "").with_name("build_engine.py")
    given = words if "--settings" in words else ("--settings", str(tmp_path / "build.json"), *words)
    ended = subprocess.run(
        [sys.executable, str(script), *given], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == status and said in ended.stderr and "Traceback" not in ended.stderr


def test_an_engine_whose_layers_are_not_known_misses_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.sm_86.engine").write_bytes(b"descriptors {\n tensor={ name=} \nmain {\n x={ layers=\0")
    with pytest.raises(LoweringError):
        layers_of_plan((tmp_path / "model.sm_86.engine").read_bytes())
    record = engine_record(Engine("sm_86", tmp_path / "model.sm_86.engine", 0.1, ()), ["a", "b"])
    assert record["found"] is None and record["left_float"] == []


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself leaves one called tensorrt."""
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    package.cache_clear()
    try:
        assert not package().startswith("tensorrt ") and package() != "tensorrt"
    finally:
        package.cache_clear()


def test_samples_of_every_part_make_the_profile(tmp_path: Path) -> None:
    text = "agraph (float[1,8,H,8] x) => (float[1,8,H,8] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  y = Conv(r, w2) }"
    random = np.random.default_rng(0)
    data = [{"x": random.standard_normal((1, 8, 8 + 32 * (index % 2), 8)).astype(np.float32)} for index in range(8)]
    result = qc.compile(
        proto_of(text, 17, **WEIGHT), target="tensorrt", data=data, min_speedup=0.01, settings=["tensorrt.engine=false"]
    )
    low, _, high = result.report["tensorrt"]["profile"]["x"]
    assert (low, high) == ([1, 8, 8, 8], [1, 8, 40, 8])
