"""A lossless pass that is wrong is found, named and left out, and everything else stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import parser

from qcompiler import op, rule
from qcompiler.errors import UsageError
from qcompiler.ir import Model, Node, format_graph
from qcompiler.onnx_io import load
from qcompiler.pipeline import Pass, PassContext, Pipeline
from qcompiler.rewrite import Rule, replace_value

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[4] x) => (float[4] y) {
    a = Neg(x)  b = Neg(a)  c = Abs(b)  d = Exp(c)  e = Neg(d)  f = Neg(e)  h = Relu(f)  y = Sqrt(h)
}"""
SAMPLES = [{"x": np.array([1, -2, 3, 0.5], np.float32)}]


@rule(lambda x: op.Neg(op.Neg(x)))
def double_negation(rw: Any, m: Any) -> Any:
    """Right: -(-x) is x."""
    return rw.op.Identity(m.x)


@rule(lambda x: op.Relu(x))
def drop_relu(rw: Any, m: Any) -> Any:
    """Right here: what comes in is never negative."""
    return rw.op.Identity(m.x)


@rule(lambda x: op.Exp(x))
def wrong_exp(rw: Any, m: Any) -> Any:
    """Wrong."""
    return rw.op.Sqrt(m.x)


@rule(lambda x: op.Abs(x))
def raising(rw: Any, m: Any) -> Any:
    """Adds a node, then fails."""
    rw.op.Relu(m.x)
    raise RuntimeError("no idea")


@rule(lambda x: op.Abs(x))
def endless(rw: Any, m: Any) -> Any:
    """Never comes to an end."""
    return rw.op.Abs(rw.op.Identity(m.x))


@rule(lambda x: op.Abs(x))
def other_type(rw: Any, m: Any) -> Any:
    """Gives another element type than the output had."""
    return rw.op.Cast(m.x, to=7)


@dataclass(frozen=True)
class Rules(Pass):
    """A pass of one wrong rule among right ones."""

    rules: ClassVar[tuple[Rule, ...]] = (double_negation, wrong_exp, drop_relu)
    lossless: ClassVar[bool] = True


@dataclass(frozen=True)
class Raising(Pass):
    rules: ClassVar[tuple[Rule, ...]] = (raising, double_negation)
    lossless: ClassVar[bool] = True


@dataclass(frozen=True)
class Endless(Pass):
    rules: ClassVar[tuple[Rule, ...]] = (endless,)
    lossless: ClassVar[bool] = True


@dataclass(frozen=True)
class OtherType(Pass):
    rules: ClassVar[tuple[Rule, ...]] = (other_type,)
    lossless: ClassVar[bool] = True


@dataclass(frozen=True)
class HalfWay(Pass):
    """Changes something, then raises."""

    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        node = next(node for node in model.graph if node.op_type == "Exp")
        replace_value(node.output, node.inputs[0])  # type: ignore[arg-type]
        raise KeyError("half-way")


@dataclass(frozen=True)
class Breaking(Pass):
    """Leaves a graph that does not verify."""

    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        node = next(iter(model.graph))
        node.set_input(0, Node("Ghost").output)
        return 1


@dataclass(frozen=True)
class Ours(Pass):
    """Replaces every Exp by its input, asking first as every pass does."""

    lossless: ClassVar[bool] = True

    def run(self, model: Model, context: PassContext) -> int:
        count = 0
        for node in model.graph:
            if node.op_type == "Exp" and context.permit(self.name, node):
                replace_value(node.output, node.inputs[0])  # type: ignore[arg-type]
                model.graph.remove(node)
                count += 1
        return count


def through(*passes: Pass, text: str = TEXT) -> tuple[Model, list[Any], PassContext]:
    context = PassContext(samples=SAMPLES)
    model, records = Pipeline(passes).run(load(parser.parse_model(text)), context)
    return model, records, context


def kinds(model: Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_the_wrong_rule_goes_and_the_right_ones_stay() -> None:
    model, (record,), context = through(Rules())
    assert kinds(model) == ["Identity", "Abs", "Exp", "Identity", "Identity", "Sqrt"]
    assert record.rewrites == {"double-negation": 2, "drop-relu": 1}
    assert "rule 'wrong-exp' was rolled back" in record.reason
    assert "at Exp d" in record.reason
    assert any("wrong-exp" in text for text in context.warnings)


def test_of_many_rewrites_by_one_rule_the_first_wrong_one_is_named() -> None:
    """Replacing Abs by Identity is right where nothing negative comes in; without the last two a negative number is left."""

    @rule(lambda x: op.Abs(x))
    def drop_abs(rw: Any, m: Any) -> Any:
        """Right only behind Exp."""
        return rw.op.Identity(m.x)

    @dataclass(frozen=True)
    class DropAbs(Pass):
        rules: ClassVar[tuple[Rule, ...]] = (drop_abs,)
        lossless: ClassVar[bool] = True

    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) {
        a = Exp(x) b = Abs(a) c = Abs(b) d = Neg(c) wrong = Abs(d) e = Abs(wrong) y = Sqrt(e) }"""
    model, (record,), _ = through(DropAbs(), text=text)
    assert "at Abs e" in record.reason
    assert kinds(model).count("Abs") == 4


@pytest.mark.parametrize(
    ("guilty", "name"), [(Raising(), "raising"), (Endless(), "endless"), (OtherType(), "other-type")]
)
def test_a_rule_that_fails_is_left_out_and_the_run_goes_on(guilty: Pass, name: str) -> None:
    model, records, context = through(guilty, Rules())
    assert f"rule '{name}' was rolled back" in records[0].reason
    assert any(name in text for text in context.warnings)
    assert records[1].rewrites["drop-relu"] == 1
    assert "Abs" in kinds(model)


@pytest.mark.parametrize("guilty", [HalfWay(), Breaking()])
def test_a_pass_that_fails_is_left_out_whole(guilty: Pass) -> None:
    model, records, context = through(guilty, Rules())
    assert records[0].status == "rolled-back"
    assert records[0].reason
    assert any(guilty.name in text for text in context.warnings)
    assert kinds(model) == ["Identity", "Abs", "Exp", "Identity", "Identity", "Sqrt"]


def test_a_pass_without_rules_is_bisected_too() -> None:
    model, (record,), _ = through(Ours())
    assert kinds(model).count("Exp") == 1
    assert "ours" in record.reason
    assert record.status == "rolled-back"


def test_without_samples_nothing_is_checked_and_that_is_said() -> None:
    context = PassContext()
    model, _ = Pipeline([Rules()]).run(load(parser.parse_model(TEXT)), context)
    assert "Exp" not in kinds(model)
    assert any("not checked" in text for text in context.warnings)


def test_the_source_is_the_measure_not_the_pass_before() -> None:
    """Two passes whose small errors add up are held against the model before both."""
    context = PassContext(samples=SAMPLES)
    before = load(parser.parse_model(TEXT))
    text = format_graph(before.graph)
    model, _ = Pipeline([Ours(), Rules()]).run(before, context)
    assert format_graph(load(parser.parse_model(TEXT)).graph) == text
    assert kinds(model).count("Exp") == 1


def test_an_order_that_cannot_work_is_refused_before_anything_runs() -> None:
    @dataclass(frozen=True)
    class Needs(Pass):
        needs: ClassVar[frozenset[str]] = frozenset({"ranges"})

    with pytest.raises(UsageError, match="'needs' needs ranges, which no pass before it gives"):
        Pipeline([Rules(), Needs()])
