"""Moments against multiplying out what the layers themselves do."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibrate import second_moments
from qcompiler.errors import CalibrationError
from qcompiler.onnx_io import open_session
from tests.lower.models import model_of

CASES = {
    "plain": ("g (float[2,4,7,8] x) => (float[2,6,a,b] y) { y = Conv(x, w) }", (6, 4, 3, 2), 1),
    "padded, strided": ("g (float[2,4,7,8] x) => (float[2,6,a,b] y) { y = Conv<pads=[1,0,2,1], strides=[2,3]>(x, w) }", (6, 4, 3, 2), 1),
    "dilated": ("g (float[1,4,9,9] x) => (float[1,6,a,b] y) { y = Conv<dilations=[2,1]>(x, w) }", (6, 4, 3, 3), 1),
    "groups": ("g (float[1,4,6,6] x) => (float[1,6,a,b] y) { y = Conv<group=2>(x, w) }", (6, 2, 3, 3), 2),
    "depthwise": ("g (float[1,4,6,6] x) => (float[1,4,a,b] y) { y = Conv<group=4>(x, w) }", (4, 1, 3, 3), 4),
    "one dimension": ("g (float[2,4,9] x) => (float[2,6,a] y) { y = Conv<pads=[1,0], strides=[2]>(x, w) }", (6, 4, 3), 1),
    "matmul": ("g (float[2,5,4] x) => (float[2,5,6] y) { y = MatMul(x, w) }", (4, 6), 1),
    "gemm": ("g (float[5,4] x) => (float[5,6] y) { y = Gemm<transB=1>(x, w) }", (6, 4), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_outputs_energy_is_the_weights_times_moments(name: str) -> None:
    """Sum of y^2 over all places is w H w for each output channel, and sum of y is w times the first moment."""
    text, shape, groups = CASES[name]
    model = model_of(text, w=shape)
    node = next(iter(model.graph))
    size = [int(item) for item in model.graph.inputs[0].shape or ()]
    sample = {"x": np.random.default_rng(2).normal(size=size).astype(np.float32)}
    y = open_session(model, optimize=False).run(sample)["y"].astype(np.float64)
    places = y.shape[0] * int(np.prod(y.shape[2:])) if node.is_op("Conv") else y.size // y.shape[-1]
    assert places <= 64 * y.shape[0]  # so that every patch is looked at
    found = second_moments(model, [node], [sample])[node]
    assert found.count == places
    assert node.inputs[1] is not None and node.inputs[1].constant is not None
    w = node.inputs[1].constant.numpy().astype(np.float64)
    w = w.T if name == "matmul" else w
    rows = w.reshape(groups, w.shape[0] // groups, -1)
    energy = np.einsum("gci,gij,gcj->gc", rows, found.second, rows).reshape(-1)
    total = np.einsum("gci,gi->gc", rows, found.first).reshape(-1)
    channels = np.moveaxis(y, 1 if node.is_op("Conv") else -1, 0).reshape(len(energy), -1)
    np.testing.assert_allclose(energy, np.square(channels).sum(1), rtol=1e-5)
    np.testing.assert_allclose(total, channels.sum(1), rtol=1e-4, atol=1e-4)


def test_memory_does_not_grow_and_sums_add_up() -> None:
    model = model_of("g (float[1,4,6,6] x) => (float[1,6,a,b] y) { y = Conv(x, w) }", w=(6, 4, 3, 3))
    node = next(iter(model.graph))
    samples = [{"x": np.random.default_rng(i).normal(size=(1, 4, 6, 6)).astype(np.float32)} for i in range(3)]
    parts = [second_moments(model, [node], [sample])[node] for sample in samples]
    whole = second_moments(model, [node], samples)[node]
    np.testing.assert_allclose(whole.second, sum(part.second for part in parts), rtol=1e-12)
    assert whole.count == sum(part.count for part in parts)


def test_infinities_are_left_out_and_no_samples_is_an_error() -> None:
    model = model_of("g (float[2,4] x) => (float[2,6] y) { y = MatMul(x, w) }", w=(4, 6))
    node = next(iter(model.graph))
    sample = {"x": np.array([[1, 2, 3, 4], [1, np.inf, 3, 4]], np.float32)}
    found = second_moments(model, [node], [sample])[node]
    assert found.count == 1 and np.isfinite(found.second).all()
    with pytest.raises(CalibrationError, match="no samples"):
        second_moments(model, [node], [])
