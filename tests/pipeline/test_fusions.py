"""What the target fuses by itself is counted around each pass; a pass that costs fusions is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import parser

from qcompiler import op, rule
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import load
from qcompiler.pipeline import Pass, PassContext, Pipeline
from qcompiler.rewrite import Rule

LAYER_NORM = """<ir_version: 8, opset_import: ["" : 16]>
g (float[2,4] x) => (float[2,4] y) <float two = {2}, float eps = {1e-5}, float[4] k = {1, 2, 3, 4}, float[4] b = {0, 1, 2, 3}> {
    mean = ReduceMean <axes = [-1]> (x)  d = Sub(x, mean)  s = Pow(d, two)  v = ReduceMean <axes = [-1]> (s)
    e = Add(v, eps)  r = Sqrt(e)  n = Div(d, r)  m = Mul(n, k)  y = Add(m, b)
}"""


@rule(lambda x: op.Sqrt(x))
def root_by_pow(rw: Any, m: Any) -> Any:
    """The same number in a form that onnxruntime does not look for."""
    return rw.op.Pow(m.x, 0.5)


@rule(lambda x: op.Abs(op.Abs(x, _as="inner"), _as="outer"))
def abs_twice(rw: Any, m: Any) -> Any:
    """Costs nothing."""
    return rw.op.Abs(m.x)


@dataclass(frozen=True)
class HideRoots(Pass):
    rules: ClassVar[tuple[Rule, ...]] = (root_by_pow,)
    lossless: ClassVar[bool] = True


@dataclass(frozen=True)
class DropAbs(Pass):
    rules: ClassVar[tuple[Rule, ...]] = (abs_twice,)
    lossless: ClassVar[bool] = True


def through(item: Pass, text: str, **context: Any) -> tuple[Any, PassContext]:
    made = PassContext(samples=[{"x": np.ones((2, 4), np.float32)}], target=OrtCpu(), **context)
    _, (record,) = Pipeline([item]).run(load(parser.parse_model(text)), made)
    return record, made


def test_onnxruntime_says_what_it_makes_of_a_model() -> None:
    assert OrtCpu().optimized_kinds(load(parser.parse_model(LAYER_NORM))) == {"LayerNormalization": 1}


def test_a_pass_that_hides_a_fusion_is_told() -> None:
    record, context = through(HideRoots(), LAYER_NORM, watch_fusions=True)
    assert (record.fusions_before, record.fusions_after) == (1, 0)
    assert record.target_nodes_before == 1
    assert record.target_nodes_after == record.nodes_after
    (warning,) = [text for text in context.warnings if "fusions" in text]
    assert "pass 'hide-roots' costs fusions of the target" in warning
    assert "LayerNormalization 1" in warning


def test_a_pass_that_costs_none_is_not() -> None:
    text = LAYER_NORM.replace("y = Add(m, b)", "p = Abs(m) q = Abs(p) y = Add(q, b)")
    record, context = through(DropAbs(), text, watch_fusions=True)
    assert record.changed == 1
    assert record.target_nodes_after == record.target_nodes_before - 1
    assert not [text for text in context.warnings if "fusions" in text]


def test_without_being_asked_nothing_is_counted() -> None:
    record, _ = through(HideRoots(), LAYER_NORM)
    assert record.fusions_before is None


@pytest.mark.parametrize("name", ["minilm-l6", "yolox-nano", "ppocrv3-det", "ultraface-rfb320", "selfattn-mnist"])
def test_the_lossless_recipe_costs_no_fusions_of_real_models(zoo: Any, name: str) -> None:
    from qcompiler.compiler import find_recipe

    model = load(zoo / "models" / f"{name}.onnx")
    context = PassContext(target=OrtCpu(), watch_fusions=True)
    _, records = Pipeline(find_recipe("lossless").passes).run(model, context)
    assert any(record.fusions_after is not None for record in records)
    assert not [text for text in context.warnings if "fusions" in text]
