"""Every kernel, run by Triton's interpreter, gives the numbers of its numpy reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.kernels import CARDS, KERNELS
from qcompiler.kernels.interpreting import interpret
from tests.kernels.calls import CALLS

pytest.importorskip("torch")
pytest.importorskip("triton")


def test_every_kernel_is_tried() -> None:
    assert CALLS.keys() == KERNELS.keys()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_interpreter_equals_the_reference(name: str) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(CALLS[name], st.sampled_from([80, 90]))
    def run(call, capability) -> None:
        kernel, operands = call.kernel, call.operands()
        assert kernel.refusal(operands, call.settled) == ""
        expected = kernel.reference(call.complete, call.settled)
        results = kernel.results(operands, call.settled)
        assert [(item.dtype.name, item.shape) for item in expected] == results
        launch = kernel.launch(operands, call.settled, CARDS[capability])
        for made, wanted in zip(interpret(launch, call.complete, results), expected, strict=True):
            assert np.array_equal(made, wanted, equal_nan=True), (call.attributes, call.arrays)

    run()
