"""The container: every byte comes back, any that is changed is noticed, and nothing is written outside."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import ImportFailure, OutputError
from qcompiler.storage import pack, unpack
from qcompiler.storage.codecs import decoded, encoded
from qcompiler.storage.container import CHUNK, END, FILE, FILE_END, Writer
from qcompiler.storage.segments import tensors_of


def model(*, external: str | None = None, folder: Path | None = None) -> bytes:
    """Weights of several types, one in a nested graph, one in an attribute; perhaps with data beside."""
    random = np.random.default_rng(0)
    arrays = {
        "floats": random.standard_normal((64, 32)).astype(np.float32),
        "halves": random.standard_normal((64, 32)).astype(np.float16),
        "bytes": np.clip(random.standard_normal((64, 64)) * 6, -127, 127).astype(np.int8),
        "sparse": (random.random((64, 64)) < 0.05).astype(np.uint8) * 7,
        "longs": np.arange(512),
    }
    held = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    fours = TensorProto(name="fours", data_type=TensorProto.UINT4, dims=[63, 33],
                        raw_data=bytes(random.integers(0, 256, 1040, np.uint8)))  # fmt: skip
    unpacked = helper.make_tensor("old", TensorProto.FLOAT, [300], random.standard_normal(300))  # in float_data
    inner = helper.make_graph(
        [helper.make_node("Identity", ["deep"], ["o"])], "inner", [], [helper.make_tensor_value_info("o", 1, None)],
        [numpy_helper.from_array(random.standard_normal(400).astype(np.float32), "deep")],
    )  # fmt: skip
    constant = numpy_helper.from_array(random.standard_normal(400).astype(np.float32), "c")
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Constant", [], ["z"], value=constant),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", 1, None)], [*held, fours, unpacked],
    )  # fmt: skip
    proto = helper.make_model(graph, doc_string="a text " * 50)
    if external is not None and folder is not None:
        onnx.external_data_helper.convert_model_to_external_data(proto, location=external, size_threshold=1024)
        onnx.save_model(proto, str(folder / "model.onnx"))
        return (folder / "model.onnx").read_bytes()
    return bytes(proto.SerializeToString())


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder with a model, its data beside, and other files."""
    folder = tmp_path / "build"
    (folder / "deeper").mkdir(parents=True)
    model(external="model.onnx.data", folder=folder)
    (folder / "other.onnx").write_bytes(model())
    (folder / "report.json").write_text(json.dumps({"a": 1} | {str(i): i for i in range(500)}))
    (folder / "deeper" / "empty").write_bytes(b"")
    (folder / "deeper" / "tücke.bin").write_bytes(bytes(range(256)) * 9)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_byte_comes_back(build: Path, tmp_path: Path) -> None:
    target, back = tmp_path / "m.qcz", tmp_path / "back"
    back.mkdir()
    packed = pack(build, target)
    assert (packed.files, packed.bytes) == (6, sum(map(len, contents(build).values())))
    assert packed.packed_bytes == target.stat().st_size < packed.bytes
    assert unpack(target, back) == packed
    assert contents(back) == contents(build)


def test_one_model_is_packed_with_its_data(build: Path, tmp_path: Path) -> None:
    back = tmp_path / "back"
    back.mkdir()
    assert pack(build / "model.onnx", tmp_path / "m.qcz").files == 2
    unpack(tmp_path / "m.qcz", back)
    assert contents(back) == {name: contents(build)[name] for name in ("model.onnx", "model.onnx.data")}


def test_tensors_are_found_wherever_they_lie(build: Path) -> None:
    inside = tensors_of(build / "other.onnx").segments[build / "other.onnx"]
    kinds = sorted(segment.dtype.name for segment in inside)
    assert kinds == ["FLOAT"] * 5 + ["FLOAT16", "INT64", "INT8", "UINT4", "UINT8"]
    data = (build / "other.onnx").read_bytes()
    wanted = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32).tobytes()
    assert wanted in [data[segment.start : segment.start + segment.size] for segment in inside]
    outside = tensors_of(build / "model.onnx")
    assert build / "model.onnx.data" in outside.segments
    assert outside.external == {build / "model.onnx.data"}
    with pytest.raises(ValueError):
        tensors_of(build / "report.json")


