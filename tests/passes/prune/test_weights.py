"""Single weights that become zero: how many, which, and what those that stay make good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.errors import UsageError
from qcompiler.ir import Model, verify
from qcompiler.lower import STATIC, Form, OrtCpu
from qcompiler.onnx_io import open_session
from qcompiler.passes.prune import PruneWeights
from qcompiler.passes.prune.weights import sparse
from qcompiler.passes.quantize import CompensateRounding, LearnRounding, QuantizeStatic
from qcompiler.pipeline import PassContext
from tests.lower.models import model_of

TEXT = "g (float[n,64] x) => (float[n,32] y) { a = MatMul(x, w) r = Relu(a) y = Gemm<transB = 1>(r, v, b) }"


def model() -> Model:
    return model_of(TEXT, w=(64, 48), v=(32, 48), b=(32,))


def rows(count: int = 200, seed: int = 0) -> np.ndarray:
    """Inputs that hang together, as real ones do."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((12, 64))
    return (random.standard_normal((count, 12)) @ mixing + 0.1 * random.standard_normal((count, 64))).astype(np.float32)


def context(made: Model) -> PassContext:
    return PassContext(data=open_dataset({"x": rows()}, input_specs(made)), target=OrtCpu())


def weights(made: Model) -> list[np.ndarray]:
    return [value.const.numpy() for value in made.graph.constants if value.const is not None and value.rank == 2]


def test_a_case_worked_by_hand() -> None:
    """Two inputs that are always equal: the one that stays takes over the weight of the one that goes."""
    second = np.array([[1.0, 1.0], [1.0, 1.0]])
    made = sparse(np.array([[1.0, 3.0]]), second, 0.5, None)
    np.testing.assert_allclose(made, [[0.0, 4.0]], atol=0.05)
    assert sparse(np.array([[1.0, -3.0]]), None, 0.5, None).tolist() == [[0.0, -3.0]]


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_as_many_go_as_were_asked_for(refit: bool, sparsity: float) -> None:
    made = model()
    assert PruneWeights(sparsity=sparsity, refit=refit).run(made, context(made)) == 2
    verify(made)
    for array in weights(made):
        assert (array == 0).mean() == pytest.approx(sparsity, abs=0.01)


@pytest.mark.parametrize("refit", [False, True])
def test_two_of_each_four_along_the_inner_axis(refit: bool) -> None:
    made = model()
    PruneWeights(pattern="2:4", refit=refit).run(made, context(made))
    first, second = weights(made)
    for inner in (first.T, second):
        assert ((inner.reshape(inner.shape[0], -1, 4) == 0).sum(axis=2) == 2).all()


def error(options: dict[str, Any]) -> float:
    made = model()
    PruneWeights(**options).run(made, context(made))
    feeds = {"x": rows(100, seed=5)}
    before, after = (open_session(item).run(feeds)["y"] for item in (model(), made))
    return float(np.square(before - after).sum() / np.square(before).sum())


@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"pattern": "2:4"}, {"sparsity": 0.8}])
def test_what_stays_makes_good_what_goes(options: dict[str, Any]) -> None:
    assert error(options) < 0.7 * error(options | {"refit": False})


def test_zeros_survive_quantization() -> None:
    made = model()
    shared = context(made)
    for item in (PruneWeights(sparsity=0.6), QuantizeStatic(), CompensateRounding(), LearnRounding(sweeps=2)):
        item.run(made, shared)
    forms: dict[Any, list[Form]] = shared.facts["forms"]
    assert len(forms) == 2
    for group, (form,) in forms.items():
        assert form.kind == STATIC and form.stored is not None
        zero = form.stored.zero_point.reshape((1, -1) if group.weight_axis == 1 else (-1, 1))
        held = group.weight.constant.numpy()
        assert ((form.stored.levels == zero) | (held != 0)).all()


def test_what_is_shared_small_or_excluded_stays() -> None:
    text = "g (float[n,64] x) => (float[n,32] y, float[n,32] z) { y = MatMul(x, w) z = MatMul(x, w) }"
    made = model_of(text, w=(64, 32))
    assert PruneWeights(refit=False).run(made, PassContext()) == 0
    made = model()
    assert PruneWeights(refit=False, exclude="MatMul").run(made, PassContext()) == 1
    assert PruneWeights(refit=False, least=10**6).run(made, PassContext()) == 0
    with pytest.raises(UsageError, match="no regular expression"):
        PruneWeights(exclude="(").run(made, PassContext())


@pytest.mark.parametrize("options", [{"sparsity": 0.0}, {"sparsity": 1.0}, {"pattern": "4:2"}, {"pattern": "half"}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PruneWeights(**options)
