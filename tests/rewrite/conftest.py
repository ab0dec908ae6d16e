"""Models in onnx's text form, rules applied to them, and what comes out, as text and as numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from qcompiler.ir import Model, verify
from qcompiler.onnx_io import from_proto, to_proto
from qcompiler.rewrite import Rule, Trace, apply_rules


@pytest.fixture(scope="session")
def read() -> Callable[..., Model]:
    """read("g (float[2] x) => (float[2] y) { y = Relu(x) }")"""

    def parse(text: str, opset: int = 20) -> Model:
        head = f'<ir_version: 10, opset_import: ["": {opset}, "com.microsoft": 1, "t": 1, "local": 1]>'
        return from_proto(onnx.parser.parse_model(head + text))

    return parse


@pytest.fixture(scope="session")
def rewrite(read: Callable[..., Model]) -> Callable[..., list[str]]:
    """rewrite(text or model, rule, ...): the nodes of all graphs that remain, in order, as "y = Relu(x)"."""

    def nodes(given: str | Model, *rules: Rule, **options: Any) -> list[str]:
        from qcompiler.ir import format_node

        model = read(given) if isinstance(given, str) else given
        apply_rules(model, rules, **options)
        verify(model)
        return [format_node(node) for graph in model.graphs() for node in graph]

    return nodes


@pytest.fixture(scope="session")
def near_misses(read: Callable[..., Model]) -> Callable[..., list[str]]:
    """near_misses(text, rule): the reasons for which the rule, which must not apply, did not."""

    def reasons(given: str | Model, *rules: Rule, **options: Any) -> list[str]:
        model, trace = read(given) if isinstance(given, str) else given, Trace(explain=True)
        assert apply_rules(model, rules, trace=trace, **options) == 0
        verify(model)
        return [miss.reason for miss in trace.near_misses]

    return reasons


@pytest.fixture(scope="session")
def run() -> Callable[..., list[Any]]:
    """run(model, x=array): what onnxruntime gives with its optimizations off."""

    def outputs(model: Model, **feeds: Any) -> list[Any]:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        data = to_proto(model).SerializeToString()
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, {name: np.asarray(value) for name, value in feeds.items()}))

    return outputs