@given(
    st.sampled_from([0, 2, 4, 8, 16, 32, 64]), st.integers(0, 5000), st.floats(0, 1), st.integers(1, 256),
    st.integers(0, 2**32 - 1), st.booleans(),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_bytes_come_back(bits: int, size: int, usual: float, kinds: int, seed: int, thorough: bool) -> None:
    random = np.random.default_rng(seed)
    data = random.integers(0, kinds, size).astype(np.uint8)
    data[random.random(size) < usual] = 17
    code = encoded(data.tobytes(), bits, thorough=thorough)
    assert decoded(code, size) == data.tobytes()
    assert len(code) <= size + 1


@pytest.mark.parametrize("count", [1, 254, 255, 256, 510, 100_000])
def test_long_gaps(count: int) -> None:
    data = bytes(count) + b"\x05" + bytes(count) + b"\x06\x07" + bytes(count)
    assert decoded(encoded(data, 8), len(data)) == data


def test_indices_are_coded_near_their_entropy() -> None:
    random = np.random.default_rng(0)
    for spread, zeros in ((8.0, 0.0), (3.0, 0.0), (5.0, 0.9)):
        whole = np.clip(np.rint(random.standard_normal(1 << 20) * spread), -127, 127).astype(np.int8)
        whole[random.random(whole.size) < zeros] = 0
        share = np.unique(whole, return_counts=True)[1] / whole.size
        entropy = -(share * np.log2(share)).sum() * whole.size / 8
        assert len(encoded(whole.tobytes(), 8)) < 1.003 * entropy + 600
        assert len(encoded(whole.tobytes(), 8, thorough=False)) < 1.06 * entropy


def small(tmp_path: Path) -> tuple[Path, bytes]:
    folder = tmp_path / "small"
    folder.mkdir()
    array = np.clip(np.random.default_rng(0).standard_normal((20, 20)) * 3, -8, 7).astype(np.int8)
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [],
                              [helper.make_tensor_value_info("y", TensorProto.INT8, [20, 20])],
                              [numpy_helper.from_array(array, "w")])  # fmt: skip
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    pack(folder, tmp_path / "small.qcz")
    return tmp_path / "small.qcz", (tmp_path / "small.qcz").read_bytes()


def test_any_flipped_byte_is_found_and_told(tmp_path: Path) -> None:
    path, whole = small(tmp_path)
    for place in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            broken = bytearray(whole)
            broken[place] ^= mask
            path.write_bytes(broken)
            folder = tmp_path / f"{place}-{mask}"
            folder.mkdir()
            with pytest.raises(ImportFailure) as told:
                unpack(path, folder)
            assert "\n" not in str(told.value)
            assert str(path) in str(told.value)


def test_any_length_but_the_whole_is_found(tmp_path: Path) -> None:
    path, whole = small(tmp_path)
    for data in [*(whole[:length] for length in range(len(whole))), whole + b"\x00", whole + whole]:
        path.write_bytes(data)
        folder = tmp_path / f"at-{len(data)}"
        folder.mkdir()
        with pytest.raises(ImportFailure):
            unpack(path, folder)


def test_a_newer_version_is_told(tmp_path: Path) -> None:
    path, whole = small(tmp_path)
    path.write_bytes(whole[:8] + b"\x07\x00" + whole[10:])
    with pytest.raises(ImportFailure, match="version 7"):
        unpack(path, tmp_path)


def written(path: Path, records: list[tuple[bytes, bytes]]) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        for kind, payload in records:
            writer.record(kind, payload)
    return path


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "C:evil", "", "..", "a\0b", "\ud800"]
)
def test_names_that_leave_the_folder(name: str, tmp_path: Path) -> None:
    import hashlib

    head = json.dumps({"name": name, "size": 0}).encode()
    records = [(FILE, head), (FILE_END, hashlib.sha256().digest()), (END, b"")]
    path, folder = written(tmp_path / "x.qcz", records), tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    with pytest.raises(ImportFailure, match="outside of its folder"):
        unpack(path, folder)
    assert contents(tmp_path).keys() == {"x.qcz"}


