"""From the IR to files: whole or not at all, weights beside the model where one protobuf cannot hold them."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import BinaryIO

import onnx

from qcompiler.dtypes import DType
from qcompiler.errors import OutputError
from qcompiler.ir import Model, SparseTensor, Tensor, Value
from qcompiler.onnx_io.exporter import to_proto

__all__ = ["needs_external_data", "save", "to_bytes", "weight_bytes"]

_LIMIT = 1_900_000_000  # a protobuf ends at 2 GiB; leave room for everything that is not a weight
_SMALL = 1024  # tensors below this stay inline: shape inference reads them
_ALIGN = 4096  # offsets at which a runtime can map a tensor
_CHUNK = 1 << 24


def weight_bytes(model: Model) -> int:
    """Bytes of all constants, a shared tensor counted once."""
    tensors: dict[int, int] = {}
    for graph in model.graphs():
        for value in graph.constants:
            held = value.const.values if isinstance(value.const, SparseTensor) else value.const
            if held is not None:
                tensors[id(held)] = held.nbytes
    return sum(tensors.values())


def needs_external_data(model: Model) -> bool:
    """True when the weights do not fit into one protobuf."""
    return weight_bytes(model) > _LIMIT


def to_bytes(model: Model) -> bytes:
    """The serialized model with everything inline. Raises OutputError when it does not fit into one protobuf."""
    if needs_external_data(model):
        raise OutputError("the model is over 2 GB and cannot be one block of bytes", hint="save it to a file")
    data: bytes = to_proto(model).SerializeToString(deterministic=True)
    return data


def save(
    model: Model, path: str | Path, *, external_data: bool | None = None, names: dict[Value, str] | None = None
) -> list[Path]:
    """Write ``model`` to ``path``, and its weights to ``path`` + ``.data`` where ``external_data`` says so.

    None does so for models that do not fit into one protobuf, 2 GB. Files that are there are replaced, once the new
    ones are complete. ``names`` is filled with the name in the file of each value of the main graph and its subgraphs.
    Returns the files written, the model first. Raises OutputError when the disk refuses.
    """
    target = Path(path)
    external = needs_external_data(model) if external_data is None else external_data
    written: list[tuple[Path, Path]] = []
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if external:
            data = target.with_name(target.name + ".data")
            temporary = _temporary(data)
            written.append((temporary, data))
            with temporary.open("wb") as file:
                proto = to_proto(model, store=_DataFile(file, data.name), names=names)
        else:
            proto = to_proto(model, names=names)
        temporary = _temporary(target)
        written.append((temporary, target))
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        for source, final in written:
            os.replace(source, final)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error.strerror}", hint="free some space or choose another place"
        ) from None
    finally:
        for source, _ in written:
            source.unlink(missing_ok=True)
    return [final for _, final in reversed(written)]


class _DataFile:
    """Appends tensors to one file; a tensor that was stored before is referred to again."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file = file
        self.name = name
        self.places: dict[int, tuple[int, int]] = {}
        self.kept: list[Tensor] = []  # keeps ids from being used anew

    def __call__(self, tensor: Tensor, proto: onnx.TensorProto) -> bool:
        if tensor.nbytes < _SMALL or tensor.dtype is DType.STRING:
            return False
        place = self.places.get(id(tensor))
        if place is None:
            place = self.places[id(tensor)] = self._append(tensor)
            self.kept.append(tensor)
        proto.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self.name), ("offset", str(place[0])), ("length", str(place[1]))):
            proto.external_data.add(key=key, value=value)
        return True

    def _append(self, tensor: Tensor) -> tuple[int, int]:
        file = self.file
        offset = -(-file.tell() // _ALIGN) * _ALIGN
        file.seek(offset)
        view = memoryview(tensor.data()).cast("B")
        for start in range(0, len(view), _CHUNK):
            file.write(view[start : start + _CHUNK])
        return offset, len(view)


def _temporary(target: Path) -> Path:
    """An empty file beside ``target``, with the permissions that a new file gets."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path
