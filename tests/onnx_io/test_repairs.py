"""Files that are broken in a way that leaves their meaning clear are mended, and the user is told; others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from qcompiler import compile
from qcompiler.errors import ImportFailure
from qcompiler.onnx_io import load, open_session

X = np.array([-1, 2], np.float32)
node = helper.make_node


def written(path: Path, nodes: list[onnx.NodeProto], weights: tuple[tuple[str, list[float]], ...] = ()) -> Path:
    x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    initializers = [helper.make_tensor(name, 1, [2], elements) for name, elements in weights]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path / "m.onnx")
    return path / "m.onnx"


@pytest.mark.parametrize(
    ("nodes", "weights", "said", "y"),
    [
        pytest.param(
            [node("Neg", ["a"], ["y"]), node("Relu", ["x"], ["a"])],
            (),
            "the nodes of graph 'g' stood before what they take and were put in order",
            [0, -2],
            id="out of order",
        ),
        pytest.param(
            [node("Relu", ["x"], ["a"], "n"), node("Neg", ["a"], ["y"], "n")],
            (),
            "nodes of graph 'g' shared a name, 'n' for one, and got names of their own",
            [0, -2],
            id="two nodes of one name",
        ),
        pytest.param(
            [node("Add", ["x", "w"], ["y"])],
            (("w", [1, 2]), ("w", [3, 4])),
            "initializer 'w' of graph 'g' is there more than once: the last one counts, as in onnxruntime",
            [2, 6],
            id="two initializers of one name",
        ),
    ],
)
def test_what_is_clear_is_mended_and_told(
    tmp_path: Path, nodes: list[onnx.NodeProto], weights: tuple[tuple[str, list[float]], ...], said: str, y: list[float]
) -> None:
    path = written(tmp_path, nodes, weights)
    model = load(path)
    assert model.repairs == [said]
    np.testing.assert_array_equal(open_session(model).run({"x": X})["y"], np.array(y, np.float32))
    result = compile(path)
    assert f"the model was mended: {said}" in result.report["warnings"]
    np.testing.assert_array_equal(result.run({"x": X})["y"], np.array(y, np.float32))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        pytest.param(
            [node("Add", ["x", "b"], ["a"], "n1"), node("Relu", ["a"], ["b"], "n2"), node("Neg", ["b"], ["y"])],
            "graph 'g' cannot be put in order: <Add n1> takes part in a cycle",
            id="cycle",
        ),
        pytest.param(
            [node("Add", ["x", "a"], ["a"], "n1"), node("Neg", ["a"], ["y"])],
            "graph 'g' cannot be put in order: <Add n1> takes part in a cycle",
            id="a node that feeds itself",
        ),
        pytest.param(
            [node("Add", ["x", "ghost"], ["y"], "n1")],
            "node 'n1' takes 'ghost', which nothing in graph 'g' or around it defines",
            id="dangling input",
        ),
        pytest.param([node("Relu", ["x"], ["a"], "n1")], "output 'y'", id="dangling output"),
        pytest.param(
            [node("Relu", ["x"], ["a"]), node("Neg", ["x"], ["a"]), node("Abs", ["a"], ["y"])],
            "'a' has been used as output names multiple times",
            id="a name for two values",
        ),
    ],
)
def test_what_is_not_clear_is_refused_by_name(tmp_path: Path, nodes: list[onnx.NodeProto], said: str) -> None:
    with pytest.raises(ImportFailure) as failure:
        load(written(tmp_path, nodes))
    assert said in failure.value.what


def test_a_sound_model_has_no_repairs(tmp_path: Path) -> None:
    assert load(written(tmp_path, [node("Relu", ["x"], ["y"])])).repairs == []
