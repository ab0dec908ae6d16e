"""From a file, or another library's object, to an ``onnx.ModelProto`` that is known to be sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message

from qcompiler.errors import ImportFailure
from qcompiler.plugged import plugged, plugged_names, problems

__all__ = ["as_proto", "check", "importer_of", "read_proto", "resolve_external"]

_MENDED = ("topologically sorted", "initializer name is not unique")  # by the importer, or said better there
_OWN = ("onnx", "onnx_graphsurgeon", "onnx_ir", "torch")  # what no importer can take over
_LABELS = ("name", "doc_string")
_HINT = "export the model again, or check that the download is whole"


def as_proto(source: Any) -> tuple[onnx.ModelProto, Path | None]:
    """The protobuf that ``source`` stands for, and the folder in which its external data lies, if any.

    ``source`` is a path, bytes, an ``onnx.ModelProto``, an ``onnx_ir.Model``, a PyTorch ``ONNXProgram`` or an
    onnx-graphsurgeon ``Graph``; the last four are recognised without importing their libraries. What it is beside
    these an importer of another package has to know; see :func:`importer_of`.
    Raises ImportFailure for anything that is not a sound model.
    """
    if name := importer_of(source):
        return _imported(name, source)
    if isinstance(source, str | Path):
        return read_proto(Path(source)), Path(source).parent
    if isinstance(source, bytes):
        return _checked(_parse(source, "the given bytes"), "the given bytes"), None
    if isinstance(source, onnx.ModelProto):
        return _checked(source, "the given ModelProto"), None
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    if kind.startswith("torch.") and hasattr(source, "model_proto"):
        return _checked(source.model_proto, "the given ONNXProgram"), None
    if kind.startswith("onnx_ir."):
        import onnx_ir

        return _checked(onnx_ir.to_proto(source), "the given onnx_ir.Model"), None
    if kind.startswith("onnx_graphsurgeon."):
        import onnx_graphsurgeon

        return _checked(onnx_graphsurgeon.export_onnx(source), "the given graphsurgeon Graph"), None
    raise ImportFailure(
        f"{kind} is not a model",
        hint="give a path, bytes, onnx.ModelProto, onnx_ir.Model, torch ONNXProgram or onnx_graphsurgeon.Graph",
    )


def importer_of(source: Any) -> str:
    """The name of the entry point ``qcompiler.importers`` that reads ``source``; empty where none is needed.

    It is the ending of a file, without the dot (``FILE.keras``: ``keras``), or the package of an object's class.
    The entry point is a function of the path or object that returns whatever else is a model.
    """
    known = plugged_names("importers")
    if not known:
        return ""
    if isinstance(source, str | Path):
        name = Path(source).suffix.removeprefix(".")
    else:
        name = type(source).__module__.partition(".")[0]
    return name if name in known and name not in _OWN else ""


def _imported(name: str, source: Any) -> tuple[onnx.ModelProto, Path | None]:
    found = plugged("importers", name).get(name)
    if found is None:
        raise ImportFailure(f"importer {name} cannot be used: {problems().get(f'importers:{name}', 'it is gone')}")
    try:
        made = found(source)
    except Exception as error:  # other people's code
        said = source if isinstance(source, str | Path) else f"a {type(source).__qualname__}"
        raise ImportFailure(f"importer {name} could not read {said}: {type(error).__name__}: {error}") from None
    if importer_of(made):
        raise ImportFailure(f"importer {name} returned a {type(made).__qualname__}, which is no model")
    return as_proto(made)


def read_proto(path: Path) -> onnx.ModelProto:
    """The model in the file at ``path``, external data left where it is. Raises ImportFailure."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImportFailure(f"there is no file {path}", hint="check the path") from None
    except IsADirectoryError:
        raise ImportFailure(f"{path} is a folder, not a model", hint="give the .onnx file in it") from None
    except OSError as error:
        raise ImportFailure(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a null byte
        raise ImportFailure(f"{str(path)!r} is no path: {error}") from None
    proto = _parse(data, str(path))
    del data
    return _checked(proto, str(path), path)


def resolve_external(entry: dict[str, str], folder: Path | None, name: str) -> Path:
    """The file that an external tensor names. Raises ImportFailure when it is missing or outside ``folder``."""
    location = entry.get("location", "")
    if folder is None:
        raise ImportFailure(
            f"tensor '{name}' lies in the external file '{location}', but the model was not read from a folder",
            hint="give the path of the .onnx file instead of its content",
        )
    root = folder.resolve()
    path = (root / location).resolve()
    if not location or Path(location).is_absolute() or not path.is_relative_to(root):
        raise ImportFailure(
            f"tensor '{name}' names the external file '{location}', which lies outside the model's folder",
            hint="move the data beside the model and save it again",
        )
    if not path.is_file():
        raise ImportFailure(
            f"the external data file {folder / location} of tensor '{name}' is missing", hint="copy it beside the model"
        )
    return path


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # protobuf's DecodeError moved between versions
        raise ImportFailure(f"{where} is not an ONNX model ({len(data)} bytes cannot be parsed)", hint=_HINT) from None
    if not proto.ir_version or not proto.HasField("graph"):
        raise ImportFailure(f"{where} is not an ONNX model (it has no graph)", hint=_HINT)
    return proto


def _checked(proto: onnx.ModelProto, where: str, path: Path | None = None) -> onnx.ModelProto:
    folder = path.parent if path is not None else None
    for tensor in _tensors(proto, where):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            resolve_external({item.key: item.value for item in tensor.external_data}, folder, tensor.name)
    try:
        # By path the checker reads external data in place; a protobuf over 2 GB could not be handed over at all.
        check(str(path) if path is not None else proto, where)
    except ImportFailure as error:
        if not any(words in error.what for words in _MENDED):
            raise
    return proto


def check(model: onnx.ModelProto | str, where: str) -> None:
    """Have onnx check ``model``, given itself or by path, and say in one line what is wrong with ``where``."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ImportFailure(f"{where} is not a valid ONNX model: {reason[0]}", hint=_HINT) from None


def _tensors(proto: onnx.ModelProto, where: str) -> list[onnx.TensorProto]:
    """Every tensor of the model wherever it stands. Raises ImportFailure for text that is no text."""
    found: list[onnx.TensorProto] = []
    stack: list[Any] = [proto]
    while stack:
        message = stack.pop()
        if isinstance(message, onnx.TensorProto):  # whose elements are not to be read
            found.append(message)
            stack.extend((*message.external_data, *message.metadata_props))
            fields = [(message.DESCRIPTOR.fields_by_name[name], getattr(message, name)) for name in _LABELS]
        else:
            fields = message.ListFields()
        for field, content in fields:
            many = (content,) if isinstance(content, Message | str | bytes) else content
            if field.message_type is not None:
                stack.extend(many)
            elif field.type == field.TYPE_STRING:
                for text in many:
                    if not isinstance(text, str):  # protobuf gives bytes for what is not UTF-8
                        raise ImportFailure(f"{where} has a {field.full_name} that is not UTF-8: {text!r}", hint=_HINT)
    return found
