"""Weights in files of their own: mapped and not read, never from outside of the model's folder, never half there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from qcompiler.dtypes import DType
from qcompiler.errors import ImportFailure, OutputError
from qcompiler.ir import ExternalTensor, Graph, Model, Node, SparseTensor, TensorType, Value, difference, tensor
from qcompiler.onnx_io import from_proto, load, needs_external_data, save, to_bytes, to_proto, weight_bytes, writer

Refusal = Callable[[Any], str]
Run = Callable[..., list[Any]]
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(40, 30)).astype(np.float32), RNG.normal(size=(500,)).astype(np.float32)


@pytest.fixture
def model() -> Model:
    """y = x @ w, z = sum(b), with w shared by two values and a weight too small to be worth a file."""
    graph = Graph("g")
    x = graph.add_input(Value("x", TensorType(DType.FLOAT, (2, 40))))
    shared = tensor(W)
    w, again = graph.add_constant(shared, "w"), graph.add_constant(shared, "again")
    a = graph.append(Node("MatMul", [x, w])).output
    b = graph.append(Node("MatMul", [x, again])).output
    c = graph.append(Node("Add", [a, b])).output
    y = graph.append(Node("Mul", [c, graph.add_constant(tensor([0.5], DType.FLOAT), "half")])).output
    z = graph.append(Node("ReduceSum", [graph.add_constant(tensor(B), "b")], {"keepdims": 0})).output
    for value, name, shape in ((y, "y", (2, 30)), (z, "z", ())):
        value.name, value.type = name, TensorType(DType.FLOAT, shape)
        graph.add_output(value)
    return Model(graph, {"": 20})


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    save(model, tmp_path / "model.onnx", external_data=True)
    return tmp_path / "model.onnx"


def entries(path: Path) -> dict[str, dict[str, str]]:
    proto = onnx.load(path, load_external_data=False)
    return {item.name: {e.key: e.value for e in item.external_data} for item in proto.graph.initializer}


def rewrite(path: Path, name: str, **entry: str) -> None:
    """Say something else of where the tensor ``name`` lies."""
    proto = onnx.load(path, load_external_data=False)
    held = next(item for item in proto.graph.initializer if item.name == name)
    kept = {e.key: e.value for e in held.external_data} | entry
    del held.external_data[:]
    for key, value in kept.items():
        if value:
            held.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


# Out


def test_what_is_written_is_read_back_by_everyone(model: Model, path: Path, run: Run) -> None:
    loaded = load(path)
    assert difference(model, loaded) == ""
    x = RNG.normal(size=(2, 40)).astype(np.float32)
    for expected, found in zip(run(onnx.ModelProto.FromString(to_bytes(model)), x=x), run(path, x=x), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0]), W)


def test_shared_weights_lie_there_once_aligned_and_small_ones_stay_inline(path: Path) -> None:
    found = entries(path)
    assert found["w"] == found["again"] and not found["half"]
    assert int(found["b"]["offset"]) % 4096 == 0 and found["w"]["location"] == "model.onnx.data"
    assert path.with_name("model.onnx.data").stat().st_size == 4096 * 2 + B.nbytes  # w takes two pages


def test_the_same_model_gives_the_same_bytes(model: Model, path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    save(load(path), again / "model.onnx", external_data=True)
    for name in ("model.onnx", "model.onnx.data"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_files_that_onnx_wrote_are_read(model: Model, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(to_bytes(model))
    convert_model_to_external_data(proto, location="weights/all.bin", size_threshold=0)
    (tmp_path / "weights").mkdir()
    onnx.save(proto, tmp_path / "other.onnx")
    assert difference(load(tmp_path / "other.onnx"), model) == ""


def test_a_model_may_be_saved_over_itself(model: Model, path: Path) -> None:
    written = save(load(path), path, external_data=True)
    assert written == [path, path.with_name("model.onnx.data")] and difference(load(path), model) == ""
    save(load(path), path, external_data=False)
    assert difference(load(path), model) == ""


def test_size_decides_when_nobody_does(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = W.nbytes + B.nbytes + 4  # the shared weight counts once
    assert weight_bytes(model) == total and not needs_external_data(model)
    assert save(model, tmp_path / "a.onnx") == [tmp_path / "a.onnx"]
    monkeypatch.setattr(writer, "_LIMIT", total - 1)
    assert needs_external_data(model)
    assert save(model, tmp_path / "b.onnx") == [tmp_path / "b.onnx", tmp_path / "b.onnx.data"]
    assert difference(load(tmp_path / "b.onnx"), model) == ""
    with pytest.raises(OutputError, match="over 2 GB"):
        to_bytes(model)
    monkeypatch.setattr(writer, "_LIMIT", total)
    assert not needs_external_data(model)


def test_every_type_goes_through_a_file(tmp_path: Path) -> None:
    graph = Graph("g")
    for dtype in (DType(number) for number in onnx.TensorProto.DataType.values() if number):
        array = np.arange(3001) % 2 if dtype is not DType.STRING else np.array(["a", "ü"] * 600, object)
        value = graph.add_constant(tensor(array.astype(dtype.numpy)), dtype.name)
        graph.add_output(graph.append(Node("Foo", [value], domain="t")).output)
    values = tensor(RNG.normal(size=300).astype(np.float32))
    sparse = SparseTensor(values, tensor(np.arange(300) * 2), (1000,), "sparse")
    graph.add_output(graph.append(Node("Foo", [graph.add_constant(sparse, "sparse")], domain="t")).output)
    for position, value in enumerate(graph.outputs):
        value.name, value.type = f"y{position}", TensorType(DType.FLOAT, ())
    model = Model(graph, {"t": 1})
    model.ir_version = onnx.IR_VERSION
    save(model, tmp_path / "types.onnx", external_data=True)
    back = load(tmp_path / "types.onnx")
    assert difference(model, back) == ""
    outside = {value.name for value in back.graph.constants if isinstance(value.const, ExternalTensor)}
    assert {"FLOAT", "INT64", "INT4", "BFLOAT16", "FLOAT8E5M2"} <= outside and "STRING" not in outside


# In


def test_a_tensor_without_a_length_ends_where_its_elements_do(path: Path, model: Model) -> None:
    rewrite(path, "w", length="")
    loaded = load(path)
    assert difference(loaded, model) == ""
    assert all(len(value.const.data()) == value.const.nbytes for value in loaded.graph.constants)


def test_entries_with_words_of_their_own_keep_them(path: Path) -> None:
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[1].doc_string = "the same again"
    path.write_bytes(proto.SerializeToString())
    docs = {item.name: item.doc_string for item in to_proto(load(path)).graph.initializer}
    assert docs == {"w": "", "again": "the same again", "half": "", "b": ""}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc")
def test_a_large_model_is_imported_without_reading_its_weights(tmp_path: Path) -> None:
    size = 300 << 20
    graph = Graph("g")
    graph.add_output(
        graph.append(Node("Identity", [graph.add_constant(tensor(np.zeros(300, np.float32)), "w")])).output
    )
    graph.outputs[0].name, graph.outputs[0].type = "y", TensorType(DType.FLOAT, (size // 4,))
    save(Model(graph, {"": 20}), tmp_path / "m.onnx", external_data=True)
    with (tmp_path / "m.onnx.data").open("r+b") as file:
        file.truncate(size)  # a hole: it takes no room on the disk
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    proto.graph.initializer[0].dims[:] = [size // 4]
    proto.graph.initializer[0].external_data[2].value = str(size)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    code = """
