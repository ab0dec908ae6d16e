"""Every model of onnx's own backend suite through all lossless passes, its inputs made constants, gives the same.

With all inputs constant the whole model folds, where it may; with all but the first, rules meet the constants that
they look for: axes, pads, bounds, weights.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.backend_suite import Case, node_cases
from qcompiler.errors import QCompilerError
from qcompiler.ir import clone_model, verify
from qcompiler.onnx_io import infer_types, load, open_session
from qcompiler.passes.lossless import LOSSLESS
from qcompiler.pipeline import PassContext, Pipeline, deviation, tolerance


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(node_cases())


def frozen(case: Case, first: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with inputs from number ``first`` on as initializers, and feeds for the others."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    feeds: dict[str, Any] = {}
    for index, (info, item) in enumerate(zip(case.model.graph.input, case.values, strict=False)):
        is_array = isinstance(item, np.ndarray | np.generic)
        if index >= first and (is_array or isinstance(item, onnx.TensorProto)):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(item)) if is_array else item)
            model.graph.initializer[-1].name = info.name
            model.graph.input.remove(info)
        else:
            feeds[info.name] = numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item
    return model, feeds


def difference(case: Case, first: int) -> str | None:
    """What went wrong with ``case``; None where onnxruntime, or the importer, cannot take the model to begin with."""
    proto, feeds = frozen(case, first)
    try:
        source = load(proto)
    except QCompilerError:
        return None
    infer_types(source)
    model, records = Pipeline([item() for item in LOSSLESS]).run(clone_model(source), PassContext())
    verify(model)
    for record in records:
        if record.status not in ("applied", "no-op"):
            return record.reason
    if not any(record.changed for record in records):
        return ""
    if len(list(model.nodes())) > len(list(source.nodes())):
        return "there are more nodes"
    try:
        expected = open_session(source, optimize=False).run(feeds)
    except QCompilerError:
        return None
    found = open_session(model, optimize=False).run(feeds)
    worst = max(deviation(array, found[name]) for name, array in expected.items())
    return "" if worst <= tolerance(source) else f"off by {worst:.2g}"


@pytest.mark.parametrize("first", [0, 1, 100])
def test_the_numbers_stay(cases: list[Case], first: int) -> None:
    tried: dict[str, str | None] = {}
    for case in cases:
        try:
            tried[case.name] = difference(case, first)
        except Exception as error:  # one case that fails must not hide the others
            tried[case.name] = repr(error)
    wrong = {name: what for name, what in tried.items() if what}
    assert wrong == {}
    assert sum(what == "" for what in tried.values()) > 1500
