"""Models in onnx's text form, and onnxruntime as it is without optimizations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from qcompiler.errors import ImportFailure
from qcompiler.onnx_io import load


@pytest.fixture(scope="session")
def proto() -> Callable[..., onnx.ModelProto]:
    """proto("g (float[2] x) => (float[2] y) { y = Relu(x) }", opset=20, ir=10): functions may follow the graph."""

    def parse(text: str, opset: int = 20, ir: int = 10) -> onnx.ModelProto:
        return onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}, "local": 1]>' + text)

    return parse


@pytest.fixture(scope="session")
def run() -> Callable[..., list[Any]]:
    """run(model or path, x=array, ...): what onnxruntime gives with its optimizations off."""

    def outputs(model: Any, **feeds: Any) -> list[Any]:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, {name: np.asarray(value) for name, value in feeds.items()}))

    return outputs


@pytest.fixture(scope="session")
def refusal() -> Callable[[Any], str]:
    """refusal(source): the one line with which loading it fails."""

    def message(source: Any) -> str:
        with pytest.raises(ImportFailure) as caught:
            load(source)
        assert "\n" not in str(caught.value) and caught.value.exit_status == 3
        return str(caught.value)

    return message
