"""Small models in text with random weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

from qcompiler.ir import Model
from qcompiler.onnx_io import infer_types, load


def proto_of(text: str, opset: int = 17, **weights: tuple[int, ...]) -> onnx.ModelProto:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    del proto.graph.initializer[:]
    random = np.random.default_rng(3)
    for name, shape in weights.items():
        array = (random.standard_normal(shape) * 0.3).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def model_of(text: str, opset: int = 17, **weights: tuple[int, ...]) -> Model:
    made = load(proto_of(text, opset, **weights))
    infer_types(made)
    return made
