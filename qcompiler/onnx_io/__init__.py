"""ONNX files in and out. Nobody else but the lowerings imports onnx."""

from qcompiler.onnx_io.defaults import attribute_defaults
from qcompiler.onnx_io.directory import check_replaceable, replaced_directory
from qcompiler.onnx_io.elements import constant_of
from qcompiler.onnx_io.exporter import to_proto
from qcompiler.onnx_io.importer import from_proto, load
from qcompiler.onnx_io.inference import infer_types, nested_graphs, without_weights
from qcompiler.onnx_io.lean import from_lean, known_constants, to_lean
from qcompiler.onnx_io.open import open_session
from qcompiler.onnx_io.opset import upgrade_opset
from qcompiler.onnx_io.reader import importer_of, read_proto
from qcompiler.onnx_io.writer import needs_external_data, save, to_bytes, weight_bytes

__all__ = [
    "attribute_defaults",
    "check_replaceable",
    "constant_of",
    "from_lean",
    "from_proto",
    "importer_of",
    "infer_types",
    "known_constants",
    "load",
    "needs_external_data",
    "nested_graphs",
    "open_session",
    "read_proto",
    "replaced_directory",
    "save",
    "to_bytes",
    "to_lean",
    "to_proto",
    "upgrade_opset",
    "weight_bytes",
    "without_weights",
]
