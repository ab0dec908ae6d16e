"""Ways to a range, each against a case worked by hand; and the same bits from any number of workers."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.calibrate import RangeStatistics, collect, least_effect
from qcompiler.calibrate.divergence import least_divergent
from qcompiler.dtypes import DType
from qcompiler.errors import CalibrationError
from qcompiler.ir import Model, Quantization, QuantSpec, affine_parameters
from tests.lower.models import model_of

UINT8 = QuantSpec(DType.UINT8)


def counted(*samples: Any) -> RangeStatistics:
    found = RangeStatistics()
    for sample in samples:
        found.update(np.asarray(sample, np.float32))
    return found


def test_the_average_is_that_of_the_samples_extremes() -> None:
    seen = counted([-1, 5], [-3, 1], [0.5, 3])
    assert seen.average() == ((-1 - 3 + 0.5) / 3, 3.0)
    assert counted().average() == (0.0, 0.0)


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), min_size=1), st.data()
)
@settings(max_examples=50, deadline=None)
def test_the_average_does_not_depend_on_order_or_split(samples: list[list[float]], data: Any) -> None:
    shuffled = data.draw(st.permutations(samples))
    cut = data.draw(st.integers(0, len(samples)))
    parts = counted(*shuffled[:cut])
    parts.merge(counted(*shuffled[cut:]))
    assert parts.average() == counted(*samples).average()


def test_parts_of_a_tensor_are_joined_by_the_wider_one() -> None:
    joined = RangeStatistics()
    joined.join(counted([0, 1], [0, 3]))
    joined.join(counted([-2, 0], [-4, 0]))
    assert joined.average() == (-3.0, 2.0)
    assert joined.samples == 2
    assert joined.count == 8


def test_entropy_clips_a_lone_outlier_and_keeps_an_even_spread() -> None:
    normal = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    with_outlier = counted(np.append(normal, np.float32(60)))
    low, high = with_outlier.entropy(UINT8)
    assert 3 < high < 20
    assert -high <= low < -3
    even = counted(np.linspace(0, 1, 100_000))
    assert even.entropy(UINT8) == pytest.approx((0, 1), abs=0.05)


def test_entropy_of_zeros_and_of_nothing() -> None:
    assert counted([0, 0]).entropy(UINT8) == (0.0, 0.0)
    assert counted().entropy(UINT8) == (0.0, 0.0)
    assert least_divergent(np.zeros(1), np.ones(1), 128) == 0.0
    assert counted([1, 1, 1]).entropy(UINT8)[1] == 1.0
    assert counted([-1, 2]).entropy(QuantSpec(DType.UINT16)) == (-1.0, 2.0)


def test_bars_count_everything() -> None:
    seen = counted([0, 0, 0, 1], [4])
    assert sum(seen.bars(8)) == 5
    assert seen.bars(4) == [3, 1, 0, 1]


WIDE = "g (float[1,4] x) => (float[1,2] y) { y = MatMul(x, w) }"


def test_the_effect_is_judged_behind_the_weights() -> None:
    """A channel that the weights ignore may be clipped: the error is at the reader's output, not at the tensor."""
    import onnx

    from qcompiler.onnx_io import load, to_proto

    proto = to_proto(model_of(WIDE, w=(4, 2)))
    weight = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    model = load(proto)
    draw = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
    draw[:, 3] *= 100  # the fourth channel goes nowhere
    samples = [{"x": row[None]} for row in draw]

    def made(bound: float) -> Quantization:
        scale, zero = affine_parameters(-bound, bound, UINT8)
        return Quantization(UINT8, scale, zero, np.float32(-bound), np.float32(bound))

    wide, narrow = made(100.0), made(1.0)
    assert least_effect(model, {model.graph.inputs[0]: [wide, narrow]}, samples)[model.graph.inputs[0]] is narrow


def test_any_number_of_workers_gives_the_same_bits() -> None:
    model, samples = chain()
    values = [node.output for node in model.graph]
    alone = bits(collect(model, values, samples))
    for workers in (1, 2):
        with ProcessPoolExecutor(workers) as pool:
            assert bits(collect(model, values, samples, executor=pool)) == alone
            assert bits(collect(model, values, samples[::-1], executor=pool)) == alone


def test_a_worker_that_dies_is_survived() -> None:
    model, samples = chain()
    values = [node.output for node in model.graph]
    told: list[int] = []
    found = collect(model, values, samples, executor=Dying(), progress=told.append)
    assert bits(found) == bits(collect(model, values, samples))
    assert told[-1] == len(samples)


def test_a_worker_says_why_no_sample_runs() -> None:
    model, _ = chain()
    with ProcessPoolExecutor(1) as pool, pytest.raises(CalibrationError, match="none of 3 samples runs: "):
        collect(model, [node.output for node in model.graph], [{"x": np.ones((1, 9), np.float32)}] * 3, executor=pool)


class Dying(Executor):
    """Every second task is lost with the process that had it; then the pool is gone."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, call: Any, /, *args: Any, **words: Any) -> Future[Any]:
        self.count += 1
        if self.count > 2:
            raise BrokenProcessPool("gone")
        future: Future[Any] = Future()
        if self.count == 2:
            future.set_exception(BrokenProcessPool("killed"))
        else:
            future.set_result(call(*args, **words))
        return future


def chain() -> tuple[Model, list[dict[str, Any]]]:
    model = model_of("g (float[n,8] x) => (float[n,4] y) { h = MatMul(x, w) y = Relu(h) }", w=(8, 4))
    draw = np.random.default_rng(3).standard_normal((100, 8)).astype(np.float32)
    return model, [{"x": row[None]} for row in draw]


def bits(found: dict[Any, RangeStatistics]) -> list[Any]:
    return [(s.codes.tobytes(), s.counts.tobytes(), s.minmax(), s.average(), s.count) for s in found.values()]
