"""Our kernels as plugins of TensorRT: an experiment, as far as it can be tested without a card."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.errors import LoweringError
from qcompiler.ir import Model, verify
from qcompiler.lower import DYNAMIC, STATIC, Form, TensorRt
from qcompiler.lower.tensorrt import package
from qcompiler.lower.tensorrt.engine import planned_8_bits, refusal
from qcompiler.lower.tensorrt.plugins import without_hidden
from tests.lower.models import model_of
from tests.lower.tensorrt import needs_builder, noise, observe


@pytest.fixture(scope="module")
def plugged() -> tuple[Model, Model, Any]:
    """A product whose rows are quantized in every run, and a static one behind it."""
    pytest.importorskip("triton")
    text = "agraph (float[4,64] x) => (float[4,32] y) { a = MatMul(x, w1)  b = Add(a, b1)  r = Relu(b)  y = MatMul(r, w2) }"
    model = model_of(text, 17, w1=(64, 64), b1=(64,), w2=(64, 32))
    target = TensorRt(plugins=True, architectures=(86, 90))
    observe(model, target)
    first, second = target.groups(model)[0]
    plan = {first: Form(DYNAMIC, target.weight_spec(1)), second: Form(STATIC, target.weight_spec(1))}
    made = target.lower(model, plan)
    feed = {"x": np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)}
    return model, made, target.artifacts(made, [feed], lambda _: None)


def test_plugins_stand_beside_pairs(plugged: tuple[Model, Model, Any]) -> None:
    model, made, _ = plugged
    verify(made)
    assert [node.op_type for node in made.graph if node.domain] == ["DynamicMatMul"]
    assert planned_8_bits(made) == ["y"]
    assert noise(model, made) < 0.001


def test_a_plugin_is_a_call_with_arguments_in_order(plugged: tuple[Model, Model, Any], tmp_path: Path) -> None:
    """Inputs, int32 sizes, outputs: as many as the kernel has parameters, once what Triton appends is gone."""
    made = plugged[2]
    made.write(tmp_path)
    folder = tmp_path / "tensorrt"
    (item,) = json.loads((folder / "plugins.json").read_text())
    staged = onnx.load(folder / "model.onnx")
    (node,) = [node for node in staged.graph.node if node.op_type == item["name"]]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    assert attributes == {"plugin_namespace": b"qcompiler", "plugin_version": b"1", "aot": 1}
    assert not node.domain and not staged.functions
    held = {one.name: one for one in staged.graph.initializer}
    kinds = [onnx.numpy_helper.to_array(held[name]).dtype.name if name in held else "float32" for name in node.input]
    assert kinds == item["inputs"] and item["sizes"] == [4, 64, 64]
    for capability, card in item["cards"].items():
        text = (folder / "plugins" / card["ptx"]).read_text()
        entry = text[text.index(".entry") : text.index(")", text.index(".entry"))]
        assert card["entry"] in entry
        assert entry.count(".param") == len(item["inputs"]) + len(item["sizes"]) + len(item["outputs"])
        _assembles(folder / "plugins" / card["ptx"], f"sm_{capability}{'a' if capability == '90' else ''}")
    assert made.record()["tensorrt"]["command"] == "python3 build_engine.py"
    if package().startswith("tensorrt_rtx"):
        assert any("plugins cannot be registered: No module named 'tensorrt'" in text for text in made.problems)


def _assembles(path: Path, architecture: str) -> None:
    import triton

    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    subprocess.run([assembler, f"-arch={architecture}", path, "-o", "/dev/null"], check=True, capture_output=True)


@pytest.mark.parametrize("options", [{"products": "float8"}, {"floats": "bfloat16"}])
def test_what_plugins_cannot(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="plugins multiply int8"):
        TensorRt(plugins=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("x:2x16x64", ""),
        ("x:1x16x64,2x16x64,4x16x64", "a plugin stands for one shape, and the profile of input 'x' has several"),
    ],
)
def test_plugins_of_a_dynamic_model(profile: str, said: str) -> None:
    pytest.importorskip("triton")
    model = model_of("agraph (float[N,16,64] x) => (float[N,16,32] y) { y = MatMul(x, w) }", 17, w=(64, 32))
    target = TensorRt(plugins=True, architectures=(86,), profile=profile)
    observe(model, target)
    (group,) = target.groups(model)[0]
    made = target.lower(model, {group: Form(DYNAMIC, target.weight_spec(1))})
    feeds = ({"x": np.zeros((count, 16, 64), np.float32)} for count in (1, 4))  # an iterator, as the compiler gives it
    found = target.artifacts(made, feeds, lambda _: None)
    assert (found.plugins is None) == bool(said)
    assert any(said in text for text in found.problems) if said else found.plugins is not None
    none = replace(target, architectures=()).artifacts(made, [{"x": np.zeros((2, 16, 64), np.float32)}], lambda _: None)
    assert none.plugins is None and not none.engines


def test_ptx_from_hopper_on_is_for_one_architecture() -> None:
    script = Path(sys.modules[refusal.__module__].__file__ or "").with_name("register_plugins.py")
    spec = importlib.util.spec_from_file_location("register_plugins", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runs = {
        (made, here)
        for made in (80, 86, 90, 120)
        for here in (80, 86, 89, 90, 103, 120, 121)
        if module._runs(made, here)
    }
    assert runs == {(80, 80), (80, 86), (80, 89), (86, 86), (86, 89), (90, 90), (120, 120)}


def test_memory_that_triton_hands_over_cannot_be_taken_away() -> None:
    ptx = ".visible .entry f(\n\t.param .u64 f_param_0,\n\t.param .u64 f_param_1,\n\t.param .u64 f_param_2\n)\n{ ld.param.u64 %rd1, [f_param_1]; }"
    assert without_hidden(ptx, "f", 1).count(".param .u64") == 2
    with pytest.raises(LoweringError, match="memory that Triton hands over"):
        without_hidden(ptx, "f", 2)
    with pytest.raises(LoweringError, match="no entry 'g'"):
        without_hidden(ptx, "g", 1)


@needs_builder
def test_the_parser_looks_for_the_plugin(plugged: tuple[Model, Model, Any], tmp_path: Path) -> None:
    """TensorRT for RTX has no Python plugins: its parser says whose name and namespace it misses."""
    plugged[2].write(tmp_path)
    settings_file = tmp_path / "tensorrt" / "build.json"
    settings_file.write_text(json.dumps(json.loads(settings_file.read_text()) | {"plugins": None}))
    assert "DynamicMatMul_0_" in refusal(tmp_path / "tensorrt")