BAD: dict[str, list[tuple[bytes, bytes]]] = {
    "no file": [(END, b"")],
    "a chunk without a file": [(CHUNK, b"\1\0\0\0\0a"), (END, b"")],
    "no name": [(FILE, b"[]"), (END, b"")],
    "a size without end": [(FILE, b'{"name": "a", "size": Infinity}'), (END, b"")],
    "deep JSON": [(FILE, b"[" * 50_000), (END, b"")],
    "a size that is none": [(FILE, b'{"name": "a", "size": -1}'), (END, b"")],
    "a chunk that is too long": [(FILE, b'{"name": "a", "size": 1}'), (CHUNK, b"\2\0\0\0\0ab"), (END, b"")],
    "a codec that nobody knows": [(FILE, b'{"name": "a", "size": 1}'), (CHUNK, b"\1\0\0\0\x63a"), (END, b"")],
    "symbols without a table": [(FILE, b'{"name": "a", "size": 9}'), (CHUNK, b"\x09\0\0\0\3\x08"), (END, b"")],
    "no numeral": [(FILE, b'{"name": "a", "size": 9}'), (CHUNK, b"\x09\0\0\0\4\x08" + b"\xff" * 50), (END, b"")],
    "planes of nothing": [(FILE, b'{"name": "a", "size": 9}'), (CHUNK, b"\x09\0\0\0\2\0"), (END, b"")],
    "another content": [
        (FILE, b'{"name": "a", "size": 1}'),
        (CHUNK, b"\1\0\0\0\0a"),
        (FILE_END, b"x" * 32),
        (END, b""),
    ],
    "a file in a file": [(FILE, b'{"name": "a", "size": 1}'), (FILE, b'{"name": "b", "size": 1}'), (END, b"")],
    "no end of the file": [(FILE, b'{"name": "a", "size": 1}'), (CHUNK, b"\1\0\0\0\0a"), (END, b"")],
    "kinds that nobody knows": [(b"Q", b""), (END, b"")],
}


@pytest.mark.parametrize("name", BAD)
def test_containers_that_were_never_packed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(ImportFailure):
        unpack(written(tmp_path / "x.qcz", BAD[name]), folder)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    import hashlib

    one = [(FILE, b'{"name": "a", "size": 0}'), (FILE_END, hashlib.sha256().digest())]
    with pytest.raises(ImportFailure, match="twice"):
        (tmp_path / "in").mkdir()
        unpack(written(tmp_path / "x.qcz", [*one, *one, (END, b"")]), tmp_path / "in")


def test_external_files_are_all_packed_however_small(tmp_path: Path) -> None:
    """Small tensors, one without a length, and one in the attribute of a short node."""
    folder = tmp_path / "m"
    folder.mkdir()
    random = np.random.default_rng(0)
    held = []
    for name, size in {"w": 4000, "b": 8}.items():
        (folder / name).write_bytes(random.standard_normal(size).astype(np.float32).tobytes())
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=name if name == "w" else f"./sub/../{name}")
        held.append(tensor)
    (folder / "c").write_bytes(np.ones(3, np.float32).tobytes())
    inner = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    inner.external_data.add(key="location", value="c")
    graph = helper.make_graph([helper.make_node("Constant", [], ["c"], value=inner)], "g", [],
                              [helper.make_tensor_value_info("c", 1, [3])], held)  # fmt: skip
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert pack(folder / "model.onnx", tmp_path / "m.qcz").files == 4
    back = tmp_path / "back"
    back.mkdir()
    unpack(tmp_path / "m.qcz", back)
    assert contents(back) == contents(folder)


def test_what_could_not_be_unpacked_is_not_packed(build: Path, tmp_path: Path) -> None:
    (build / "a:b.txt").write_text("x")
    with pytest.raises(ImportFailure, match="no name that a container may hold"):
        pack(build, tmp_path / "x.qcz")
    with pytest.raises(ImportFailure, match="no ONNX file"):
        pack(build / "report.json", tmp_path / "x.qcz")
    assert not (tmp_path / "x.qcz").exists()


