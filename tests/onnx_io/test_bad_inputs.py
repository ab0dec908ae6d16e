"""What is not a sound model is refused in one line that says what and where, never with another exception."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qcompiler.errors import ImportFailure
from qcompiler.ir import verify
from qcompiler.onnx_io import from_proto, load, to_proto

Refusal = Callable[[Any], str]
Proto = Callable[..., onnx.ModelProto]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an ONNX model (it has no graph)"),
        (b"\x08\x0a", "is not an ONNX model (it has no graph)"),
        (b"PK\x03\x04 this is a zip file, honestly" * 10, "is not an ONNX model"),
        (b"# A readme\n\nwith text\n", "is not an ONNX model"),
        (bytes(range(256)) * 4, "is not an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is not an ONNX model"),
    ],
    ids=["empty", "no graph", "zip", "text", "bytes", "lfs pointer"],
)
def test_other_files(tmp_path: Path, refusal: Refusal, content: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    message = refusal(tmp_path / "m.onnx")
    assert message.startswith(f"{tmp_path / 'm.onnx'} ") and words in message
    assert "the given bytes " in refusal(content)


def test_a_truncated_file(tmp_path: Path, refusal: Refusal, proto: Proto) -> None:
    data = proto("g (float[2] x) => (float[2] y) { y = Relu(x) }").SerializeToString()
    for length in range(len(data) - 20):  # what is last are the operator sets, and a model may do with fewer
        (tmp_path / "m.onnx").write_bytes(data[:length])
        assert str(tmp_path / "m.onnx") in refusal(tmp_path / "m.onnx")


def test_places_where_no_model_is(tmp_path: Path, refusal: Refusal) -> None:
    assert refusal(tmp_path / "nowhere.onnx") == f"there is no file {tmp_path / 'nowhere.onnx'}; check the path"
    assert refusal(str(tmp_path)) == f"{tmp_path} is a folder, not a model; give the .onnx file in it"
    (tmp_path / "file").touch()
    assert "file/m.onnx cannot be read: Not a directory" in refusal(tmp_path / "file" / "m.onnx")
    assert refusal("a\0b") == "'a\\x00b' is no path: embedded null byte"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("g (float[2] x) => (float[2] y) { y = Relu(x, x) }", "has input size 2 not in range"),
        ("g (float[2] x) => (float[2] y) { y = NoSuchOp(x) }", "No Op registered for NoSuchOp"),
        ("g (float[2] x) => (float[2] y) { y = Relu <alpha = 1.0> (x) }", "Unrecognized attribute: alpha"),
        ("g (float[2] x) => (float[2] y) { y = other.Relu(x) }", "No opset import for domain 'other'"),
    ],
)
def test_what_the_checker_finds(proto: Proto, refusal: Refusal, tmp_path: Path, text: str, words: str) -> None:
    source = proto(text)
    (tmp_path / "m.onnx").write_bytes(source.SerializeToString())
    for given_source, where in ((source, "the given ModelProto"), (tmp_path / "m.onnx", str(tmp_path / "m.onnx"))):
        message = refusal(given_source)
        assert message.startswith(f"{where} is not a valid ONNX model: ")
        assert words.lower() in message.lower()


def damaged(change: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }'
    )
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.graph.initializer[0].ClearField("float_data"), "w"),
        (lambda m: m.graph.initializer[0].float_data.append(3), "w"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "99"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "w"),
        (lambda m: m.graph.initializer[0].dims.append(-1), "w"),
        (lambda m: m.graph.initializer[0].dims.extend([2**62, 2**62]), "w"),
        (lambda m: setattr(m.graph.initializer[0], "raw_data", b"123"), "w"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99), "99"),
        (lambda m: m.graph.node[0].attribute.add(name="a"), "a"),
        (lambda m: m.ClearField("opset_import"), "opset"),
        (lambda m: m.ClearField("graph"), "graph"),
        (lambda m: m.ClearField("ir_version"), ""),
        (lambda m: m.MergeFromString(b"\x32\x02\xe4\xfc"), r"ModelProto.doc_string that is not UTF-8: b'\xe4\xfc'"),
        (lambda m: m.graph.node[0].MergeFromString(b"\x1a\x01\xff"), "NodeProto.name that is not UTF-8"),
    ],
)
def test_damage_inside(refusal: Refusal, change: Callable[[onnx.ModelProto], Any], words: str) -> None:
    assert words in refusal(damaged(change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: setattr(w, "raw_data", b"123"), "3 bytes where 8 are due"),
        (lambda w: setattr(w, "raw_data", bytes(12)), "12 bytes where 8 are due"),
        (lambda w: w.dims.append(-1), "a size is negative"),
        (lambda w: setattr(w, "data_type", 99), "tensor 'w' has the unknown element type 99"),
    ],
)
def test_damage_that_no_checker_saw(change: Callable[[onnx.TensorProto], Any], words: str) -> None:
    source = damaged(lambda m: change(m.graph.initializer[0]))
    with pytest.raises(ImportFailure, match=words):
        from_proto(source)


def test_a_location_that_is_no_text(tmp_path: Path, refusal: Refusal) -> None:
    def change(model: onnx.ModelProto) -> None:
        held = model.graph.initializer[0]
        held.data_location = onnx.TensorProto.EXTERNAL
        held.external_data.add(key="location").MergeFromString(b"\x12\x01\xff")

    (tmp_path / "m.onnx").write_bytes(damaged(change).SerializeToString())
    assert "StringStringEntryProto.value that is not UTF-8" in refusal(tmp_path / "m.onnx")


SEED = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20, "local": 1]>
g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}, int8[3] k = {1, 2, 3}> {
  a = Add(x, w)
  y = If(c) <then_branch = t () => (float[2] p) { p = local.F <n = 0> (a) }, else_branch = e () => (float[2] q) { q = Neg(a) }>
}
<domain: "local", opset_import: ["": 20]> F <n> (p) => (q) { q = Softmax <axis: int = @n> (p) }
""").SerializeToString()


@settings(max_examples=400)
@given(st.data())
def test_any_damage_to_the_bytes_is_survived(data: st.DataObject) -> None:
    """Whatever a few changed bytes make of a model, it is loaded soundly or refused as one."""
    content = bytearray(SEED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if kind == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 4))]
        else:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    survive(bytes(content))


@settings(max_examples=100)
@given(st.binary(max_size=200))
@example(b"\x08\x0a:\x00")
def test_any_bytes_are_survived(content: bytes) -> None:
    survive(content)


def survive(content: bytes) -> None:
    try:
        model = load(content)
    except ImportFailure as error:
        assert "\n" not in str(error)
    else:
        verify(model)
        to_proto(model)
