"""RMS normalization: whatever the exporter wrote, onnxruntime makes one operator of what comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from qcompiler.onnx_io import to_bytes
from qcompiler.passes.lossless import FuseRMSNorm
from qcompiler.runtime import Session


def pieces(square: str, norm: str, axes: str = "-1", keep: int = 1) -> str:
    return f"""g (float[2,3,4] x) => (float[2,3,4] y)
        <float two = {{2}}, float one = {{1}}, float e = {{0.001}}, float[4] k = {{1, 2, 3, 4}}> {{
          q = {square} v = ReduceMean<axes = [{axes}], keepdims = {keep}>(q)
          w = Add(v, e) r = Sqrt(w) {norm} y = Mul(k, n) }}"""


SQUARES = ["Pow(x, two)", "Mul(x, x)"]
NORMS = ["i = Reciprocal(r) n = Mul(i, x)", "i = Div(one, r) n = Mul(x, i)", "n = Div(x, r)"]


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("norm", NORMS)
def test_onnxruntime_makes_one_operator_of_it(
    rewrite: Callable[..., Any], tmp_path: Path, square: str, norm: str
) -> None:
    done = rewrite(pieces(square, norm), FuseRMSNorm())
    assert done.changed == ((square, norm) != (SQUARES[0], NORMS[2]))
    assert done.ops == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    Session(to_bytes(done.model), optimized_to=tmp_path / "optimized.onnx")
    made = onnx.load(tmp_path / "optimized.onnx")
    assert [node.op_type for node in made.graph.node] == ["SimplifiedLayerNormalization"]


def test_another_axis_stays(rewrite: Callable[..., Any]) -> None:
    done = rewrite(pieces(SQUARES[1], NORMS[0], axes="1"), FuseRMSNorm(), explain=True)
    assert done.changed == 0 and any("last axis" in reason for reason in done.reasons)
