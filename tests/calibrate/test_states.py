"""Samples of a model that carries a state: each run gets what the run before it gave."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibrate import with_states
from qcompiler.data import open_dataset
from qcompiler.errors import DataError
from qcompiler.onnx_io import open_session
from tests.lower.models import model_of

SUM = "g (float[1,4] x, float[1,4] s) => (float[1,4] y, float[1,4] t) { t = Add(x, s) y = Neg(t) }"


def test_states_are_those_that_the_model_gave() -> None:
    session = open_session(model_of(SUM))
    rows = np.arange(12, dtype=np.float32).reshape(3, 1, 4)
    dataset = open_dataset({"x": rows}, [spec for spec in session.inputs if spec.name == "x"])
    fed = with_states(dataset, session, {"s": "t"})
    assert len(fed) == 3
    assert [fed.sample(i)["s"].tolist() for i in range(3)] == [
        [[0, 0, 0, 0]],
        rows[0].tolist(),
        (rows[0] + rows[1]).tolist(),
    ]
    assert fed.subset([2]).sample(0)["s"].tolist() == fed.sample(2)["s"].tolist()


@pytest.mark.parametrize(
    ("feedback", "message"),
    [({"q": "t"}, "no input 'q'"), ({"s": "q"}, "no output 'q'")],
)
def test_names_that_are_wrong(feedback: dict[str, str], message: str) -> None:
    session = open_session(model_of(SUM))
    dataset = open_dataset({"x": np.ones((2, 1, 4), np.float32)}, session.inputs[:1])
    with pytest.raises(DataError, match=message):
        with_states(dataset, session, feedback)


def test_a_state_of_another_shape() -> None:
    session = open_session(model_of("g (float[1,4] x, float[4] s) => (float[1,4] y) { y = Add(x, s) }"))
    dataset = open_dataset({"x": np.ones((2, 1, 4), np.float32)}, session.inputs[:1])
    with pytest.raises(DataError, match=r"output 'y' .* does not fit input 's'"):
        with_states(dataset, session, {"s": "y"})
