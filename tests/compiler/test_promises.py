"""What compile() promises to whoever calls it: no worse model in silence, nobody's files lost, every limit kept."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

import qcompiler as qc
from qcompiler.compiler import catalog, input_specs
from qcompiler.compiler.fingerprint import fingerprint
from qcompiler.data import open_dataset
from qcompiler.errors import DataError, UsageError
from qcompiler.pipeline import Pass
from qcompiler.rewrite import Rule
from tests.lower.models import proto_of

CONVS = """g (float[n,3,16,16] x) => (float[n,4] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) d = Conv<pads=[1,1,1,1]>(r, v) p = GlobalAveragePool(d)
    f = Flatten(p) y = MatMul(f, u) }"""
SHAPES = {"w": (16, 3, 3, 3), "b": (16,), "v": (16, 16, 3, 3), "u": (16, 4)}


def images(count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Pass]], None]:
    """Makes a pass known by its name, as a plug-in would."""

    def plug(kind: type[Pass]) -> None:
        known = dict(catalog.passes()) | {kind.name: kind}
        monkeypatch.setattr(catalog, "passes", lambda: known)
        monkeypatch.setattr("qcompiler.compiler.compilation.passes", lambda: known)

    return plug


def recipe(folder: Path, *names: str, gates: str = "", data: bool = False) -> Path:
    path = folder / "mine.toml"
    listed = "".join(f'[[pass]]\nname = "{name}"\n' for name in names)
    path.write_text(f"needs_data = {str(data).lower()}\n[gates]\n{gates}\n{listed}")
    return path


def test_save_replaces_nothing_that_is_not_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = qc.compile(proto_of(CONVS, **SHAPES), data={"x": images()}, recipe="lossless")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    (tmp_path / "file.txt").write_text("words")
    monkeypatch.chdir(tmp_path / "precious")
    for target in (tmp_path / "precious", tmp_path / "file.txt", Path(".")):
        for force in (False, True):
            with pytest.raises(UsageError):
                result.save(target, force=force)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years"
    assert (tmp_path / "file.txt").read_text() == "words"
    result.save(tmp_path / "build")
    with pytest.raises(UsageError, match="exists"):
        result.save(tmp_path / "build")
    assert (result.save(tmp_path / "build", force=True) / "model.onnx").is_file()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["build", "file.txt", "precious"]


@qc.rule(lambda x: qc.op.Relu(x))
def clip_high(rw: Any, m: Any) -> Any:
    """Right as long as nothing is above five."""
    return rw.op.Clip(m.x, np.float32(0), np.float32(5))


@dataclass(frozen=True)
class ClipHigh(Pass):
    rules: ClassVar[tuple[Rule, ...]] = (clip_high,)
    lossless: ClassVar[bool] = True


def test_a_rewrite_that_is_wrong_on_other_samples_than_the_checked_ones(
    tmp_path: Path, plugged: Callable[[type[Pass]], None]
) -> None:
    plugged(ClipHigh)
    model = proto_of("g (float[n,4] x) => (float[n,4] y) { r = Relu(x) y = Neg(r) }")
    data = np.ones((16, 4), np.float32)
    data[[3, 5, 7]] = 50
    result = qc.compile(model, data={"x": data}, recipe=recipe(tmp_path, "clip-high"))
    assert "Clip" not in result.report["compiled"]["ops"]
    assert any("the source was kept" in text for text in result.report["warnings"])
    assert result.report["quality"]["outputs"]["y"]["max_abs"] == 0


def test_a_recipes_own_limit_on_the_metric_holds(tmp_path: Path) -> None:
    path = recipe(tmp_path, "quantize-static", gates="max_drop = -1.0\nmin_speedup = 0.0", data=True)
    with pytest.raises(UsageError, match="--metric"):
        qc.compile(proto_of(CONVS, **SHAPES), data={"x": images()}, recipe=path)
    result = qc.compile(proto_of(CONVS, **SHAPES), data={"x": images()}, recipe=path, metric=lambda outputs, _: 1.0)
    assert result.report["decision"]["kept"] == "float"
    assert "metric drops" in result.report["decision"]["reason"]


def test_a_lossy_recipe_without_limits_gets_the_usual_ones(tmp_path: Path) -> None:
    path = recipe(tmp_path, "quantize-static", data=True)
    result = qc.compile(proto_of(CONVS, **SHAPES), data={"x": images()}, recipe=path)
    assert {gate["name"]: gate["limit"] for gate in result.report["gates"]} == {"min_sqnr": 20.0, "min_speedup": 1.0}


@pytest.mark.parametrize("options", [{"min_sqnr": float("nan")}, {"min_speedup": float("inf")}, {"threads": 0}])
def test_senseless_limits(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        qc.compile(proto_of(CONVS, **SHAPES), **options)


def test_a_relu_in_a_branch_is_not_absorbed() -> None:
    text = """g (float[1,3,8,8] x, bool c) => (float[1,8,6,6] y) { k = Conv(x, w)
        y = If(c) <then_branch = t () => (float[1,8,6,6] p) { p = Relu(k) },
                   else_branch = e () => (float[1,8,6,6] q) { q = Identity(x2) }> x2 = Conv(x, w) }"""
    proto = proto_of(text, w=(8, 3, 3, 3))
    data = {"x": images(4)[:, None, :, :8, :8], "c": np.array([True, False, True, False])}
    result = qc.compile(proto, data=data, min_speedup=0, min_sqnr=15)
    assert result.report["decision"]["tried"][0]["sqnr_db"] > 20


def test_a_bias_down_the_rows_is_not_taken_for_one_along_the_channels() -> None:
    proto = proto_of("g (float[16,32] x) => (float[16,16] y) { y = Gemm(x, w, b) }", w=(32, 16), b=(16, 1))
    data = {"x": np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)}
    report = qc.compile(proto, data=data, min_speedup=0).report
    assert "bias is not one number per output channel" in report["layers"][0]["reason"]


def test_an_output_that_is_given_twice() -> None:
    text = """g (float[1,3,8,8] x) => (float[1,8,6,6] k, float[1,8,6,6] z) { k = Conv(x, w) z = Relu(k) }"""
    proto = proto_of(text, w=(8, 3, 3, 3))
    proto.graph.output.append(proto.graph.output[0])
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError:
        pytest.skip("this onnx refuses such a model before we see it")
    result = qc.compile(proto, data={"x": images(8)[:, None, :, :8, :8]}, min_speedup=0)
    assert [value.name for value in result.model.graph.outputs] == ["k", "z", "k"]


def test_masked_scores_and_labels_are_compared_as_what_they_are() -> None:
    text = """g (float[n,3,16,16] x) => (float[n,4] y, int64[n] i) <float[4] mask = {0, 0, -inf, 0}> {
        c = Conv(x, w, b) p = GlobalAveragePool(c) f = Flatten(p) s = MatMul(f, u) m = Add(s, mask)
        y = Identity(m) i = ArgMax<axis=1, keepdims=0>(s) }""".replace("-inf", "-1")
    proto = proto_of(text, w=(16, 3, 3, 3), b=(16,), u=(16, 4))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([0, 0, -np.inf, 0]), "mask"))
    report = qc.compile(proto, data={"x": images()}, recipe="lossless", min_sqnr=20).report
    assert all(gate["passed"] for gate in report["gates"])
    assert report["quality"]["agreement"] == 1.0


def test_a_model_that_does_not_take_the_data() -> None:
    proto = proto_of("g (float[n,m] x) => (float[a,7] y) <int64[2] s = {-1, 7}> { y = Reshape(x, s) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 7]), "s"))
    with pytest.raises(DataError, match="give --data"):
        qc.compile(proto)


def test_one_sample_and_random_samples_are_told() -> None:
    proto = proto_of(CONVS, **SHAPES)
    for data, text in (({"x": images(1)}, "one sample both"), ("random", "say nothing about real ones")):
        warnings = qc.compile(proto, data=data).report["warnings"]
        assert any(text in item for item in warnings)


def test_sequences_of_other_lengths_come_through() -> None:
    text = """g (float[8] x) => (seq(float[n]) y) <int64[2] s = {3, 5}> { a, b = Split<axis=0>(x, s) y = SequenceConstruct(a, b) }"""
    proto = proto_of(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 5]), "s"))
    found = qc.compile(proto).report["quality"]["outputs"]["y"]
    assert found["max_abs"] == 0


def test_rows_that_are_no_samples_are_calibrated_together() -> None:
    text = "g (float[T,8] x) => (float[m,16] y) <int64[2] s = {-1, 16}> { r = Reshape(x, s) y = MatMul(r, w) }"
    proto = proto_of(text, w=(16, 16))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 16]), "s"))
    data = [{"x": np.random.default_rng(i).standard_normal((4, 8)).astype(np.float32)} for i in range(8)]
    report = qc.compile(proto, data=data, min_speedup=0).report
    assert report["decision"]["tried"][0]["sqnr_db"] > 20


@pytest.mark.parametrize("labels", [np.eye(4)[np.arange(16) % 4], np.array(["a"] * 16)])
def test_labels_that_are_no_class_indices(labels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="label"):
        qc.compile(proto_of(CONVS, **SHAPES), data={"x": images(), "label": labels}, metric="top1")


def test_states_are_fed_back_and_the_recipe_says_so() -> None:
    text = """g (float[1,32] x, float[1,32] s) => (float[1,32] y, float[1,32] t) {
        a = MatMul(x, w) b = MatMul(s, v) c = Add(a, b) t = Tanh(c) y = MatMul(t, u) }"""
    model = proto_of(text, w=(32, 32), v=(32, 32), u=(32, 32))
    rows = np.random.default_rng(0).standard_normal((24, 1, 32)).astype(np.float32)
    result = qc.compile(model, data={"x": rows}, recipe="int8", feedback={"s": "t"}, min_speedup=0)
    state = next(item for item in result.report["ranges"] if item["value"] == "s")
    assert 0.5 < state["max"] <= 1.0  # what Tanh gives, not the zeros of the first sample
    assert sum(state["histogram"]) == 12 * 32
    assert tomllib.loads(result.recipe)["feedback"] == ["s=t"]
    with pytest.raises(UsageError, match="no output 'z' to feed back"):
        qc.compile(model, data={"x": rows}, feedback={"s": "z"})


def test_a_metric_that_cannot_judge_the_source_is_told_before_the_work(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(UsageError, match="returned nan"):
        qc.compile(
            proto_of(CONVS, **SHAPES), data={"x": images()}, metric=lambda outputs, labels: np.nan,
            progress=told.append,
        )  # fmt: skip
    assert told[-1] == "scoring the model"


def test_a_metric_that_cannot_judge_the_result_leaves_it_float() -> None:
    known: list[Any] = []

    def metric(outputs: Any, labels: Any) -> float:
        first = outputs[0]["y"]
        known.append(first)
        if np.abs(first - known[0]).max() > 1e-3 * np.abs(first).max():
            raise ZeroDivisionError("no good")
        return 1.0

    result = qc.compile(proto_of(CONVS, **SHAPES), data={"x": images()}, metric=metric, min_speedup=0, min_sqnr=5)
    assert result.report["decision"]["kept"] == "float"
    assert "raised ZeroDivisionError: no good" in result.report["decision"]["reason"]


UGLY = """g (float[1,8,6,6] x) => (float[1,4,6,6] y) {
    z = Mul(x, zero) a = Conv<pads=[1,1,1,1]>(z, w, b) r = Relu(a) c = Conv(r, v) y = Add(c, k) }"""


@pytest.mark.parametrize("fault", ["zero", "constant", "dead channel"])
def test_activations_and_channels_of_nothing_are_quantized_all_the_same(fault: str) -> None:
    model = proto_of(UGLY, zero=(1,), w=(8, 8, 3, 3), b=(8,), v=(4, 8, 1, 1), k=(4, 1, 1))
    arrays = {item.name: onnx.numpy_helper.to_array(item).copy() for item in model.graph.initializer}
    arrays["zero"][:] = 0 if fault == "zero" else 1
    arrays["b"][:] = np.abs(arrays["b"]) + 0.1
    if fault == "dead channel":
        arrays["w"][3], arrays["b"][3], arrays["v"][:, 5] = 0, 0, 0
    for item in model.graph.initializer:
        item.CopyFrom(onnx.numpy_helper.from_array(arrays[item.name], item.name))
    rows = np.random.default_rng(0).standard_normal((16, 1, 8, 6, 6)).astype(np.float32)
    if fault == "constant":
        rows[:] = 0.25
    result = qc.compile(model, data={"x": rows}, recipe="int8", min_speedup=0)
    assert result.report["decision"]["kept"] == "int8"
    assert min(item["sqnr_db"] or 999 for item in result.report["quality"]["outputs"].values()) > 20


def test_infinity_in_one_group_leaves_that_group_float() -> None:
    text = """g (float[1,32] x, float[1,32] q) => (float[1,32] y, float[1,32] z) {
        y = MatMul(x, w) l = Log(q) z = MatMul(l, v) }"""
    model = proto_of(text, w=(32, 32), v=(32, 32))
    random = np.random.default_rng(0)
    data = {name: random.uniform(0.1, 1, (16, 1, 32)).astype(np.float32) for name in "xq"}
    data["q"][4, 0, 0] = 0  # its logarithm is minus infinity
    result = qc.compile(model, data=data, recipe="int8", min_speedup=0, min_sqnr=-100)
    layers = {item["node"]: item for item in result.report["layers"]}
    assert sorted(item["choice"] for item in layers.values()) == ["float", "int8"]
    assert any("stays float: its activations hold NaN or infinity" in text for text in result.report["warnings"])


def test_a_compile_that_is_killed_goes_on_and_leaves_nothing_when_it_is_done(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(text: str) -> None:
        told.append(text)
        if text.startswith("scoring on samples"):
            raise Killed

    told: list[str] = []
    source, folder = proto_of(CONVS, **SHAPES), tmp_path / "build.unfinished"
    options: dict[str, Any] = {"data": {"x": images()}, "min_speedup": 0, "min_sqnr": 5, "unfinished": folder}
    with pytest.raises(Killed):
        qc.compile(source, progress=kill, **options)
    assert json.loads((folder / "best" / "about.json").read_text())["groups"] > 0
    told.clear()
    with pytest.raises(Killed):
        qc.compile(source, progress=lambda text: kill("scoring on samples") if "measuring" in text else None,
                   **(options | {"unfinished": tmp_path / "other"}))  # fmt: skip
    assert json.loads((tmp_path / "other" / "best" / "about.json").read_text())["groups"] == 0
    told.clear()
    result = qc.compile(source, progress=told.append, **options)
    assert f"going on from {folder}" in told
    assert result.report["decision"]["kept"] == "int8"
    assert not folder.exists()


def test_another_weight_in_a_branch_is_another_compile(tmp_path: Path) -> None:
    text = """g (float[2,16] x, bool c) => (float[2,16] y) {
        y = If(c) <then_branch = t () => (float[2,16] u) { u = MatMul(x, w) },
                   else_branch = e () => (float[2,16] z) { z = Neg(x) }> }"""
    found = []
    for factor in (1, 2):
        proto = proto_of(text, w=(16, 16))
        held = proto.graph.initializer.pop()
        array = onnx.numpy_helper.to_array(held) * np.float32(factor)
        branch = proto.graph.node[0].attribute[0].g
        branch.initializer.append(onnx.numpy_helper.from_array(array, "w"))
        model = qc.load(proto)
        data = open_dataset([{"x": np.ones((2, 16), np.float32), "c": np.array(True)}], input_specs(model))
        found.append(fingerprint(model, (data,), (), every=False))
    assert found[0] != found[1]


def test_states_do_not_go_through_batches() -> None:
    text = "g (float[n,32] x, float[n,32] s) => (float[n,32] y, float[n,32] t) { t = Add(x, s) y = MatMul(t, w) }"
    rows = np.ones((8, 32), np.float32)
    with pytest.raises(UsageError, match="not through batches"):
        qc.compile(proto_of(text, w=(32, 32)), data={"x": rows}, feedback={"s": "t"}, batch_size=4)


def test_a_pruned_model_that_misses_the_limit_is_rolled_back_and_the_rest_goes_on() -> None:
    options: dict[str, Any] = {"data": {"x": images(24)}, "min_speedup": 0, "settings": ["prune-channels.multiple=1"]}
    whole = qc.compile(proto_of(CONVS, **SHAPES), recipe="prune-int8", min_sqnr=80, **options)
    record = next(item for item in whole.report["passes"] if item["name"] == "prune-channels")
    assert record["status"] == "rolled-back"
    assert "below 80" in record["reason"]
    assert whole.report["compiled"]["macs"] == whole.report["source"]["macs"]
    less = qc.compile(proto_of(CONVS, **SHAPES), recipe="prune-int8", min_sqnr=1, **options)
    record = next(item for item in less.report["passes"] if item["name"] == "prune-channels")
    assert record["status"] == "applied"
    assert record["sqnr_db"] > 1
    assert less.report["compiled"]["macs"] < whole.report["compiled"]["macs"]
    assert less.report["decision"]["kept"] == "int8"


def test_pruning_stands_in_front_of_quantizing(tmp_path: Path) -> None:
    path = recipe(tmp_path, "quantize-static", "prune-channels", data=True)
    with pytest.raises(UsageError, match="'prune-channels' stands behind 'quantize-static'"):
        qc.compile(proto_of(CONVS, **SHAPES), recipe=path, data={"x": images()})


def test_a_model_that_carries_a_state_is_judged_with_its_own() -> None:
    """Held to the source's states, a slow leak looks harmless; through a whole sequence its errors add up."""
    text = "g (float[1,64] x, float[1,64] s) => (float[1,64] t) { d = MatMul(x, w) u = MatMul(s, v) t = Add(d, u) }"
    random = np.random.default_rng(0)
    proto = proto_of(text, w=(64, 64), v=(64, 64))
    weights = {"w": np.eye(64), "v": 0.995 * np.linalg.qr(random.standard_normal((64, 64)))[0]}
    for item in proto.graph.initializer:
        item.CopyFrom(onnx.numpy_helper.from_array(weights[item.name].astype(np.float32), item.name))
    x = random.standard_normal((200, 1, 64)).astype(np.float32)
    options: dict[str, Any] = {"recipe": "int8-weights", "min_speedup": 0, "min_sqnr": 0}
    result = qc.compile(proto, data={"x": x}, feedback={"s": "t"}, **options)
    assert result.report["decision"]["kept"] != "float"
    source, state, own = (
        qc.compile(proto, recipe="lossless"),
        np.zeros((1, 64), np.float32),
        np.zeros((1, 64), np.float32),
    )
    signal = noise = 0.0
    for row in x:
        state, own = (each.run({"x": row, "s": held})["t"] for each, held in ((source, state), (result, own)))
        signal, noise = signal + float(np.square(state).sum()), noise + float(np.square(state - own).sum())
    told = result.report["quality"]
    assert told["samples"] == 200
    assert told["outputs"]["t"]["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise), abs=0.5)
