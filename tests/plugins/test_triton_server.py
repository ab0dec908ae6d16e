"""Repositories for Triton Inference Server: parsed by its own schema, warm-up files as long as they say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler as qc
from qcompiler.errors import LoweringError, UsageError
from qcompiler.plugins import TritonServer
from tests.lower.models import proto_of

ROOT = Path(__file__).resolve().parents[2]
CONV = "g (float[n,3,8,8] x) => (float[n,4,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w) }"
BYTES = {"BOOL": 1, "UINT8": 1, "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4}


def schema() -> Any:
    """Triton's own protobuf, of its client; the rest of the client is not imported, for it wants gRPC."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no tritonclient, which holds the schema")
    path = Path(next(iter(found.submodule_search_locations))) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(folder: Path) -> Any:
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(), schema().ModelConfig())


def compiled(text: str, **options: Any) -> qc.Result:
    shapes = options.pop("shapes", {})
    return qc.compile(proto_of(text, **shapes), recipe="lossless", **options)


def served(result: qc.Result, tmp_path: Path, name: str = "net", **options: Any) -> Any:
    server = TritonServer(result, name, **options)
    folder = result.save(tmp_path / "build", also=[server])
    found = parsed(folder / "triton-server" / name)
    place = folder / "triton-server" / name
    assert (place / "1" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    (warm,) = found.model_warmup
    for entry in warm.inputs.values():
        kind = schema().DataType.Name(entry.data_type).removeprefix("TYPE_")
        size = (place / "warmup" / entry.input_data_file).stat().st_size
        assert kind == "STRING" or size == math.prod(entry.dims) * BYTES[kind]
        assert -1 not in entry.dims
    return found


def test_a_shared_dynamic_batch_is_left_out_of_dims(tmp_path: Path) -> None:
    found = served(compiled(CONV, shapes={"w": (4, 3, 3, 3)}), tmp_path)
    assert (found.name, found.backend, found.max_batch_size) == ("net", "onnxruntime", 8)
    assert list(found.input[0].dims) == [3, 8, 8]
    assert list(found.output[0].dims) == [4, 8, 8]
    assert found.HasField("dynamic_batching")
    assert found.instance_group[0].kind == found.instance_group[0].KIND_CPU
    assert list(found.model_warmup[0].inputs["x"].dims) == [3, 8, 8]


def test_a_fixed_batch_is_part_of_dims(tmp_path: Path) -> None:
    found = served(compiled(CONV.replace("n,", "2,"), shapes={"w": (4, 3, 3, 3)}), tmp_path)
    assert found.max_batch_size == 0
    assert list(found.input[0].dims) == [2, 3, 8, 8]
    assert not found.HasField("dynamic_batching")


def test_two_rows_tell_a_batch_by_another_name(tmp_path: Path) -> None:
    text = "g (float[a,4] x) => (float[b,4] y, float[b,2] z) { y = Relu(x) z = MatMul(y, w) }"
    assert served(compiled(text, shapes={"w": (4, 2)}), tmp_path).max_batch_size == 8


@pytest.mark.parametrize(
    "text",
    [
        "g (float[n,4] x) => (float[n,4] y, float[m,4] z) { y = Softmax<axis=0>(x) z = Relu(y) }",
        "g (float[n,4] x) => (float[n,4] y) { m = ReduceMean<axes=[0]>(x) y = Sub(x, m) }",
        "g (float[n,4] x) => (float[n,4] y) { t = Transpose(x) s = MatMul(x, t) y = MatMul(s, x) }",
        "g (float[n,4] x) => (float[n,4] y) { m = ReduceMean<axes=[0]>(x) s = Mul(m, m) p = Mul(s, s) y = Add(x, p) }",
        "g (float[n,4] x) => (float[n,4] y) { m = ReduceMean<axes=[0]>(x) u = Add(x, m) z = Sub(x, x) l = Log(z) y = Add(u, l) }",
        "g (float[n,4] x) => (int64[n] y) { m = ReduceMean<axes=[0]>(x) u = Sub(m, x) y = ArgMax<axis=1, keepdims=0>(u) }",
    ],
)
def test_what_mixes_rows_has_no_batch(tmp_path: Path, text: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32)
    assert served(compiled(text), tmp_path, sample={"x": x}).max_batch_size == 0


def test_a_dynamic_form_whose_scale_is_of_the_batch_still_has_one(tmp_path: Path) -> None:
    text = "g (float[n,64] x) => (float[n,64] y) { h = MatMul(x, w) y = MatMul(h, v) }"
    rows = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    result = qc.compile(
        proto_of(text, w=(64, 64), v=(64, 64)), recipe="int8-dynamic", data={"x": rows}, min_speedup=0.01
    )
    assert served(result, tmp_path, sample={"x": rows[:1]}).max_batch_size == 8


def test_scalars_strings_odd_names_and_other_types(tmp_path: Path) -> None:
    text = (
        "g (string[n,2] words, int64 k, float16[n,2] h, bool[n,2] m)"
        " => (string[n,2] a, int64 b, float16[n,2] c, bool[n,2] d)"
        " { a = Identity(words) b = Neg(k) c = Relu(h) d = Not(m) }"
    )
    proto = proto_of(text)
    odd = 'wo"rds\\é'
    proto.graph.input[0].name = odd
    proto.graph.node[0].input[0] = odd
    halves = np.zeros((1, 2), np.float16)
    sample = {odd: np.array([["a", "bé"]], object), "k": np.array(3), "h": halves, "m": halves > 0}
    result = qc.compile(proto, recipe="lossless", data=[sample])
    found = served(result, tmp_path, sample=sample)
    assert [item.name for item in found.input] == [odd, "k", "h", "m"]
    assert list(found.input[1].dims) == [1] and found.input[1].HasField("reshape")
    place = tmp_path / "build" / "triton-server" / "net" / "warmup"
    assert (place / "input0").read_bytes() == b"\x01\0\0\0a\x03\0\0\0b\xc3\xa9"
    assert (place / "input1").read_bytes() == b"\x03" + b"\0" * 7


def test_tensorrt_is_a_provider_of_the_backend(tmp_path: Path) -> None:
    options = {"target": "tensorrt", "settings": ["tensorrt.engine=false"]}
    result = compiled(CONV, shapes={"w": (4, 3, 3, 3)}, data={"x": np.ones((2, 3, 8, 8), np.float32)}, **options)
    found = served(result, tmp_path)
    (accelerator,) = found.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("tensorrt", {"precision_mode": "FP16"})
    assert found.instance_group[0].kind == found.instance_group[0].KIND_GPU


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (bfloat16[n] x) => (bfloat16[n] y) { y = Relu(x) }", "'x' is bfloat16, which"),
        ("g (float[n] x) => (seq(float[n]) y) { y = SequenceConstruct(x) }", "'y' is no tensor"),
        ("g (float[0] x) => (float[0] y) { y = Relu(x) }", "has an axis of 0"),
    ],
)
def test_what_the_server_cannot_take_is_told_and_nothing_is_left(tmp_path: Path, text: str, reason: str) -> None:
    result = qc.compile(proto_of("g (float[n] x) => (float[n] y) { y = Relu(x) }"), recipe="lossless")
    result.model = qc.load(proto_of(text))
    with pytest.raises(LoweringError, match=reason):
        result.save(tmp_path / "build", also=[TritonServer(result, "net")])
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a/b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    result = compiled(CONV, shapes={"w": (4, 3, 3, 3)})
    with pytest.raises(UsageError, match="can be no model of a server"):
        result.save(tmp_path / "build", also=[TritonServer(result, name)])