def test_crafted_records_take_no_memory(tmp_path: Path) -> None:
    import struct
    import tracemalloc

    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 30))  # says so, and would be so
    head = json.dumps({"name": "a", "size": 4}).encode()
    table = np.packbits(np.ones(256, bool)).tobytes() + np.ones(256, "<u2").tobytes()
    crafted = {
        "bomb": b"\x01" + bomb,
        "gaps": b"\x04\x08" + struct.pack("<BII", 0, 1, 1 << 28) + table + struct.pack("<I", 0),
        "others": b"\x04\x08" + struct.pack("<BII", 0, 1 << 30, 1) + table + struct.pack("<I", 0),
        "bits": b"\x03\x20" + bytes(1 << 20),
        "no bits": b"\x03\x00" + bytes(64),
    }
    for name, code in crafted.items():
        records = [(FILE, head), (CHUNK, struct.pack("<I", 4) + code), (END, b"")]
        path, folder = written(tmp_path / f"{name}.qcz", records), tmp_path / name
        folder.mkdir()
        tracemalloc.start()
        with pytest.raises(ImportFailure):
            unpack(path, folder)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 32 << 20, name


def test_what_cannot_be_packed(build: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportFailure, match="no file or folder"):
        pack(tmp_path / "nothing", tmp_path / "x.qcz")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ImportFailure, match="holds no files"):
        pack(tmp_path / "hollow", tmp_path / "x.qcz")
    (build / "model.onnx.data").unlink()
    with pytest.raises(ImportFailure, match="not beside it"):
        pack(build / "model.onnx", tmp_path / "x.qcz")
    (build / "link").symlink_to("report.json")
    with pytest.raises(ImportFailure, match="is a link"):
        pack(build, tmp_path / "x.qcz")
    assert not (tmp_path / "x.qcz").exists()
    with pytest.raises(OutputError):
        pack(build / "other.onnx", build / "report.json" / "x.qcz")


def test_data_that_lies_elsewhere_is_not_fetched(build: Path, tmp_path: Path) -> None:
    """A model that points outside of its folder would be packed with somebody's file."""
    (tmp_path / "secret").write_bytes(bytes(4096))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1024], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "../secret", "offset": "0", "length": "4096"}.items():
        tensor.external_data.add(key=key, value=value)
    proto = onnx.load_from_string(model())
    proto.graph.initializer.append(tensor)
    (build / "other.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ImportFailure, match="not beside it"):
        pack(build / "other.onnx", tmp_path / "x.qcz")


def test_packing_into_the_folder_itself_leaves_the_container_out(build: Path) -> None:
    first = pack(build, build / "all.qcz")
    assert pack(build, build / "all.qcz") == first


def test_memory_is_bounded(tmp_path: Path) -> None:
    """200 MB more are no more memory."""
    folder, back = tmp_path / "large", tmp_path / "back"
    for place in (folder, back):
        place.mkdir()
    block = np.random.default_rng(0).integers(-8, 8, 1 << 22).astype(np.int8).tobytes()
    with (folder / "model.onnx.data").open("wb") as file:
        for _ in range(48):
            file.write(block)
    tensor = TensorProto(name="w", data_type=TensorProto.INT8, dims=[48 << 22], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "model.onnx.data", "offset": "0", "length": str(48 << 22)}.items():
        tensor.external_data.add(key=key, value=value)
    graph: Any = helper.make_graph([], "g", [], [], [tensor])
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packed = pack(folder, tmp_path / "large.qcz")
    unpack(tmp_path / "large.qcz", back)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert packed.ratio > 1.8
    assert grown < 150, f"{grown:.0f} MiB"
    assert (back / "model.onnx.data").stat().st_size == 48 << 22


def test_without_the_extra_the_user_is_told_what_to_install(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from qcompiler.errors import UsageError

    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UsageError, match=r"pip install 'qcompiler\[pack\]'"):
        pack(build, tmp_path / "x.qcz")
    with pytest.raises(UsageError, match="constriction is not installed"):
        unpack(tmp_path / "x.qcz", tmp_path)
