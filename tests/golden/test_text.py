"""The text of a model that has some of everything, as it stands beside this file. A change there has to be meant."""

from pathlib import Path

import onnx.parser
import pytest

from qcompiler.ir import Model, Value, clone_model, format_model
from qcompiler.onnx_io import from_proto

HERE = Path(__file__).parent


@pytest.fixture
def model() -> Model:
    return from_proto(onnx.parser.parse_model((HERE / "model.onnxtxt").read_text("utf-8")))


def test_the_text_of_a_model(model: Model) -> None:
    assert format_model(model) + "\n" == (HERE / "model.txt").read_text("utf-8")


def test_the_numbered_text_of_a_model(model: Model) -> None:
    assert format_model(model, numbered=True) + "\n" == (HERE / "model.numbered.txt").read_text("utf-8")


def test_the_numbered_text_does_not_depend_on_names(model: Model) -> None:
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    for i, value in enumerate(mapping.values()):
        if value not in (*copy.graph.inputs, *copy.graph.outputs):
            value.name = f"other{i}"
    assert format_model(copy, numbered=True) == format_model(model, numbered=True)
    assert format_model(copy) != format_model(model)
