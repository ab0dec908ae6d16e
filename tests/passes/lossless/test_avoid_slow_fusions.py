"""Forms that onnxruntime leaves alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcompiler.ir import clone_model
from qcompiler.lower import OrtCpu, optimized_nodes
from qcompiler.onnx_io import open_session
from qcompiler.passes.lossless import AvoidSlowFusions
from qcompiler.pipeline import PassContext

TEXT = """g (float[n,3,4] x, float[n,3,4] z) => (float[n,3,4] y) <float[4] s = {1, 2, 3, 4}, float[4] t = {0, 1, 0, 1}> {
    a = Add(x, z) y = LayerNormalization(a, s, t) }"""


def made_of(model_of: Callable[..., Any], text: str = TEXT) -> tuple[Any, Any]:
    source = model_of(text)
    model = clone_model(source)
    AvoidSlowFusions().run(model, PassContext(target=OrtCpu()))
    return source, model


def test_a_residual_stays_apart_from_its_normalization(
    model_of: Callable[..., Any], same_numbers: Callable[..., Any], feeds_for: Callable[..., Any], tmp_path: Path
) -> None:
    source, model = made_of(model_of)
    assert [node.op_type for node in model.nodes()] == ["Sum", "LayerNormalization"]
    same_numbers(source, model, feeds_for(source, {}))
    for each, kinds in ((source, ["SkipLayerNormalization"]), (model, ["Sum", "LayerNormalization"])):
        open_session(each, optimized_to=tmp_path / "o.onnx")
        assert [node.op_type for node in optimized_nodes(tmp_path / "o.onnx")] == kinds


def test_a_sum_that_others_use_too(model_of: Callable[..., Any]) -> None:
    text = TEXT.replace("(float[n,3,4] y)", "(float[n,3,4] y, float[n,3,4] q)").replace("y =", "q = Neg(a) y =")
    assert [node.op_type for node in made_of(model_of, text)[1].nodes()].count("Sum") == 1


@pytest.mark.parametrize("rank", ["n,4", "n,2,3,4"])
def test_what_onnxruntime_does_not_fuse_stays(model_of: Callable[..., Any], rank: str) -> None:
    assert "Sum" not in [node.op_type for node in made_of(model_of, TEXT.replace("n,3,4", rank))[1].nodes()]


def test_other_targets(rewrite: Callable[..., Any]) -> None:
    assert rewrite(TEXT, AvoidSlowFusions()).changed == 0
