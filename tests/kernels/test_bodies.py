"""The function body of every kernel, run by a stock onnxruntime, gives the reference's numbers within one step."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, TensorType, Value, tensor
from qcompiler.lower.cuda.nodes import kernel_node
from qcompiler.onnx_io import open_session, to_bytes
from tests.kernels.calls import CALLS, Call


def alone(call: Call, opset: int) -> tuple[Model, dict[str, Any]]:
    """A model of that one node, and what to feed it."""
    graph = Graph("g")
    model = Model(graph, {"": opset})
    inputs: list[Value | None] = []
    feeds = {}
    for index, array in enumerate(call.arrays):
        array = (
            array
            if array is None or array.dtype.kind != "f"
            else np.asarray(np.nan_to_num(array, posinf=np.inf, neginf=-np.inf))
        )
        if array is None:
            inputs.append(None)
        elif index in call.constant:
            inputs.append(graph.add_constant(tensor(array), f"c{index}"))
        else:
            inputs.append(graph.add_input(Value(f"x{index}", TensorType(DType.of(array.dtype), array.shape))))
            feeds[f"x{index}"] = array
    node = kernel_node(model, call.name, inputs, call.attributes, name="it")
    graph.append(node)
    for index, value in enumerate(node.outputs):
        value.name = f"y{index}"
        graph.add_output(value)
    return model, feeds


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_body_equals_the_reference(name: str) -> None:
    seen: list[float] = []

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(CALLS[name], st.sampled_from([17, 21]))
    def run(call: Call, opset: int) -> None:
        model, feeds = alone(call, opset)
        onnx.checker.check_model(onnx.load_from_string(to_bytes(model)), full_check=False)
        found = open_session(model, optimize=False).run(feeds)
        arrays = call.kernel.complete([feeds.get(f"x{index}", array) for index, array in enumerate(call.arrays)])
        for made, wanted in zip(found.values(), call.kernel.reference(arrays, call.settled), strict=True):
            assert made.dtype == wanted.dtype and made.shape == wanted.shape
            if made.dtype == np.int8:
                off = np.abs(made.astype(int) - wanted.astype(int))
                assert off.max(initial=0) <= 1
                seen.append(float((off > 0).mean()) if off.size else 0.0)
            else:
                rough = 2e-3 if made.dtype == np.float16 else 2e-5
                room = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-3)
                assert np.allclose(made, wanted, rtol=rough, atol=rough * room, equal_nan=True)

    run()
    assert not seen or np.mean(seen) < 0.01  # ties and exponentials, nothing else
