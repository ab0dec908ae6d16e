"""Residual branches: which there are, which goes first, and what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.errors import UsageError
from qcompiler.ir import Model, verify
from qcompiler.onnx_io import open_session, to_proto
from qcompiler.ops import macs
from qcompiler.passes.prune import PruneBlocks, channel_groups
from qcompiler.passes.prune.blocks import has_heads, residual_branches
from qcompiler.pipeline import PassContext
from qcompiler.pipeline.record import run_one
from tests.lower.models import model_of
from tests.passes.prune.shapes import SHAPES, with_constants

THREE = """g (float[4,16] x) => (float[4,8] y) {
    a = MatMul(x, w0) b = Relu(a)
    c = MatMul(b, w1) d = Relu(c) e = MatMul(d, w2) f = Add(b, e)
    g = MatMul(f, w3) h = Tanh(g) i = MatMul(h, w4) j = Sum(i, f)
    k = MatMul(j, w5) l = Relu(k) m = MatMul(l, w6) n = Add(j, m)
    y = MatMul(n, w7) }"""


def three(weak: str = "w4") -> Model:
    """Three blocks of the same cost, one of which adds next to nothing."""
    made = model_of(THREE, w7=(16, 8), **{f"w{number}": (16, 16) for number in range(7)})
    random = np.random.default_rng(0)
    return with_constants(made, **{weak: random.standard_normal((16, 16)).astype(np.float32) * 1e-3})


def context(model: Model) -> PassContext:
    rows = np.random.default_rng(1).standard_normal((20, 4, 16)).astype(np.float32)
    return PassContext(data=open_dataset({"x": rows}, input_specs(model)))


def test_branches_and_the_operand_that_stays() -> None:
    assert [(add.output.name, place) for add, place in residual_branches(three())] == [("f", 0), ("j", 1), ("n", 0)]
    assert [add.output.name for add, _ in residual_branches(SHAPES["resnet"]())] == ["h"]  # e is a projection
    assert [add.output.name for add, _ in residual_branches(SHAPES["vit"]())] == ["a", "e"]


@pytest.mark.parametrize(("weak", "gone"), [("w2", "e"), ("w4", "i"), ("w6", "m")])
def test_the_branch_that_does_least_goes_first(weak: str, gone: str) -> None:
    model = three(weak)
    source = open_session(model)
    assert PruneBlocks(macs=0.8).run(model, context(model)) == 1
    verify(model)
    names = {value.name for node in model.graph for value in node.outputs}
    assert gone not in names
    assert len(model.graph) == 15 - 4  # two products, what stands between them, and the sum
    x = {"x": np.random.default_rng(7).standard_normal((4, 16)).astype(np.float32)}
    assert np.abs(source.run(x)["y"] - open_session(model).run(x)["y"]).max() < 0.1


def test_all_go_where_so_much_is_asked_for_and_the_user_is_told() -> None:
    model, told = three(), context(three())
    assert PruneBlocks(macs=0.05).run(model, told) == 3
    assert any("nothing more to take" in text for text in told.warnings)
    assert [node.op_type for node in model.graph] == ["MatMul", "Relu", "MatMul"]


def test_nothing_goes_where_nothing_may() -> None:
    model = three()
    before = to_proto(model).SerializeToString()
    assert PruneBlocks(macs=1.0).run(model, context(model)) == 0
    assert PruneBlocks(macs=0.5, exclude=".*").run(model, context(model)) == 0
    assert to_proto(model).SerializeToString() == before
    with pytest.raises(UsageError, match="judges pieces on data"):
        PruneBlocks().run(model, PassContext())
    with pytest.raises(ValueError):
        PruneBlocks(macs=0.0)


NONE: dict[str, Any] = {
    "what is added is broadcast": "a = MatMul(x, w) b = Relu(a) c = ReduceMean<axes = [0], keepdims = 1>(b) "
                                  "d = Add(b, c) y = MatMul(d, u)",
    "the branch has another reader": "a = MatMul(x, w) b = MatMul(a, v) c = Add(a, b) d = Mul(c, b) y = MatMul(d, u)",
    "two branches of the input": "a = MatMul(x, w) b = MatMul(x, v) d = Add(a, b) y = MatMul(d, u)",
    "the sum is an output": "a = MatMul(x, w) b = MatMul(a, u) y = Add(a, b)",
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_no_branch_is_seen_where_there_is_none(name: str) -> None:
    model = model_of(f"g (float[4,16] x) => (float[4,16] y) {{ {NONE[name]} }}", w=(16, 16), v=(16, 16), u=(16, 16))
    assert residual_branches(model) == []


def test_the_head_that_does_least_goes_first() -> None:
    model = SHAPES["vit"]()
    before = sum(macs(node) for node in model.graph)
    weak = next(value for value in model.graph.constants if value.name == "wo")
    assert weak.constant is not None
    array = weak.constant.numpy().copy()
    array[8:16] *= 1e-4  # what the second of four heads gives is next to nothing
    model = with_constants(model, wo=array)
    source = open_session(model)
    rows = np.random.default_rng(1).standard_normal((12, 1, 3, 16, 16)).astype(np.float32)
    told = PassContext(data=open_dataset({"x": rows}, input_specs(model)))
    assert PruneBlocks(macs=0.95, kinds=("heads",)).run(model, told) == 1
    (name,) = told.details["removed"]
    assert name.startswith("head 1 of ")
    verify(model)
    assert sum(macs(node) for node in model.graph) < before
    ours, theirs = open_session(model).run({"x": rows[0]})["y"], source.run({"x": rows[0]})["y"]
    assert np.abs(ours - theirs).max() < 1e-2 * np.abs(theirs).max()


def test_one_head_stays() -> None:
    model = SHAPES["vit"]()
    rows = np.random.default_rng(1).standard_normal((4, 1, 3, 16, 16)).astype(np.float32)
    told = PassContext(data=open_dataset({"x": rows}, input_specs(model)))
    assert PruneBlocks(macs=0.01, kinds=("heads",)).run(model, told) == 3
    verify(model)
    open_session(model).run({"x": rows[0]})


def test_inner_units_are_no_heads() -> None:
    groups = channel_groups(SHAPES["vit"]()).groups
    assert [group.size for group in groups if has_heads(group)] == [4]
    assert not any(has_heads(group) for name in ("resnet", "lstm") for group in channel_groups(SHAPES[name]()).groups)


def test_named_pieces_go_again_without_data() -> None:
    first, second = three(), three()
    record = run_one(PruneBlocks(macs=0.5), first, context(first))
    assert record.changed == 2
    again = run_one(PruneBlocks(**record.resolved), second, PassContext())
    assert again.resolved == record.resolved
    assert to_proto(first).SerializeToString() == to_proto(second).SerializeToString()
    with pytest.raises(UsageError, match="no piece 'the branch into q'"):
        PruneBlocks(removed=("the branch into q",)).run(three(), PassContext())
    vit = SHAPES["vit"]()
    group = next(group.name for group in channel_groups(vit).groups if group.size == 4)
    with pytest.raises(UsageError, match="the last head"):
        PruneBlocks(removed=tuple(f"head {unit} of {group}" for unit in range(4))).run(vit, PassContext())


def test_products_of_convolutions_are_no_heads() -> None:
    text = (
        "g (float[1,4,8,8] x) => (float[1,3,8,8] y) { a = Conv(x, w) b = Conv(x, v) c = MatMul(a, b) y = Conv(c, u) }"
    )
    model = model_of(text, w=(16, 4, 1, 1), v=(16, 4, 1, 1), u=(3, 16, 1, 1))
    (group,) = channel_groups(model).groups
    assert not has_heads(group)