import sys
from qcompiler.onnx_io import load, weight_bytes
from qcompiler.ir import verify, clone_model
def peak():  # kilobytes
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
before = peak()
model = clone_model(load(sys.argv[1]))
verify(model)
value, = model.graph.constants
assert float(value.constant.numpy()[-1]) == 0
print(weight_bytes(model), peak() - before)
value.constant.numpy()[: 25 << 20].sum()
print(peak() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    weights, unread, read = map(int, done.stdout.split())
    assert weights == size and unread < 30_000 < 90_000 < read  # the last shows that reading does show


def test_a_missing_file_is_named(path: Path, refusal: Refusal) -> None:
    path.with_name("model.onnx.data").unlink()
    found = re.fullmatch(r"the external data file (.*) of tensor '[wb]' is missing; copy it .*", refusal(path))
    assert found and found[1] == f"{path}.data"


def test_a_file_that_is_too_short(path: Path, refusal: Refusal) -> None:
    os.truncate(path.with_name("model.onnx.data"), 8192 + 100)
    message = refusal(path)
    assert "'b'" in message and "2000" in message


@pytest.mark.parametrize(
    "entry",
    [{"offset": "-1"}, {"offset": "many"}, {"length": "10"}, {"length": "many"}, {"offset": "999999999999"}],
    ids=str,
)
def test_a_place_that_cannot_be(path: Path, refusal: Refusal, entry: dict[str, str]) -> None:
    rewrite(path, "w", **entry)
    assert "'w'" in refusal(path)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "sub/../../secret", "", ".", "link", "folder/secret"]
)
def test_a_path_that_leaves_the_folder_is_refused(path: Path, refusal: Refusal, location: str) -> None:
    folder = path.parent / "inner"
    folder.mkdir()
    (path.parent / "secret").write_bytes(bytes(1 << 14))
    (folder / "link").symlink_to(path.parent / "secret")
    (folder / "folder").symlink_to(path.parent)
    (folder / "model.onnx.data").write_bytes(bytes(1 << 14))
    moved = path.rename(folder / "model.onnx")
    rewrite(moved, "w", location=location)
    message = refusal(moved)
    assert "tensor 'w'" in message
    assert "outside the model's folder" in message or (location == "." and "missing" in message)


