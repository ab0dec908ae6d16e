"""The choice on small models whose right answer is known: what is too inexact, what fails, what the budget allows."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from qcompiler.data import Dataset, open_dataset
from qcompiler.errors import LoweringError
from qcompiler.ir import Model
from qcompiler.lower import DYNAMIC, STATIC, WEIGHTS, Form, Group, OrtCpu, Plan
from qcompiler.onnx_io import infer_types, load
from qcompiler.passes.quantize import QuantizeDynamic, QuantizeStatic, QuantizeWeights
from qcompiler.pipeline import Pass, PassContext
from qcompiler.runtime import Session
from qcompiler.search import Candidate, GroupTimes, Limits, choose, sensitivities

search_choose = importlib.import_module("qcompiler.search.choose")

TEXT = (
    '<ir_version: 8, opset_import: ["" : 17]> g (float[1,64,256] x, float[1,64,256] odd)'
    " => (float[1,64,256] y, float[1,64,256] z) { y = MatMul(x, w) z = MatMul(odd, u) }"
)


def opened() -> tuple[Model, Dataset]:
    """One product of inputs that are all alike, and one of inputs of which every eighth is a thousand times larger."""
    proto = parser.parse_model(TEXT)
    random = np.random.default_rng(0)
    for name in "wu":
        array = random.normal(size=(256, 256)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = load(proto)
    infer_types(model)
    samples = [
        {
            "x": random.normal(size=(1, 64, 256)).astype(np.float32),
            "odd": random.normal(size=(1, 64, 256)).astype(np.float32) * np.float32(1000 if i == 0 else 1),
        }
        for i in range(8)
    ]
    return model, open_dataset(samples, Session(proto.SerializeToString()).inputs)


def offered(
    passes: Sequence[Pass], target: OrtCpu | None = None
) -> tuple[Model, Dataset, dict[Group, list[Form]], OrtCpu]:
    model, data = opened()
    context = PassContext(data=data, target=target or OrtCpu())
    for item in passes:
        item.run(model, context)
    return model, data.subset(range(1, 8)), context.facts["forms"], context.target


def by_output(plan: Plan) -> dict[str, str]:
    return {group.output.name: form.kind for group, form in plan.items()}


def test_what_is_too_inexact_in_its_first_form_takes_the_next() -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax"), QuantizeDynamic()])
    choice = choose(model, forms, target, probes, Limits(25.0, 1e-6))
    assert choice.best is not None
    assert by_output(choice.best.plan) == {"y": STATIC, "z": DYNAMIC}
    assert choice.best.quality.sqnr_db >= 25.0


def test_for_size_the_most_sensitive_stays_float_and_says_how_sensitive() -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax")])
    choice = choose(model, forms, target, probes, Limits(25.0, 0.0))
    assert choice.best is not None
    assert by_output(choice.best.plan) == {"y": STATIC}
    (left,) = (group for group in forms if group not in choice.best.plan)
    assert choice.reasons[left].startswith("too sensitive: alone it leaves")
    assert choice.sensitivity[left] < 25


def test_no_limit_is_kept_then_nothing_is() -> None:
    model, probes, forms, target = offered([QuantizeStatic()])
    choice = choose(model, forms, target, probes, Limits(200.0, 1e-6))
    assert choice.best is None
    assert choice.reason == "no choice of quantized groups keeps 200 dB"


def test_a_spent_budget_takes_what_there_is() -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax")])
    choice = choose(model, forms, target, probes, Limits(25.0, 1e-6), budget=0.0)
    assert len(choice.tried) == 1
    assert choice.best is None
    choice = choose(model, forms, target, probes, Limits(-50.0, 1e-6), budget=0.0)
    assert choice.best is not None
    assert len(choice.best.plan) == 2


class Refusing(OrtCpu):
    """A target that takes no plan with the output ``z`` in it."""

    def lower(self, model: Model, plan: Plan) -> Model:
        if any(group.output.name == "z" for group in plan):
            raise LoweringError("no such kernel")
        return super().lower(model, plan)


@pytest.mark.parametrize("speedup", [0.0, 1e-6])
def test_a_group_that_the_target_refuses_is_named_and_the_rest_goes_on(speedup: float) -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax")], Refusing())
    choice = choose(model, forms, target, probes, Limits(20.0, speedup))
    assert choice.best is not None
    assert by_output(choice.best.plan) == {"y": STATIC}
    assert [reason for group, reason in choice.reasons.items() if group.output.name == "z"] == ["no such kernel"]


def test_sensitivities_are_of_each_group_alone() -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax")])
    found: dict[str, Any] = {
        group.output.name: decibels
        for group, decibels in sensitivities(model, forms, target, probes).sensitivity.items()
    }
    assert found["y"] > 35 > 10 > found["z"]


class Stub:
    """Times without a clock."""

    def __init__(self, bench: Any, speedups: dict[int, float]) -> None:
        self.bench, self.speedups = bench, speedups

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bench, name)

    def candidate(self, name: str, plan: Any) -> Candidate:
        found = self.bench.candidate(name, plan)
        found.speedup = self.speedups[len(plan)]
        return found

    def float_times(self, groups: Sequence[Group]) -> GroupTimes:
        return dict.fromkeys(groups, ("MatMul", 100.0))

    def quantized_times(self, candidate: Candidate, groups: Sequence[Group]) -> GroupTimes:
        return dict.fromkeys(groups, ("MatMulIntegerToFloat", 50.0))


def test_weights_alone_join_by_time_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model, probes, forms, target = offered([QuantizeWeights(bits=2, block=32)])
    alone = sensitivities(model, forms, target, probes).sensitivity
    limit = sum(alone.values()) / 2  # between what each of the two leaves
    original = search_choose.Bench
    monkeypatch.setattr(search_choose, "Bench", lambda *args: Stub(original(*args), {1: 1.1, 2: 1.2}))
    choice = choose(model, forms, target, probes, Limits(limit, 1.0))
    assert choice.best is not None
    assert len(choice.best.plan) == 1


def test_storing_weights_smaller_never_costs_the_speed_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax"), QuantizeWeights(bits=8)])
    original = search_choose.Bench
    monkeypatch.setattr(search_choose, "Bench", lambda *args: Stub(original(*args), {1: 1.01, 2: 0.99}))
    choice = choose(model, forms, target, probes, Limits(25.0, 1.0))
    assert choice.best is not None
    assert by_output(choice.best.plan) == {"y": STATIC}
    assert any(item.name.endswith("stored in fewer bits") for item in choice.tried)


def test_when_time_has_decided_the_rest_is_stored_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    model, probes, forms, target = offered([QuantizeStatic(ranges="minmax"), QuantizeWeights(bits=8)])
    original = search_choose.Bench
    monkeypatch.setattr(search_choose, "Bench", lambda *args: Stub(original(*args), {1: 1.5, 2: 1.48}))
    choice = choose(model, forms, target, probes, Limits(25.0, 1.0))
    assert choice.best is not None
    assert by_output(choice.best.plan) == {"y": STATIC, "z": WEIGHTS}
