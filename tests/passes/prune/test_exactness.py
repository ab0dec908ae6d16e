"""A pruned model is the same as the whole one in which the channels that went are zero wherever they are summed up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.errors import UsageError
from qcompiler.ir import Model, clone_model, verify
from qcompiler.onnx_io import infer_types, open_session
from qcompiler.passes.prune import PruneChannels, channel_groups, masked, removed_indices, shrink
from qcompiler.pipeline import PassContext
from qcompiler.runtime import interleaved
from tests.lower.models import model_of
from tests.passes.prune.shapes import SHAPES


def feeds(model: Model, seed: int = 0) -> dict[str, Any]:
    """One random input, 3 for every size that is not fixed."""
    draw = np.random.default_rng(seed).standard_normal
    found = {}
    for spec in input_specs(model):
        assert spec.shape is not None
        found[spec.name] = draw([size if isinstance(size, int) else 3 for size in spec.shape]).astype(spec.dtype)
    return found


def pruned_and_masked(model: Model, part: float, seed: int = 0) -> tuple[Model, Model, int]:
    """``model`` without ``part`` of the units of each group, chosen by chance, and with them forced to zero."""
    random = np.random.default_rng(seed)
    chosen = [random.permutation(group.size)[: min(group.size - 1, round(part * group.size))]
              for group in channel_groups(model).groups]  # fmt: skip
    made = []
    for change in (shrink, masked):
        copy = clone_model(model)
        groups = channel_groups(copy).groups
        change(copy, removed_indices(dict(zip(groups, chosen, strict=True))))
        verify(copy)
        infer_types(copy)
        made.append(copy)
    return made[0], made[1], sum(len(units) for units in chosen)


def parameters(model: Model) -> int:
    return sum(value.const.size for value in model.graph.constants if value.const is not None)


def same(model: Model, part: float, seed: int = 0) -> int:
    pruned, zeroed, count = pruned_and_masked(model, part, seed)
    sessions = [open_session(item, optimize=False) for item in (pruned, zeroed, model)]
    assert sessions[0].outputs == sessions[2].outputs
    ours, theirs = (session.run(feeds(model, seed)) for session in sessions[:2])
    for name, array in theirs.items():
        assert np.isfinite(array).all()
        np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(array).max())))
    assert (parameters(pruned) < parameters(model)) == (count > 0)
    return count


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("part", [0.2, 0.5])
def test_known_shapes(name: str, part: float) -> None:
    model = SHAPES[name]()
    assert same(model, part) > 0


@pytest.mark.parametrize(
    ("name", "units"),
    [
        # The bottlenecks, the stem (read by two), and the sum that the second block adds to.
        ("resnet", [16, 8, 8, 32, 8, 8]),
        ("mobilenet", [8, 24, 6]),
        ("densenet", [8, 4, 4]),
        ("vit", [4, 64]),
        ("lstm", [10, 16]),
    ],
)
def test_groups_of_known_shapes(name: str, units: list[int]) -> None:
    assert sorted(group.size for group in channel_groups(SHAPES[name]()).groups) == sorted(units)


OPERATORS = {
    "conv transpose": ("float[1,4,5,5] x", "a = Conv(x, w) b = ConvTranspose<strides=[2,2]>(a, t) y = Conv(b, u)",
                       {"w": (8, 4, 1, 1), "t": (8, 6, 2, 2), "u": (3, 6, 1, 1)}, 2),
    "grouped": ("float[1,4,5,5] x", "a = Conv(x, w) b = Conv<group=2>(a, g) y = Conv(b, u)",
                {"w": (8, 4, 1, 1), "g": (6, 4, 1, 1), "u": (3, 6, 1, 1)}, 2),
    "grouped transpose": ("float[1,4,5,5] x", "a = Conv(x, w) b = ConvTranspose<group=2>(a, g) y = Conv(b, u)",
                          {"w": (8, 4, 1, 1), "g": (8, 3, 1, 1), "u": (3, 6, 1, 1)}, 2),
    "depthwise that widens": ("float[1,4,5,5] x", "a = Conv(x, w) b = Conv<group=8>(a, d) y = Conv(b, u)",
                              {"w": (8, 4, 1, 1), "d": (16, 1, 1, 1), "u": (3, 16, 1, 1)}, 1),
    "split": ("float[1,4,5,5] x", "a = Conv(x, w) b, c = Split<axis=1>(a) d = Mul(b, c) y = Conv(d, u)",
              {"w": (8, 4, 1, 1), "u": (3, 4, 1, 1)}, 1),
    "depth to space": ("float[1,4,5,5] x", "a = Conv(x, w) b = DepthToSpace<blocksize=2>(a) y = Conv(b, u)",
                       {"w": (16, 4, 1, 1), "u": (3, 4, 1, 1)}, 1),
    "depth to space by columns": (
        "float[1,4,5,5] x", 'a = Conv(x, w) b = DepthToSpace<blocksize=2, mode="CRD">(a) y = Conv(b, u)',
        {"w": (16, 4, 1, 1), "u": (3, 4, 1, 1)}, 1),
    "space to depth": ("float[1,4,4,4] x", "a = Conv(x, w) b = SpaceToDepth<blocksize=2>(a) y = Conv(b, u)",
                       {"w": (8, 4, 1, 1), "u": (3, 32, 1, 1)}, 1),
    "instance norm": ("float[1,4,5,5] x", "a = Conv(x, w) b = InstanceNormalization(a, s, t) y = Conv(b, u)",
                      {"w": (8, 4, 1, 1), "s": (8,), "t": (8,), "u": (3, 8, 1, 1)}, 1),
    "prelu and reduce": ("float[1,4,5,5] x", "a = Conv(x, w) b = PRelu(a, s) c = ReduceMean<axes=[2,3]>(b) "
                         "d = Flatten(c) y = Gemm(d, u)", {"w": (8, 4, 1, 1), "s": (8, 1, 1), "u": (8, 3)}, 1),
    "flattened": ("float[n,4,3,3] x", "a = Conv(x, w) b = Flatten(a) y = MatMul(b, u)",
                  {"w": (8, 4, 1, 1), "u": (72, 3)}, 1),
    "summed": ("float[n,6] x", "a = MatMul(x, w) b = ReduceSum<keepdims=0>(a, axes) c = Identity(a) y = MatMul(c, u) "
               "z = Neg(b)", {"w": (6, 8), "u": (8, 3)}, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_between_two_layers(name: str) -> None:
    given_as, body, weights, groups = OPERATORS[name]
    if name == "summed":
        body = "axes = Constant<value = int64[1] {1}>() " + body
    rank = 2 if name in ("prelu and reduce", "flattened") else 4
    outputs = "float[n,3] y, float[n] z" if name == "summed" else f"float[{','.join('pqrs'[:rank])}] y"
    model = model_of(f"g ({given_as}) => ({outputs}) {{ {body} }}", **weights)
    found = channel_groups(model).groups
    assert len(found) == groups
    assert same(model, 0.4) > 0


BARRIERS = {
    "softmax": ("a = MatMul(x, w) b = Softmax(a) y = MatMul(b, u)", "Softmax"),
    "layer norm": ("a = MatMul(x, w) b = LayerNormalization(a, s) y = MatMul(b, u)", "LayerNormalization"),
    "mean over channels": ("a = MatMul(x, w) b = ReduceMean<axes=[1]>(a) c = Sub(a, b) y = MatMul(c, u)", "ReduceMean"),
    "unknown": ('a = MatMul(x, w) b = Einsum<equation = "ij->ij">(a) y = MatMul(b, u)', "Einsum"),
    "output": ("y = MatMul(x, w)", "output of the model"),
    "input": ("a = MatMul(x, w) b = Add(a, x) y = MatMul(b, u)", "input of the model"),
    "a size that is asked for": ("a = MatMul(x, w) b = Shape(a) c = Expand(s, b) y = Add(c, a)", "Shape"),
    "top of a few": ("k = Constant<value = int64[1] {2}>() a = MatMul(x, w) b, i = TopK(a, k) y = Neg(b)", "TopK"),
}


@pytest.mark.parametrize("name", BARRIERS)
def test_what_needs_an_axis_whole_keeps_it_and_is_named(name: str) -> None:
    body, why = BARRIERS[name]
    shape = "8,8" if name == "output" else "p,q"
    model = model_of(f"g (float[8,8] x) => (float[{shape}] y) {{ {body} }}", w=(8, 8), u=(8, 3), s=(8,))
    found = channel_groups(model)
    assert found.groups == []
    reasons = [reason for node, reason in found.kept.items() if node.output.name in ("a", "y")]
    assert any(why in reason for reason in reasons), found.kept


TRICKY = {
    # name: inputs, outputs, body, weights, groups that there are
    "slice of a symbolic axis too": (
        "float[n,8] x", "float[m,3] y",
        "s = Constant<value = int64[2] {1,0}>() e = Constant<value = int64[2] {3,4}>() "
        "k = Constant<value = int64[2] {0,1}>() a = MatMul(x, w) b = Slice(a, s, e, k) y = MatMul(b, u)",
        {"w": (8, 8), "u": (4, 3)}, 2),
    "slice that turns another axis": (
        "float[1,4,5,5] x", "float[1,3,p,5] y",
        "s = Constant<value = int64[2] {0,-1}>() e = Constant<value = int64[2] {4,-100}>() "
        "k = Constant<value = int64[2] {1,2}>() t = Constant<value = int64[2] {1,-1}>() a = Conv(x, w) "
        "b = Slice(a, s, e, k, t) y = Conv(b, u)", {"w": (8, 4, 1, 1), "u": (3, 4, 1, 1)}, 2),
    "joined with an unknown width": (
        "float[n,8] x, float[n,k] z", "float[n,3] y, float[n,2] r",
        "q = MatMul(x, v) r = MatMul(q, t) a = MatMul(x, w) b = Concat<axis = 1>(a, z) y = MatMul(b, u)",
        {"w": (8, 8), "u": (11, 3), "v": (8, 8), "t": (8, 2)}, 1),
    "added to an unknown width": (
        "float[n,8] x, float[n,k] z", "float[n,3] y", "a = MatMul(x, w) b = Add(a, z) y = MatMul(b, u)",
        {"w": (8, 3), "u": (3, 3)}, 0),
    "reshaped to the shape of another": (
        "float[n,8,1,1] x, float[n,8] z", "float[n,3] y",
        "a = Conv(x, w) s = Shape(z) b = Reshape(a, s) y = MatMul(b, u)", {"w": (8, 8, 1, 1), "u": (8, 3)}, 0),
    "reshaped to joined sizes, two of them in one": (
        "float[n,8,1,1] x", "float[n,3,1] y",
        "s = Shape(x) i = Constant<value = int64[1] {0}>() c = Constant<value = int64[2] {8,1}>() a = Conv(x, w) "
        "q = Gather(s, i) r = Concat<axis = 0>(q, c) b = Reshape(a, r) y = Conv(b, u)",
        {"w": (8, 8, 1, 1), "u": (3, 8, 1)}, 1),
    "resized to sizes that are computed": (
        "float[n,4,5,5] x", "float[n,3,10,10] y",
        "s = Shape(x) i = Constant<value = int64[1] {0}>() c = Constant<value = int64[3] {8,10,10}>() a = Conv(x, w) "
        "q = Gather(s, i) r = Concat<axis = 0>(q, c) b = Resize(a, , , r) y = Conv(b, u)",
        {"w": (8, 4, 1, 1), "u": (3, 8, 1, 1)}, 0),
    "squeezed of whatever is 1": (
        "float[2,4,1,1] x", "float[2,3] y", "a = Conv(x, w) b = Squeeze(a) y = MatMul(b, u)",
        {"w": (8, 4, 1, 1), "u": (8, 3)}, 0),
    "places of maxima": (
        "float[1,4,4,4] x", "float[1,3,2,2] y",
        "a = Conv(x, w) b, i = MaxPool<kernel_shape = [2,2], strides = [2,2]>(a) c = Cast<to = 1>(i) d = Add(b, c) "
        "y = Conv(d, u)", {"w": (8, 4, 1, 1), "u": (3, 8, 1, 1)}, 0),
    "a recurrent layer whose first output nobody reads": (
        "float[5,n,4] x", "float[1,n,3] y", ", b, c = LSTM<hidden_size = 6>(x, w, r) d = Add(b, c) y = MatMul(d, u)",
        {"w": (1, 24, 4), "r": (1, 24, 6), "u": (6, 3)}, 1),
    "a state of unknown width": (
        "float[5,n,4] x, float[1,n,h] z", "float[1,n,3] y",
        "a, b = RNN<hidden_size = 3>(x, w, r, , , z) y = MatMul(b, u)",
        {"w": (1, 3, 4), "r": (1, 3, 3), "u": (3, 3)}, 0),
    "gathered twice and from the end": (
        "float[n,8] x", "float[n,3] y",
        "i = Constant<value = int64[4] {1,1,-1,3}>() a = MatMul(x, w) b = Gather<axis = 1>(a, i) y = MatMul(b, u)",
        {"w": (8, 8), "u": (4, 3)}, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", TRICKY)
def test_what_looks_alike_and_is_not(name: str) -> None:
    inputs, outputs, body, weights, groups = TRICKY[name]
    model = model_of(f"g ({inputs}) => ({outputs}) {{ {body} }}", **weights)
    assert len(channel_groups(model).groups) == groups
    assert (same(model, 0.5) > 0) == (groups > 0)


def test_heads_under_a_mask_of_their_own_stay() -> None:
    body = """q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
        a = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v, m) y = MatMul(a, u)"""
    weights = dict.fromkeys(("wq", "wk", "wv", "u"), (8, 8))
    for mask, groups in (((1, 4, 5, 5), 0), ((1, 1, 5, 5), 1)):
        model = model_of(f"g (float[2,5,8] x) => (float[2,5,8] y) {{ {body} }}", 23, m=mask, **weights)
        assert len(channel_groups(model).groups) == groups


def test_an_old_operator_set_is_kept_whole() -> None:
    text = "g (float[2,5,8] x) => (float[2,5,8] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, u) }"
    found = channel_groups(model_of(text, 11, w=(8, 8), u=(8, 8)))
    assert found.groups == []
    assert all("operator set 11" in reason for reason in found.kept.values())


REFITTED = {
    "depthwise": ("float[n,4,8,8] x", "a = Conv(x, w) r = Relu(a) d = Conv<group = 8, pads = [1,1,1,1]>(r, g) "
                  "y = Conv(d, u)", {"w": (8, 4, 1, 1), "g": (8, 1, 3, 3), "u": (3, 8, 1, 1)}),
    "gemm with factors": ("float[n,8] x", "a = MatMul(x, w) r = Relu(a) y = Gemm<alpha = 0.25, beta = 3.0>(r, u, b)",
                          {"w": (8, 8), "u": (8, 3), "b": (3,)}),
    "gemm that adds what is computed": ("float[n,8] x", "a = MatMul(x, w) r = Relu(a) c = MatMul(x, v) "
                                        "y = Gemm(r, u, c)", {"w": (8, 8), "u": (8, 3), "v": (8, 3)}),
    "gemm with one number": ("float[n,8] x", "a = MatMul(x, w) r = Relu(a) y = Gemm(r, u, b)",
                             {"w": (8, 8), "u": (8, 3), "b": (1,)}),
    "mixer": ("float[n,4,9] x", "a = Conv(x, w) b = Relu(a) c = MatMul(b, t) d = Relu(c) y = Conv(d, u)",
              {"w": (8, 4, 1), "t": (9, 6), "u": (3, 8, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFITTED)
def test_refit_never_makes_it_worse(name: str) -> None:
    given_as, body, weights = REFITTED[name]
    outputs = {"depthwise": "float[n,3,8,8] y", "mixer": "float[n,3,6] y"}.get(name, "float[n,3] y")
    model = model_of(f"g ({given_as}) => ({outputs}) {{ {body} }}", **weights)
    source, errors = open_session(model), []
    for refit in (False, True):
        copy = clone_model(model)
        PruneChannels(ratio=0.7, multiple=1, refit=refit).run(copy, context_for(copy, 40))
        session = open_session(copy)
        fresh = [feeds(copy, seed) for seed in range(100, 110)]
        errors.append(sum(float(np.square(source.run(x)["y"] - session.run(x)["y"]).sum()) for x in fresh))
    assert errors[1] <= errors[0] * 1.001


def test_shared_weights_are_cut_for_all_who_share_them() -> None:
    text = """g (float[4,8] x) => (float[4,3] y, float[4,3] z) {
        a = MatMul(x, w) b = Relu(a) y = MatMul(b, u) c = MatMul(x, w) d = Tanh(c) z = MatMul(d, u) }"""
    model = model_of(text, w=(8, 8), u=(8, 3))
    (group,) = channel_groups(model).groups
    assert group.size == 8
    same(model, 0.5)


def test_a_weight_that_is_an_output_too_is_kept_whole() -> None:
    text = "g (float[4,8] x) => (float[4,3] y, float[8,8] v) { a = MatMul(x, w) y = MatMul(a, u) v = Identity(w) }"
    assert channel_groups(model_of(text, w=(8, 8), u=(8, 3))).groups == []


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_random_networks(data: Any) -> None:
    """Convolutions, sums, joins, depthwise convolutions, activations and pooling in any order."""
    lines, weights, wide = [], {}, {"x": 4}
    names = ["x"]
    for number in range(data.draw(st.integers(2, 8))):
        kind = data.draw(st.sampled_from(["conv", "conv", "conv", "add", "concat", "depthwise", "act", "pool"]))
        source = data.draw(st.sampled_from(names))
        out = f"t{number}"
        if kind == "conv":
            width = data.draw(st.sampled_from([2, 4, 6]))
            weights[f"w{number}"] = (width, wide[source], 1, 1)
            lines.append(f"{out} = Conv({source}, w{number})")
        elif kind == "depthwise":
            width = wide[source]
            weights[f"w{number}"] = (width, 1, 3, 3)
            lines.append(f"{out} = Conv<group={width}, pads=[1,1,1,1]>({source}, w{number})")
        elif kind in ("add", "concat"):
            others = [name for name in names if kind == "concat" or wide[name] == wide[source]]
            other = data.draw(st.sampled_from(others))
            width = wide[source] + wide[other] if kind == "concat" else wide[source]
            lines.append(f"{out} = {'Concat<axis=1>' if kind == 'concat' else 'Add'}({source}, {other})")
        else:
            width = wide[source]
            act = data.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "HardSwish"]))
            pool = "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>"
            lines.append(f"{out} = {act if kind == 'act' else pool}({source})")
        wide[out] = width
        names.append(out)
    weights["last"] = (3, wide[names[-1]], 1, 1)
    model = model_of(f"g (float[1,4,5,5] x) => (float[1,3,5,5] y) {{ {' '.join(lines)} y = Conv({names[-1]}, last) }}",
                     **weights)  # fmt: skip
    same(model, data.draw(st.sampled_from([0.25, 0.5, 0.75])), data.draw(st.integers(0, 5)))


def context_for(model: Model, count: int = 32) -> PassContext:
    samples = [feeds(model, seed) for seed in range(count)]
    return PassContext(data=open_dataset(samples, input_specs(model)))


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit", "lstm"])
@pytest.mark.parametrize("criterion", ["reconstruction", "energy", "taylor", "batch-norm", "l2", "l1", "random"])
def test_the_pass_keeps_what_it_is_told_to_keep(name: str, criterion: str) -> None:
    if criterion == "taylor":
        pytest.importorskip("torch", reason="the extra recover is not installed")
    model = SHAPES[name]()
    before, outputs = parameters(model), open_session(model).outputs
    item = PruneChannels(parameters=0.7, criterion=criterion, multiple=1)
    assert item.run(model, context_for(model)) > 0
    verify(model)
    infer_types(model)
    share = parameters(model) / before
    assert 0.5 < share <= (0.86 if name in ("vit", "lstm") else 0.75)
    session = open_session(model)
    assert session.outputs == outputs
    session.run(feeds(model))


def test_reconstruction_and_refit_lose_less_than_magnitude() -> None:
    errors = {}
    for criterion, refit in (("reconstruction", True), ("l2", True), ("l2", False), ("random", False)):
        model = SHAPES["resnet"]()
        source = open_session(model)
        context = context_for(model)
        PruneChannels(macs=0.6, criterion=criterion, refit=refit, multiple=1).run(model, context)
        session = open_session(model)
        fresh = [feeds(model, seed) for seed in range(100, 110)]
        errors[criterion, refit] = sum(
            float(np.square(source.run(x)["y"] - session.run(x)["y"]).sum()) for x in fresh
        )  # fmt: skip
    assert errors["reconstruction", True] < 0.7 * errors["l2", True] < errors["l2", False]
    assert errors["reconstruction", True] < 0.3 * errors["random", False]


def test_no_layer_is_emptied() -> None:
    model = SHAPES["resnet"]()
    context = context_for(model, 4)
    PruneChannels(ratio=0.01, most=0.99, multiple=1, refit=False).run(model, context)
    assert all(min(value.shape or (1,)) >= 1 for value in model.graph.constants)
    assert any("remain, not 0.01: no more can go" in text for text in context.warnings)
    open_session(model).run(feeds(model))


def test_without_data_magnitude_takes_the_place_and_the_user_is_told() -> None:
    model = SHAPES["mobilenet"]()
    context = PassContext()
    assert PruneChannels(ratio=0.5, multiple=1).run(model, context) > 0
    assert any("l2" in text and "--data" in text for text in context.warnings)


@pytest.mark.parametrize("options", [{"ratio": 0.0}, {"macs": 1.5}, {"criterion": "best"}, {"spread": "even"},
                                     {"most": 1.0}, {"multiple": -1}, {"caps": ("a",)}, {"caps": ("(=0.5",)},
                                         {"caps": ("a=1",)}, {"curve": (0.0,)}])  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PruneChannels(**options)


def test_time_that_remains_is_measured() -> None:
    text = "g (float[64,256] x) => (float[64,256] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"
    model = model_of(text, w=(256, 2048), v=(2048, 256))
    whole = clone_model(model)
    random = np.random.default_rng(0)
    rows = random.standard_normal((4, 64, 256)).astype(np.float32)
    context = PassContext(data=open_dataset({"x": rows}, input_specs(model)))
    assert PruneChannels(latency=0.5, criterion="l2").run(model, context) > 0
    infer_types(model)
    # Times of one machine differ by the moment: what was measured once is near to what is measured again.
    before, after = interleaved([open_session(whole), open_session(model)], {"x": rows[0]}, seconds=1)
    assert 0.15 < after.least / before.least < 0.75
    with pytest.raises(UsageError, match="latency is measured and needs a sample"):
        PruneChannels(latency=0.5).run(clone_model(whole), PassContext())
