"""Where channels go: caps, multiples, scales of batch normalization, named units, and what the report tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.ir import Model, clone_model
from qcompiler.lower import OrtCpu
from qcompiler.onnx_io import to_proto
from qcompiler.ops import macs
from qcompiler.passes.lossless.fuse_conv_batchnorm import FuseConvBatchNorm
from qcompiler.passes.prune import PruneChannels, apart, channel_groups
from qcompiler.passes.prune.selection import parsed, ranges, written
from qcompiler.pipeline import PassContext, Recipe, parse_recipe
from qcompiler.pipeline.record import run_one
from tests.lower.models import model_of
from tests.passes.prune.shapes import SHAPES, with_constants
from tests.passes.prune.test_exactness import context_for


def kept(model: Model, item: PruneChannels, context: PassContext | None = None) -> dict[str, int]:
    """How many units of each group stay."""
    context = context or PassContext()
    copy = clone_model(model)
    item.run(copy, context)
    return {group["name"]: group["kept"] for group in context.details["groups"]}


def test_a_cap_holds_for_the_groups_that_it_names() -> None:
    model = SHAPES["resnet"]()
    sizes = {group.name: group.size for group in channel_groups(model).groups}
    first = next(iter(sizes))
    free = kept(model, PruneChannels(ratio=0.4, criterion="l2", multiple=1))
    capped = kept(model, PruneChannels(ratio=0.4, criterion="l2", multiple=1, caps=(f"^{first}$=0.125",)))
    assert free[first] < 0.8 * sizes[first]
    assert capped[first] == sizes[first] - sizes[first] // 8
    assert sum(capped.values()) < sum(free.values()) + 4  # the others give more


def test_the_cap_grows_with_the_amount_and_gives_way_where_it_has_to() -> None:
    model = SHAPES["mobilenet"]()
    sizes = {group.name: group.size for group in channel_groups(model).groups}
    little = kept(model, PruneChannels(ratio=0.9, criterion="l2", multiple=1))
    assert all(little[name] >= 0.75 * size for name, size in sizes.items())
    much = kept(model, PruneChannels(ratio=0.25, criterion="l2", multiple=1))
    assert sum(much.values()) <= 0.27 * sum(sizes.values()) + 1


class Fast(OrtCpu):
    """A target with what it is fast with written down."""

    def fast_multiples(self, threads: int) -> dict[str, int]:
        return {"Conv": 8, "MatMul": 16}


def test_widths_are_multiples_of_what_the_target_is_fast_with() -> None:
    text = """g (float[n,32] x) => (float[n,8] y) {
        a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""
    model = model_of(text, w=(32, 64), v=(64, 8))
    found = kept(model, PruneChannels(ratio=0.7, criterion="l2"), PassContext(target=Fast()))
    assert list(found.values()) == [32 if found["a"] == 32 else 48]
    model = SHAPES["resnet"]()
    found = kept(model, PruneChannels(ratio=0.6, criterion="l2"), PassContext(target=Fast()))
    sizes = {group.name: group.size for group in channel_groups(model).groups}
    assert all(width % 8 == 0 or sizes[name] < 16 for name, width in found.items())
    assert any(width < sizes[name] for name, width in found.items())


def test_heads_are_as_wide_as_many_units() -> None:
    """A multiple of 16 indices is one of two heads of eight."""
    found = kept(SHAPES["vit"](), PruneChannels(ratio=0.3, criterion="l2", multiple=16))
    heads = next(width for name, width in found.items() if width <= 4)
    assert heads in (2, 4)


def test_scales_of_batch_normalization_rank_channels_before_they_are_folded() -> None:
    model = with_constants(SHAPES["resnet"](), s0=np.arange(1, 17, dtype=np.float32))
    context = PassContext()
    PruneChannels(ratio=0.8, criterion="batch-norm", multiple=1).run(model, context)
    stem = context.details["groups"][0]
    assert stem["units"] == 16
    assert stem["removed"].startswith("0")  # the least scale first
    assert "-" in stem["removed"]
    assert any("the others are ranked by l2" in text for text in context.warnings)


def test_folded_scales_are_told() -> None:
    model, context = SHAPES["resnet"](), PassContext()
    FuseConvBatchNorm().run(model, PassContext())
    PruneChannels(ratio=0.8, criterion="batch-norm", multiple=1).run(model, context)
    assert any("in 0 of 6 groups" in text and "fuse-conv-batch-norm" in text for text in context.warnings)


def test_named_units_go_again() -> None:
    """What a run settles makes the same model, whatever else is asked for and without ranking."""
    first, second = SHAPES["resnet"](), SHAPES["resnet"]()
    chosen = run_one(PruneChannels(macs=0.6, multiple=1), first, context_for(first)).resolved
    again = run_one(PruneChannels(ratio=0.1, criterion="random", **chosen), second, context_for(second))
    assert again.resolved == chosen
    assert to_proto(first).SerializeToString() == to_proto(second).SerializeToString()


@pytest.mark.parametrize(("units", "text"), [([], ""), ([3], "3"), ([5, 0, 1, 2], "0-2 5"), ([1, 2], "1-2")])
def test_numbers_as_ranges(units: list[int], text: str) -> None:
    assert ranges(units) == text
    (group,) = channel_groups(model_of("g (float[4,8] x) => (float[4,3] y) { a = MatMul(x, w) y = MatMul(a, u) }",
                                       w=(8, 8), u=(8, 3))).groups  # fmt: skip
    assert parsed(written({group: units}), [group]) == ({group: sorted(units)} if units else {})


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("b=0", "no group 'b'"),
        ("a=8", "the last is 7"),
        ("a=0-7", "nothing of group 'a'"),
        ("a=x", "no number or range"),
        ("a", "no group ''"),
    ],
)
def test_units_that_are_not_there(entry: str, why: str) -> None:
    model = model_of("g (float[4,8] x) => (float[4,3] y) { a = MatMul(x, w) y = MatMul(a, u) }", w=(8, 8), u=(8, 3))
    before = to_proto(model).SerializeToString()
    with pytest.raises(UsageError, match=why):
        PruneChannels(removed=(entry,)).run(model, PassContext())
    assert to_proto(model).SerializeToString() == before