def test_strings_do_not_lie_in_a_file(path: Path) -> None:
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].data_type = onnx.TensorProto.STRING
    with pytest.raises(ImportFailure, match=r"tensor 'w' .* strings cannot lie in a file of their own"):
        from_proto(proto, path.parent)


def test_bytes_have_no_folder(path: Path, refusal: Refusal) -> None:
    expected = r"tensor '[wb]' lies in the external file 'model.onnx.data', but .*; give the path .*"
    assert re.fullmatch(expected, refusal(path.read_bytes()))


@pytest.mark.parametrize("where", ["attribute", "branch", "function", "sparse"])
def test_no_corner_of_a_model_reaches_outside(tmp_path: Path, refusal: Refusal, where: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    held = onnx.TensorProto(data_type=1, dims=[2], data_location=1, name="bad")
    held.external_data.add(key="location", value="../secret")
    node = onnx.helper.make_node("Constant", [], ["y"], value=held)
    info = onnx.helper.make_tensor_value_info("y", 1, [2])
    nodes, functions = [node], []
    if where == "branch":
        body = onnx.helper.make_graph([node], "b", [], [info])
        yes = onnx.helper.make_node("Constant", [], ["c"], value=onnx.helper.make_tensor("c", 9, [], [1]))
        nodes = [yes, onnx.helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)]
    elif where == "function":
        opsets = [onnx.helper.make_opsetid("", 20)]
        functions = [onnx.helper.make_function("local", "F", [], ["y"], [node], opsets)]
        nodes = [onnx.helper.make_node("F", [], ["y"], domain="local")]
    elif where == "sparse":
        indices = onnx.helper.make_tensor("", 7, [2], [0, 1])
        held.dims[:] = [2]
        nodes = [
            onnx.helper.make_node(
                "Constant", [], ["y"], sparse_value=onnx.helper.make_sparse_tensor(held, indices, [2])
            )
        ]
    graph = onnx.helper.make_graph(nodes, "g", [], [info])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("local", 1)]
    proto = onnx.helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    assert "secret" in refusal(folder / "m.onnx") or "bad" in refusal(folder / "m.onnx")
