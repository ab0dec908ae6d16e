"""A file appears whole or not at all, and a failure leaves what was there."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler.dtypes import DType
from qcompiler.errors import OutputError
from qcompiler.ir import Graph, LazyTensor, Model, Node, TensorType, Value, tensor
from qcompiler.onnx_io import load, save, to_bytes

OLD = b"what stood there before"


@pytest.fixture
def model() -> Model:
    graph = Graph("g")
    x = graph.add_input(Value("x", TensorType(DType.FLOAT, (1000,))))
    y = graph.append(Node("Add", [x, graph.add_constant(tensor(np.ones(1000, np.float32)), "w")])).output
    y.name, y.type = "y", x.type
    graph.add_output(y)
    return Model(graph, {"": 20})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    for name in ("model.onnx", "model.onnx.data"):
        (tmp_path / name).write_bytes(OLD)
    return tmp_path / "model.onnx"


def untouched(target: Path) -> bool:
    names = {"model.onnx", "model.onnx.data"}
    return {each.name for each in target.parent.iterdir()} == names and all(
        (target.parent / name).read_bytes() == OLD for name in names
    )


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_one_file_or_two(model: Model, target: Path) -> None:
    assert save(model, target) == [target]
    assert target.read_bytes() == to_bytes(model)
    assert target.with_name("model.onnx.data").read_bytes() == OLD
    assert save(model, str(target), external_data=True) == [target, target.with_name("model.onnx.data")]
    assert {each.name for each in target.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    onnx.checker.check_model(str(target), full_check=True)


def test_the_mode_is_what_the_umask_leaves(model: Model, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(model, tmp_path / "m.onnx", external_data=True)
    finally:
        os.umask(old)
    for name in ("m.onnx", "m.onnx.data"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_full_disk_leaves_the_old_files_and_no_others(
    model: Model, target: Path, monkeypatch: pytest.MonkeyPatch, external: bool, where: str
) -> None:
    if where == "write":
        monkeypatch.setattr(Path, "write_bytes", full_disk)
    else:
        monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match=r"model.onnx cannot be written: No space left on device; free some space"):
        save(model, target, external_data=external)
    monkeypatch.undo()
    assert untouched(target)


def test_a_disk_that_fills_up_among_the_weights(model: Model, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.onnx_io import writer

    monkeypatch.setattr(writer._DataFile, "_append", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        save(model, target, external_data=True)
    assert untouched(target)


@pytest.mark.parametrize("external", [False, True])
def test_a_weight_that_cannot_be_computed_leaves_the_old_files_too(model: Model, target: Path, external: bool) -> None:
    def fail() -> Any:
        raise RuntimeError("no elements today")

    value = next(iter(model.graph.constants))
    value.const = LazyTensor(fail, DType.FLOAT, (1000,))
    with pytest.raises(RuntimeError, match="no elements today"):
        save(model, target, external_data=external)
    assert untouched(target)


def test_a_folder_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/m.onnx cannot be written: No such file or directory"):
        save(model, tmp_path / "nowhere" / "m.onnx")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for external in (False, True):
        with pytest.raises(OutputError, match=r"taken cannot be written: Is a directory"):
            save(model, tmp_path / "taken", external_data=external)
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(model: Model, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            save(model, tmp_path / "m.onnx")
    finally:
        tmp_path.chmod(0o755)


def test_a_refusal_of_permission_is_an_output_error(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        save(model, tmp_path / "m.onnx")


def test_saving_gives_the_same_bytes_every_time(model: Model, tmp_path: Path) -> None:
    model.metadata.update({"b": "1", "a": "2"})
    save(model, tmp_path / "a.onnx")
    save(load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes() == to_bytes(model)


def test_the_names_given_are_told(model: Model, tmp_path: Path) -> None:
    names: dict[Value, str] = {}
    save(model, tmp_path / "m.onnx", names=names)
    assert sorted(names.values()) == ["w", "x", "y"]


def test_an_output_name_is_not_taken_by_what_comes_first(model: Model) -> None:
    graph = model.graph
    x = graph.inputs[0]
    x.replace_uses(graph.insert_after(None, Node("Neg", [x], outputs=[Value("y")])).output)
    next(iter(graph)).set_input(0, x)
    check: Callable[[Any], None] = onnx.checker.check_model
    check(to_bytes(model))
    proto = onnx.ModelProto.FromString(to_bytes(model))
    assert [list(node.output) for node in proto.graph.node] == [["y_1"], ["y"]]
