"""A model repository of NVIDIA Triton Inference Server: configuration, version folder, and a sample to warm up with.

The schema is ``ModelConfig`` of Triton's ``model_config.proto``; its backend for onnxruntime serves every target of
ours, on the processor, on a card, or by TensorRT's execution provider.
"""

from __future__ import annotations

import math
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.compiler import Result
from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError, OutputError, QCompilerError, UsageError
from qcompiler.ir import Model, TensorType, Value

__all__ = ["TritonServer"]

_TYPES = {
    DType.BOOL: "BOOL", DType.UINT8: "UINT8", DType.UINT16: "UINT16", DType.UINT32: "UINT32", DType.UINT64: "UINT64",
    DType.INT8: "INT8", DType.INT16: "INT16", DType.INT32: "INT32", DType.INT64: "INT64", DType.FLOAT16: "FP16",
    DType.FLOAT: "FP32", DType.DOUBLE: "FP64", DType.STRING: "STRING",
}  # fmt: skip
"""What Triton's backend takes: of the schema's types it lacks BF16, and the schema has none of fewer than 8 bits."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST_ROWS = 8  # of a batch that the server puts together
_DYNAMIC_AXIS = 1  # size of a dynamic axis in the sample to warm up with, where there is no other


@dataclass(frozen=True)
class _Port:
    """An input or output: ``dims`` as the model has them, batch axis included; -1 for a dynamic one."""

    name: str
    kind: str
    dims: tuple[int, ...]
    batch: str | None  # the name of the first axis, where it is dynamic


@dataclass(frozen=True)
class TritonServer:
    """Writes ``result`` as the model ``name`` of a repository, beside the files of :meth:`Result.save`.

    ``sample`` is one run's inputs by name, to warm up with; zeros stand for those that it lacks, such as a state at the
    start. A model that does not run on it is served without warm-up. ``max_batch_size`` is how many rows
    the server may put together where rows of the first axis do not see each other.
    """

    result: Result
    name: str
    sample: Mapping[str, Any] | None = None
    max_batch_size: int = _MOST_ROWS

    def __call__(self, folder: Path) -> None:
        """Write ``triton-server/NAME`` into ``folder``, which holds ``model.onnx``.

        Raises UsageError for a name that can be no folder's or no URL's, LoweringError for a model that the server
        cannot serve, OutputError.
        """
        self.write(folder, folder / "triton-server")

    @staticmethod
    def check(name: str, model: Model) -> None:
        """Raises what :meth:`__call__` would of ``model`` under ``name``: a compile is not needed to know it."""
        _ports(name, model)

    def write(self, source: Path, repository: Path) -> Path:
        """Write the model in the folder ``source`` into ``repository``: NAME/config.pbtxt, 1/model.onnx, warmup/."""
        model = self.result.model
        inputs, outputs = _ports(self.name, model)
        batched = self.max_batch_size > 0 and self._has_batch(inputs, outputs)
        warm, files = self._warmup(inputs, batched)
        place = repository / self.name
        try:
            (place / "1").mkdir(parents=True)
            (place / "config.pbtxt").write_text(self._config(model, inputs, outputs, batched, warm), encoding="utf-8")
            for name in ("model.onnx", "model.onnx.data"):
                if (source / name).exists():
                    shutil.copyfile(source / name, place / "1" / name)
            for name, data in files.items():
                (place / "warmup").mkdir(exist_ok=True)
                (place / "warmup" / name).write_bytes(data)
        except OSError as error:
            raise OutputError(f"{place} cannot be written: {error.strerror or error}") from None
        return place

    def _config(self, model: Model, inputs: Sequence[_Port], outputs: Sequence[_Port], batched: bool, warm: str) -> str:
        target = self.result.target
        lines = [
            f"name: {_quoted(self.name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {self.max_batch_size if batched else 0}",
        ]
        for word, ports in (("input", inputs), ("output", outputs)):
            lines += [f"{word} {{\n{_described(port, batched)}\n}}" for port in ports]
        lines.append(f"instance_group {{ kind: {'KIND_GPU' if target.on_card else 'KIND_CPU'} count: 1 }}")
        lines += ["dynamic_batching { }"] if batched else []
        threads = f'value {{ string_value: "{self.result.threads}" }}'
        lines.append(f'parameters {{ key: "intra_op_thread_count" {threads} }}')
        if target.name == "tensorrt":
            # The backend's setting is one of them: with Q/DQ it has to be int8, and then there is no float16 beside it.
            quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.nodes())
            mode = f' parameters {{ key: "precision_mode" value: "{"INT8" if quantized else "FP16"}" }}'
            provider = f'gpu_execution_accelerator {{ name: "tensorrt"{mode} }}'
            lines.append(f"optimization {{ execution_accelerators {{ {provider} }} }}")
        return "\n".join(filter(None, [*lines, warm])) + "\n"

    def _has_batch(self, inputs: Sequence[_Port], outputs: Sequence[_Port]) -> bool:
        """Whether the first axis of all is dynamic, and rows do not see each other: together, in any order and number,
        they give what each gives alone. Two unlike rows have to show it, or there is no batch."""
        if any(port.batch is None for port in (*inputs, *outputs)):
            return False
        one = {port.name: self._array(port)[:1] for port in inputs}
        two = {name: _unlike(array) for name, array in one.items()}
        share = _tolerance(self.result.model)
        try:
            alone = [self.result.run(one), self.result.run(two)]
            if all(np.array_equal(alone[0][port.name], alone[1][port.name]) for port in outputs):
                return False  # it cannot be told
            for order in ((0, 1), (1, 0), (0, 1, 0)):
                rows = [(one, two)[index] for index in order]
                found = self.result.run({name: np.concatenate([row[name] for row in rows]) for name in one})
                wanted = {port.name: np.concatenate([alone[index][port.name] for index in order]) for port in outputs}
                if not all(_alike(found[name], array, share) for name, array in wanted.items()):
                    return False
        except (QCompilerError, ValueError):
            return False
        return True

    def _array(self, port: _Port) -> Any:
        """What the port is fed: its array of the sample, or zeros."""
        if self.sample is not None and port.name in self.sample:
            return np.asarray(self.sample[port.name])
        shape = tuple(_DYNAMIC_AXIS if dim < 0 else dim for dim in port.dims)
        if port.kind == "STRING":
            return np.full(shape, "", object)
        return np.zeros(shape, _numpy(port.kind))

    def _warmup(self, inputs: Sequence[_Port], batched: bool) -> tuple[str, dict[str, bytes]]:
        """The entry ``model_warmup``, and its files: one row of raw bytes each, since dims leave the batch out.

        A server does not come up with a model that fails on its own warm-up.
        """
        try:
            self.result.run({port.name: self._array(port) for port in inputs})
        except QCompilerError:
            return "", {}
        lines, files = ['model_warmup {\n  name: "sample"\n  batch_size: 1'], {}
        for index, port in enumerate(inputs):
            array = self._array(port)
            array = array[0] if batched else array
            name = f"input{index}"
            files[name] = _strings(array) if port.kind == "STRING" else _little(array).tobytes()
            dims = ", ".join(map(str, array.shape)) or "1"
            about = f'data_type: TYPE_{port.kind} dims: [ {dims} ] input_data_file: "{name}"'
            lines.append(f"  inputs {{ key: {_quoted(port.name)} value {{ {about} }} }}")
        return "\n".join([*lines, "}"]), files


def _ports(name: str, model: Model) -> tuple[list[_Port], list[_Port]]:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' can be no model of a server", hint="rename the file: letters, digits, '_', '.' and '-'"
        )
    inputs = [_port(value, "input") for value in model.graph.inputs if value.const is None]
    if not inputs:
        raise LoweringError("a model without inputs cannot be served")
    return inputs, [_port(value, "output") for value in model.graph.outputs]


def _unlike(row: Any) -> Any:
    """Another row of the same kind: its elements in another order, or where all are the same, others."""
    turned = np.roll(row.reshape(1, -1), 1, axis=1).reshape(row.shape)
    if row.dtype.kind in "OSU" or not np.array_equal(turned, row):
        return turned
    if row.dtype.kind == "b":
        return ~row
    return row - row.dtype.type(1) if (row > 0).all() else row + row.dtype.type(1)


def _alike(found: Any, wanted: Any, share: float) -> bool:
    """The same, for floats but for ``share`` of the largest magnitude."""
    if np.shape(found) != np.shape(wanted) or found.dtype.kind != "f":
        return np.array_equal(found, wanted)
    one, two = found.astype(np.float64), wanted.astype(np.float64)
    known = np.isfinite(two)
    if not np.array_equal(one[~known], two[~known], equal_nan=True):
        return False
    return bool(np.allclose(one[known], two[known], rtol=0, atol=share * np.abs(two[known]).max(initial=0.0)))


def _tolerance(model: Model) -> float:
    """What may differ between rows alone and in a batch: of scales that are found anew for each batch much, else what
    the order of additions may change."""
    kinds = {node.op_type for node in model.nodes()}
    if any("Dynamic" in kind or "Integer" in kind for kind in kinds):
        return 0.05
    halves = any(
        value.dtype in (DType.FLOAT16, DType.BFLOAT16) for graph in model.graphs() for value in graph.constants
    )
    return 1e-2 if halves else 1e-4


def _port(value: Value, word: str) -> _Port:
    kind = value.type
    if not isinstance(kind, TensorType) or kind.sparse:
        raise LoweringError(f"{word} '{value.name}' is no tensor, and Triton Inference Server takes nothing else")
    if kind.dtype not in _TYPES:
        said = "of no known type" if kind.dtype is None else kind.dtype.name.lower()
        raise LoweringError(f"{word} '{value.name}' is {said}, which Triton Inference Server does not take")
    if kind.shape is None:
        raise LoweringError(f"{word} '{value.name}' has an unknown number of axes, which the server has to know")
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in kind.shape)
    if 0 in dims:
        raise LoweringError(f"{word} '{value.name}' has an axis of 0, which the server does not take")
    first = kind.shape[0] if kind.shape else 0
    return _Port(value.name, _TYPES[kind.dtype], dims, None if isinstance(first, int) else first or "")


def _described(port: _Port, batched: bool) -> str:
    dims = port.dims[1:] if batched else port.dims
    shown = f"  dims: [ {', '.join(map(str, dims))} ]" if dims else "  dims: [ 1 ]\n  reshape { shape: [ ] }"
    return f"  name: {_quoted(port.name)}\n  data_type: TYPE_{port.kind}\n{shown}"


def _numpy(kind: str) -> np.dtype[Any]:
    return next(dtype.numpy for dtype, name in _TYPES.items() if name == kind)


def _little(array: Any) -> Any:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)


def _strings(array: Any) -> bytes:
    """Each string behind its length in four bytes, as the server has them."""
    assert math.prod(array.shape) == array.size
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _quoted(text: str) -> str:
    """``text`` in protobuf's text format."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
