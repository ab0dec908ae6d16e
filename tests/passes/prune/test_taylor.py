"""The criterion taylor: what zeroing a unit does to the outputs, to first order."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.errors import UsageError
from qcompiler.onnx_io import open_session
from qcompiler.passes.prune import PruneChannels
from qcompiler.passes.prune.groups import channel_groups
from qcompiler.passes.prune.taylor import taylor_scores
from qcompiler.pipeline import PassContext
from tests.lower.models import model_of

TEXT = """g (float[n,6] x) => (float[n,5] y) <float[6,8] w, float[8,5] v> { h = MatMul(x, w) y = MatMul(h, v) }"""


def test_of_a_linear_model_the_scores_are_the_squared_changes() -> None:
    pytest.importorskip("torch", reason="the extra recover is not installed")
    model = model_of(TEXT, w=(6, 8), v=(8, 5))
    rows = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
    data = open_dataset({"x": rows}, input_specs(model))
    (group,) = channel_groups(model).groups
    scores = taylor_scores(model, [group], PassContext(data=data))[group]
    w, v = (value.constant.numpy().astype(np.float64) for value in model.graph.constants)
    outputs = open_session(model).run({"x": rows})["y"]
    changes = [np.square(np.outer(rows @ w[:, unit], v[unit])).sum(1) / np.square(outputs).sum(1) for unit in range(8)]
    expected = np.mean(changes, axis=1)
    assert np.corrcoef(np.log(scores), np.log(expected))[0, 1] > 0.9  # signs are drawn, so that it holds on average
    assert scores.sum() == pytest.approx(expected.sum(), rel=0.5)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = model_of(TEXT, w=(6, 8), v=(8, 5))
    data = open_dataset({"x": np.ones((4, 6), np.float32)}, input_specs(model))
    with pytest.raises(UsageError, match=r"qcompiler\[recover\]"):
        PruneChannels(ratio=0.5, criterion="taylor", multiple=1).run(model, PassContext(data=data))
