"""Clustered models: they run in a stock onnxruntime, to the bit what their levels say, and keep what has to stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.calibrate import with_outputs
from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.dtypes import DType
from qcompiler.errors import UsageError
from qcompiler.ir import Model, Value, clone_model, tensor, verify
from qcompiler.onnx_io import infer_types, load, open_session, to_proto
from qcompiler.passes.cluster import ClusterWeights
from qcompiler.passes.cluster.coding import Coding, entropy_of
from qcompiler.passes.cluster.layers import layers_of, weigh
from qcompiler.passes.matrix import as_rows, channel_shape, from_rows
from qcompiler.pipeline import PassContext
from qcompiler.pipeline.record import run_one
from tests.lower.models import model_of
from tests.passes.prune.shapes import SHAPES, with_constants
from tests.passes.prune.test_exactness import context_for, feeds


def evaluated(model: Model) -> dict[str, Any]:
    """What the values that Cast, Gather, Mul and so on make of constants are: name of the first reader to array."""
    outputs = {}
    for node in model.graph:
        for place, value in enumerate(node.inputs):
            made = value is not None and value.producer is not None and _is_weight(value)
            if made and not _is_weight(node.output):  # the last of those that make one weight
                outputs[node.output.name, place] = value
    exposed, names = with_outputs(model, list(dict.fromkeys(outputs.values())))
    session = open_session(exposed, optimize=False)
    found = session.run(feeds(model))
    return {f"{name}[{place}]": found[names[value]] for (name, place), value in outputs.items()}


def _is_weight(value: Value) -> bool:
    waiting, fed = [value], False
    while waiting:
        node = waiting.pop().producer
        if node is None:
            continue
        for read in node.inputs:
            if read is not None and read.producer is None and read.const is None:
                fed = True
            if read is not None:
                waiting.append(read)
    return not fed


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        {"bits": 4}, {"bits": 2, "scaled": False}, {"bits": 6, "compensate": False, "sensitivity": False},
        {"bits": 3, "group": 4}, {"bits": 3, "block": 32}, {"bits": 4, "integer": True},
        {"bits": 3.5, "codebook": "even"}, {"bits": 1}, {"bits": 8}, {"bits": 2, "codebook": "even", "raise_opset": False},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)  # fmt: skip
def test_outputs_are_those_of_the_float_model_with_these_weights(name: str, options: dict[str, Any]) -> None:
    """The clustered model, and the source with the weights that its nodes compute."""
    model = SHAPES[name]()
    source = clone_model(model)
    outputs = open_session(model).outputs
    context = context_for(model, 8)
    count = ClusterWeights(least=32, **options).run(model, context)
    assert count == len(context.details["layers"]) > 0
    verify(model)
    infer_types(model)
    for layer in context.details["layers"]:
        assert layer["levels"] <= 1 << 8
        if "codebook" not in options:
            assert layer["levels"] <= 1 << int(options["bits"])
            assert layer["entropy"] <= options["bits"] + 1e-9
    session = open_session(model, optimize=False)
    assert session.outputs == outputs
    swapped = with_weights_of(source, model)
    x = feeds(source, 5)
    ours, theirs = (open_session(item).run(x) for item in (model, swapped))  # the same once weights are folded
    for key, array in theirs.items():
        np.testing.assert_array_equal(ours[key], array)
    unfolded = session.run(x)
    for key, array in theirs.items():
        limit = 1e-5 * max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(unfolded[key], array, rtol=1e-4, atol=limit)


def with_weights_of(source: Model, clustered: Model) -> Model:
    """``source`` with the constants that ``clustered`` computes in their place."""
    return with_arrays(source, evaluated(clustered))


def with_arrays(source: Model, arrays: dict[str, Any]) -> Model:
    """``source`` with other constants, by reader as :func:`evaluated` names them."""
    made = clone_model(source)
    by_output = {node.output.name: node for node in made.graph}
    for place, array in arrays.items():
        name, _, number = place.rstrip("]").partition("[")
        node = by_output.get(name)
        if node is None:
            continue
        old = node.inputs[int(number)]
        assert old is not None
        assert old.shape == array.shape
        node.set_input(int(number), made.graph.add_constant(tensor(array), old.name))
    return made


def test_it_loads_in_a_stock_onnxruntime_with_its_indices_packed() -> None:
    model = SHAPES["resnet"]()
    ClusterWeights(bits=4, least=64).run(model, context_for(model, 4))
    proto = to_proto(model)
    kinds = {item.name: item.data_type for item in proto.graph.initializer}
    assert 21 in kinds.values()  # UINT4
    import onnxruntime

    onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def test_without_raising_the_operator_set_indices_take_a_byte() -> None:
    model = SHAPES["resnet"]()
    before = model.opset
    ClusterWeights(bits=4, least=64, raise_opset=False).run(model, context_for(model, 4))
    assert model.opset == before
    assert {item.data_type for item in to_proto(model).graph.initializer if "indices" in item.name} == {2}


@pytest.mark.parametrize("codebook", ["k-means", "even"])
def test_zeros_stay_zeros(codebook: str) -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal((16, 24)).astype(np.float32)
    w[random.random(w.shape) < 0.6] = 0
    model = model_of("g (float[n,16] x) => (float[n,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }",
                     w=w.shape, v=(24, 4))  # fmt: skip
    model = with_constants(model, w=w)
    ClusterWeights(bits=3, codebook=codebook, least=100).run(model, context_for(model))
    (made,) = evaluated(model).values()
    assert (made[w == 0] == 0).all()
    assert np.unique(made).size > 2


def test_shared_weights_stay_shared_and_others_whole() -> None:
    text = """g (float[4,16] x) => (float[4,16] y, float[4,16] z, float[16,16] s) {
        a = MatMul(x, w) y = Relu(a) b = MatMul(x, w) z = Tanh(b) s = Add(v, v) c = MatMul(x, v) }"""
    model = model_of(text, w=(16, 16), v=(16, 16))
    context = context_for(model)
    assert ClusterWeights(bits=4, least=100).run(model, context) == 1
    assert context.details["kept"] == {"v": "something reads it that is no layer"}
    products = [node for node in model.graph if node.is_op("MatMul")]
    assert products[0].inputs[1] is products[1].inputs[1]


def test_weights_that_are_not_numbers_stay_and_are_told() -> None:
    model = model_of(
        "g (float[n,16] x) => (float[n,16] y) { a = MatMul(x, w) y = MatMul(a, v) }", w=(16, 16), v=(16, 16)
    )
    w = np.ones((16, 16), np.float32)
    w[3, 3] = np.nan
    model = with_constants(model, w=w)
    context = PassContext()
    assert ClusterWeights(bits=4, least=100).run(model, context) == 1
    assert any("w stays as it is: it holds NaN" in text for text in context.warnings)


def test_all_weights_the_same_and_few_distinct_ones() -> None:
    model = model_of(
        "g (float[n,16] x) => (float[n,16] y) { a = MatMul(x, w) y = MatMul(a, v) }", w=(16, 16), v=(16, 16)
    )
    v = np.where(np.arange(256).reshape(16, 16) % 3 == 0, -0.5, 2.0).astype(np.float32)
    model = with_constants(model, w=np.zeros((16, 16), np.float32), v=v)
    ClusterWeights(bits=4, least=100, scaled=False).run(model, PassContext())
    made = list(evaluated(model).values())
    np.testing.assert_array_equal(made[0], np.zeros((16, 16)))
    np.testing.assert_array_equal(made[1], v)


def test_half_precision_weights() -> None:
    text = "g (float16[n,16] x) => (float16[n,16] y) { y = MatMul(x, w) }"
    model = model_of(text, w=(16, 16))
    (value,) = [value for value in model.graph.constants if value.name == "w"]
    assert value.constant is not None
    half = value.constant.numpy().astype(np.float16)
    model = with_constants(model, w=half)
    infer_types(model)
    assert ClusterWeights(bits=6, least=100).run(model, PassContext()) == 1
    verify(model)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float16)
    assert np.isfinite(open_session(model).run({"x": x})["y"]).all()


def test_recurrent_weights_and_tables() -> None:
    text = """g (int64[n,6] ids) => (float[n,3] y) {
        e = Gather<axis=0>(table, ids) t = Transpose<perm=[1,0,2]>(e)
        o, h = LSTM<hidden_size=8>(t, w, r) s = Squeeze(h, zero) y = MatMul(s, v) }"""
    model = model_of(text, table=(50, 12), w=(1, 32, 12), r=(1, 32, 8), v=(8, 3), zero=(1,))
    model = with_constants(model, zero=np.array([0], np.int64))
    infer_types(model)
    source = open_session(model)
    context = PassContext()
    assert ClusterWeights(bits=6, least=100).run(model, context) == 3
    assert [layer["weights"] for layer in context.details["layers"]] == [600, 384, 256]
    ids = {"ids": np.random.default_rng(0).integers(0, 50, (4, 6))}
    whole, ours = source.run(ids)["y"], open_session(model).run(ids)["y"]
    assert np.square(whole - ours).sum() < 0.01 * np.square(whole).sum()


def test_compensation_and_sensitivity_lower_the_error() -> None:
    model = model_of("g (float[8,64] x) => (float[8,16] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }",
                     w=(64, 48), v=(48, 16))  # fmt: skip
    random = np.random.default_rng(3)
    mixing = random.standard_normal((64, 64)) * np.geomspace(1, 0.01, 64)  # inputs that hang together
    rows = (random.standard_normal((40, 8, 64)) @ mixing).astype(np.float32)
    data = open_dataset({"x": rows[:20]}, input_specs(model))
    source = open_session(model)
    errors = {}
    for label, options in {
        "plain": {"compensate": False, "sensitivity": False}, "weighed": {"compensate": False}, "all": {}
    }.items():  # fmt: skip
        copy = clone_model(model)
        ClusterWeights(bits=3, least=100, scaled=False, **options).run(copy, PassContext(data=data))
        session = open_session(copy)
        errors[label] = sum(
            float(np.square(source.run({"x": x})["y"] - session.run({"x": x})["y"]).sum()) for x in rows[20:]
        )  # fmt: skip
    assert errors["all"] < 0.7 * errors["weighed"] < 0.8 * errors["plain"]


@pytest.mark.parametrize("codebook", ["k-means", "even"])
def test_the_wanted_decibels_are_reached_with_few_bits(codebook: str) -> None:
    sizes = []
    for wanted in (15.0, 30.0):
        model = SHAPES["resnet"]()
        source = open_session(model)
        context = context_for(model, 16)
        ClusterWeights(sqnr=wanted, codebook=codebook, least=64).run(model, context)
        assert context.data is not None
        session = open_session(model)
        off = power = 0.0
        for sample in context.data:
            expected = source.run(sample)["y"]
            off += float(np.square(session.run(sample)["y"] - expected).sum())
            power += float(np.square(expected).sum())
        assert wanted - 0.05 <= 10 * np.log10(power / off) <= wanted + 11  # small tensors: one bit more is worth a lot
        sizes.append(context.details["bytes"]["coded"])
    assert sizes[0] < 0.8 * sizes[1]


def test_the_recipe_s_limit_is_aimed_at() -> None:
    model = SHAPES["resnet"]()
    context = context_for(model, 16)
    context.min_sqnr = 25.0
    ClusterWeights(codebook="even", least=64).run(model, context)
    assert not any("were not reached" in text for text in context.warnings)


@pytest.mark.parametrize("size", [0.1, 0.2])
def test_the_wanted_size_is_reached(size: float) -> None:
    model = SHAPES["vit"]()
    context = context_for(model, 4)
    ClusterWeights(size=size, codebook="even", least=64).run(model, context)
    told = context.details["bytes"]
    assert told["coded"] <= 1.06 * size * told["float"]
    assert told["coded"] >= 0.75 * size * told["float"]


def test_even_levels_take_less_entropy_than_k_means_for_the_same_error() -> None:
    model = model_of("g (float[n,64] x) => (float[n,64] y) { y = MatMul(x, w) }", w=(64, 64))
    (layer,), _ = layers_of(model, 100, None)
    weigh(model, [layer], None)
    means = Coding("k-means", scaled=False).with_bits(layer, 5)
    error = float(np.square(means.rows() - layer.rows).mean())
    even = Coding("even", scaled=False).with_error(layer, error)
    assert float(np.square(even.rows() - layer.rows).mean()) <= 1.1 * error
    assert entropy_of(even.indices) < entropy_of(means.indices) - 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 9}, {"sqnr": float("inf")}, {"sqnr": float("nan")}, {"sqnr": -5.0}, {"budget": 0.0}, {"bits": 0.5}, {"bits": 2.5}, {"codebook": "curved"}, {"start": "anywhere"}, {"size": 1.5},
        {"group": 2, "block": 2}, {"group": -1}, {"block": 8, "codebook": "even"}, {"least": 0},
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ClusterWeights(**options)


def test_excluded_weights_stay() -> None:
    model = SHAPES["vit"]()
    context = PassContext()
    ClusterWeights(bits=4, least=64, exclude="^w[12]$|Conv").run(model, context)
    assert {name for name, why in context.details["kept"].items() if why == "excluded"} == {"w0", "w1", "w2"}
    with pytest.raises(UsageError):
        ClusterWeights(bits=4, exclude="(").run(SHAPES["vit"](), PassContext())


def test_rows_and_back() -> None:
    for name in ("resnet", "mobilenet", "vit", "lstm"):
        model = SHAPES[name]()
        for layer in layers_of(model, 1, None)[0]:
            rows = as_rows(layer.node, layer.array)
            np.testing.assert_array_equal(from_rows(layer.node, rows, layer.array).astype(np.float32), layer.array)
            factors = np.random.default_rng(0).random((*rows.shape[:2], 1))
            scaled = from_rows(layer.node, rows * factors, layer.array)
            beside = factors.reshape(channel_shape(layer.node, layer.array))
            np.testing.assert_allclose(scaled, layer.array * beside, rtol=1e-12)


def test_what_was_clustered_survives_saving(tmp_path: Any) -> None:
    model = SHAPES["resnet"]()
    ClusterWeights(bits=4, least=64).run(model, context_for(model, 4))
    from qcompiler.onnx_io import save

    save(model, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    x = feeds(model)
    np.testing.assert_array_equal(open_session(again).run(x)["y"], open_session(model).run(x)["y"])


def test_one_zero_costs_next_to_nothing() -> None:
    values = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    text = "g (float[n,40] x) => (float[n,50] y) { y = MatMul(x, w) }"
    for bits in (2, 3, 4):
        errors = []
        for first in (values[0, 0], 0.0):
            w = values.copy()
            w[0, 0] = first
            model = with_constants(model_of(text, w=w.shape), w=w)
            ClusterWeights(bits=bits, scaled=False, least=100).run(model, PassContext())
            (made,) = evaluated(model).values()
            errors.append(float(np.square(made - w).sum()))
            assert (made[w == 0] == 0).all()
        assert errors[1] <= 1.3 * errors[0]  # a level at zero is one that is not free


def test_channels_of_next_to_nothing() -> None:
    w = np.random.default_rng(0).standard_normal((16, 24)).astype(np.float32)
    w[:, 3] = 1e-45
    for codebook in ("k-means", "even"):
        model = model_of("g (float[n,16] x) => (float[n,24] y) { y = MatMul(x, w) }", w=w.shape)
        model = with_constants(model, w=w)
        ClusterWeights(bits=4, codebook=codebook, least=100).run(model, context_for(model))
        (made,) = evaluated(model).values()
        assert np.abs(made - w).max() < 0.5


def test_models_that_give_answers_are_judged_by_them() -> None:
    text = "g (float[n,16] x) => (int64[n] y) { a = MatMul(x, w) y = ArgMax<axis=1, keepdims=0>(a) }"
    model = model_of(text, w=(16, 24))
    infer_types(model)
    source = open_session(model)
    context = context_for(model, 32)
    ClusterWeights(sqnr=12.0, least=100).run(model, context)
    session = open_session(model)
    assert context.data is not None
    right = [float((session.run(x)["y"] == source.run(x)["y"]).mean()) for x in context.data]
    assert np.mean(right) > 0.9


def test_an_excluded_node_keeps_what_it_shares() -> None:
    text = """g (float[4,16] x) => (float[4,16] y, float[4,16] z) {
        [first] y = MatMul(x, w) [second] z = MatMul(x, w) }"""
    for name in ("first", "second"):
        model = model_of(text, w=(16, 16))
        context = PassContext()
        assert ClusterWeights(bits=4, least=100, exclude=f"^{name}$").run(model, context) == 0


def test_the_report_says_what_is_stored() -> None:
    for scaled in (True, False):
        model = SHAPES["vit"]()
        context = PassContext()
        ClusterWeights(bits=4, least=64, scaled=scaled).run(model, context)
        held = sum(
            value.const.nbytes for value in model.graph.constants
            if value.const is not None and value.name.rpartition("_")[2] in ("indices", "codebook", "scale")
        )  # fmt: skip
        assert context.details["bytes"]["clustered"] == held


def test_codebooks_that_do_not_divide_evenly_are_told() -> None:
    model = SHAPES["vit"]()
    context = PassContext()
    ClusterWeights(bits=3, group=7, least=64).run(model, context)
    assert any("do not divide evenly" in text for text in context.warnings)


def test_a_size_out_of_reach_is_told() -> None:
    model = SHAPES["vit"]()
    context = PassContext()
    ClusterWeights(size=0.001, codebook="even", least=64).run(model, context)
    assert any("not 0.001" in text for text in context.warnings)


def test_shared_values_keep_their_assignments() -> None:
    """Centroids that were trained: other values, the same indices."""
    model = SHAPES["resnet"]()
    context = context_for(model, 8)
    ClusterWeights(bits=3, least=64, scaled=False).run(model, context)
    source = SHAPES["resnet"]()
    trained = {}
    for place, array in evaluated(model).items():
        levels, indices = np.unique(array, return_inverse=True)
        moved = np.sort(levels + np.random.default_rng(0).standard_normal(levels.size) * 1e-3).astype(np.float32)
        trained[place] = moved[indices].reshape(array.shape)
    again = with_arrays(source, trained)
    context = context_for(again, 8)
    ClusterWeights(bits=3, least=64).run(again, context)
    assert all(layer["sqnr_db"] is None for layer in context.details["layers"])
    for place, array in evaluated(again).items():
        np.testing.assert_array_equal(array, trained[place])


def test_the_budget_that_was_found_makes_the_same_again() -> None:
    first, second = SHAPES["resnet"](), SHAPES["resnet"]()
    record = run_one(ClusterWeights(sqnr=20.0, codebook="even", least=64), first, context_for(first, 16))
    assert 0 < record.resolved["budget"] < 1
    item = ClusterWeights(codebook="even", least=64, **record.resolved)
    assert not item.aims
    run_one(item, second, context_for(second, 16))
    assert to_proto(first).SerializeToString() == to_proto(second).SerializeToString()


def test_layers_that_read_nothing_but_zeros() -> None:
    model = model_of("g (float[n,16] x) => (float[n,24] y) { y = MatMul(x, w) }", w=(16, 24))
    data = open_dataset({"x": np.zeros((8, 16), np.float32)}, input_specs(model))
    for codebook in ("k-means", "even"):
        copy = clone_model(model)
        ClusterWeights(sqnr=20.0, codebook=codebook, least=64).run(copy, PassContext(data=data))
        (made,) = evaluated(copy).values()
        assert np.isfinite(made).all()
        assert np.abs(made).max() > 0.2


def test_codebooks_of_int8() -> None:
    model = SHAPES["vit"]()
    ClusterWeights(bits=4, integer=True, group=8, least=64).run(model, PassContext())
    books = [value for value in model.graph.constants if value.name.endswith("_codebook")]
    assert len(books) > 3
    assert all(value.dtype is DType.INT8 for value in books)
    open_session(model).run(feeds(model))


def test_bfloat16_weights() -> None:
    import ml_dtypes

    model = model_of("g (bfloat16[n,16] x) => (bfloat16[n,16] y) { y = MatMul(x, w) }", w=(16, 16))
    (value,) = [value for value in model.graph.constants if value.name == "w"]
    assert value.constant is not None
    model = with_constants(model, w=value.constant.numpy().astype(ml_dtypes.bfloat16))
    infer_types(model)
    for options in ({"bits": 4}, {"bits": 3.0, "codebook": "even"}):
        copy = clone_model(model)
        assert ClusterWeights(least=100, **options).run(copy, PassContext()) == 1  # type: ignore[arg-type]
        verify(copy)
        assert copy.graph.outputs[0].dtype is DType.BFLOAT16