def test_groups_of_one_layer_have_names_of_their_own() -> None:
    for make in SHAPES.values():
        names = [group.name for group in channel_groups(make()).groups]
        assert len(names) == len(set(names))


def test_the_curve_tells_error_and_time_of_other_amounts() -> None:
    model = SHAPES["resnet"]()
    context = context_for(model, 24)
    PruneChannels(macs=0.8, multiple=1, curve=(0.9, 0.5)).run(model, context)
    curve = context.details["curve"]
    assert curve["of"] == "macs"
    little, much = curve["points"]
    assert little["remaining"] == pytest.approx(0.9, abs=0.05)
    assert much["remaining"] == pytest.approx(0.5, abs=0.05)
    assert little["sqnr_db"] > much["sqnr_db"]
    assert little["speedup"] > 0


def test_products_of_recurrent_layers_count() -> None:
    model = SHAPES["lstm"]()
    costs = {node.op_type: macs(node) for node in model.graph}
    recurrent = next(node for node in model.graph if node.is_op("LSTM"))
    data, weight, state = (value.shape for value in recurrent.inputs[:3] if value is not None)
    assert data is not None
    assert weight is not None
    assert state is not None
    steps = int(np.prod([size for size in data[:-1] if isinstance(size, int)]))
    assert costs["LSTM"] == steps * int(np.prod(weight) + np.prod(state))  # type: ignore[arg-type]
    before = sum(costs.values())
    PruneChannels(macs=0.6, criterion="l2", multiple=1).run(model, PassContext())
    assert sum(macs(node) for node in model.graph) < 0.65 * before


