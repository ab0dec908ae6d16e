"""Numbers that a rule writes take the element type of what they meet, and a node that draws is left in peace."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import parser

from qcompiler import op, rule
from qcompiler.dtypes import DType
from qcompiler.onnx_io import infer_types, load
from qcompiler.ops import is_pure
from qcompiler.rewrite import apply_rules


@pytest.mark.parametrize("kind", ["float", "float16", "double"])
def test_a_python_float_takes_the_type_of_the_other_input(kind: str) -> None:
    @rule(lambda x: op.Neg(x))
    def negate(rw: Any, m: Any) -> Any:
        """-x is x * -1."""
        return rw.op.Mul(m.x, -1.0)

    model = load(
        parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g ({kind}[2] x) => ({kind}[2] y) {{ y = Neg(x) }}')
    )
    infer_types(model)
    assert apply_rules(model, [negate]) == 1
    (constant,) = model.graph.constants
    assert constant.dtype is DType[kind.upper()]


@pytest.mark.parametrize(("training", "pure"), [("", True), (", r, f", True), (", r, t", False), (", r, b", False)])
def test_dropout_is_pure_unless_it_trains(training: str, pure: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[2] x, bool b) => (float[2] y)
        <float r = {{0.5}}, bool t = {{1}}, bool f = {{0}}> {{ y = Dropout(x{training}) }}"""
    (node,) = load(parser.parse_model(text)).graph
    assert is_pure(node) is pure