def test_excluded_groups_stay_whole() -> None:
    model: Any = SHAPES["vit"]()
    heads = next(group.name for group in channel_groups(model).groups if group.size == 4)
    found = kept(model, PruneChannels(ratio=0.5, criterion="l2", multiple=1, exclude=f"^{heads}$"))
    assert found[heads] == 4


def test_the_recipe_is_resolved_pass_by_pass() -> None:
    """The first takes nothing; what the second took must not go twice."""
    recipe = Recipe("two", (PruneChannels(ratio=0.99, most=0.0, multiple=1), PruneChannels(ratio=0.7, multiple=1)))
    model, again = SHAPES["resnet"](), SHAPES["resnet"]()
    records = [run_one(item, model, context_for(model)) for item in recipe.passes]
    assert [record.changed > 0 for record in records] == [False, True]
    resolved = recipe.resolved([(record.name, record.resolved) for record in records])
    for item in resolved.passes:
        item.run(again, PassContext(data=context_for(again).data))
    assert to_proto(model).SerializeToString() == to_proto(again).SerializeToString()
    read_again = parse_recipe(resolved.to_toml(), "two", {"prune-channels": PruneChannels})
    assert read_again.passes == resolved.passes


@pytest.mark.parametrize("count", [2, 3, 24, 63, 64, 200])
def test_what_judges_did_not_refit(count: int) -> None:
    data = context_for(SHAPES["lstm"](), count).data
    assert data is not None
    refitting, judging = ([sample["x"].tobytes() for sample in part] for part in apart(data))
    assert 1 <= len(refitting) <= 32
    assert 1 <= len(judging) <= 32
    assert not set(refitting) & set(judging)


@pytest.mark.parametrize("spread", ["global", "uniform"])
def test_caps_hold_whatever_the_spread_and_multiple(spread: str) -> None:
    text = "g (float[n,32] x) => (float[n,8] y) { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) y = MatMul(c, u) }"
    model = model_of(text, w=(32, 72), v=(72, 64), u=(64, 8))
    item = PruneChannels(ratio=0.5, criterion="l2", multiple=16, spread=spread, caps=("^a$=0", "^c$=0.3"))
    assert kept(model, item) == {"a": 72, "c": 48}


def test_a_unit_may_be_wide_by_itself() -> None:
    """Heads of 8 in multiples of 32 would go four by four; of four heads two go."""
    heads = next(group.name for group in channel_groups(SHAPES["vit"]()).groups if group.size == 4)
    item = PruneChannels(ratio=0.2, criterion="l2", multiple=32, most=0.8)
    assert kept(SHAPES["vit"](), item)[heads] == 2


def test_the_curve_tells_what_really_remains() -> None:
    model = SHAPES["resnet"]()
    context = context_for(model, 8)
    PruneChannels(macs=0.8, multiple=1, caps=(".=0.1",), curve=(0.5, 0.2)).run(model, context)
    (point,) = context.details["curve"]["points"]  # both come to the same
    assert point["remaining"] > 0.8


def test_a_time_that_no_width_takes_changes_nothing() -> None:
    model = SHAPES["resnet"]()
    context = context_for(model, 2)
    assert PruneChannels(latency=0.001, criterion="l2", multiple=1).run(model, context) == 0
    assert any("so none was changed" in text for text in context.warnings)


def test_one_group_named_twice_loses_both() -> None:
    (group,) = channel_groups(model_of("g (float[4,8] x) => (float[4,3] y) { a = MatMul(x, w) y = MatMul(a, u) }",
                                       w=(8, 8), u=(8, 3))).groups  # fmt: skip
    assert parsed(("a=0-2", "a=7"), [group]) == {group: [0, 1, 2, 7]}
    with pytest.raises(UsageError, match="no number or range"):
        parsed(("a=5-2",), [group])
