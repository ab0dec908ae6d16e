"""The operators that models are trained through compute what ONNX says: onnx's own cases, against onnxruntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.backend_suite import node_cases, outputs
from qcompiler.errors import QCompilerError
from qcompiler.ir import Model
from qcompiler.onnx_io import infer_types, load

torch = pytest.importorskip("torch", reason="the extra recover is not installed")

from qcompiler.training.learnable import name_of  # noqa: E402
from qcompiler.training.module import GraphModule  # noqa: E402
from qcompiler.training.operators import OPERATORS  # noqa: E402

# Not run, for a reason that is the case's own.
EXCUSED = {"test_if_opt": "its branches give optional types"}


def close(expected: Any, found: Any) -> bool:
    made = found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    if expected.shape != made.shape:
        return False
    if expected.dtype.kind not in "f":
        return bool((np.asarray(expected, np.float64) == np.asarray(made, np.float64)).all())
    tolerance = 2e-2 if expected.dtype.itemsize == 2 else 1e-3
    return np.allclose(np.asarray(expected, np.float64), np.asarray(made, np.float64), tolerance, 1e-4, equal_nan=True)


def in_the_table(model: Model) -> bool:
    return all(name_of(node) in OPERATORS or node.is_op("BatchNormalization", "If") for node in model.graph)


def test_operators_compute_what_onnxruntime_computes(record_property: Callable[[str, object], None]) -> None:
    counts: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    for case in node_cases():
        model = load(case.model)
        if model.functions or not in_the_table(model) or model.opset < 13:
            continue
        if not all(isinstance(value, np.ndarray) for value in case.values):
            continue
        try:
            expected = outputs(case.model, case.values)
        except Exception:  # onnxruntime does not run it
            continue
        infer_types(model)
        fed = [info.name for info in case.model.graph.input]
        try:
            module = GraphModule(model).eval()
            with torch.no_grad():
                found, _ = module(dict(zip(fed, case.values, strict=False)))
        except (QCompilerError, ValueError, TypeError) as error:
            wrong[case.name] = f"{type(error).__name__}: {error}"
            continue
        if module.elsewhere:
            counts["elsewhere"] += 1
        else:
            counts["in torch"] += 1
        for value, array in zip(model.graph.outputs, expected, strict=True):
            if isinstance(array, np.ndarray) and not close(array, found[value.name]):
                wrong[case.name] = f"{value.name} differs"
    for name, count in counts.items():
        record_property(name, count)
    assert set(wrong) == set(EXCUSED), "\n".join(f"{name}: {why}" for name, why in sorted(wrong.items()))
    assert counts["in torch"] > 500
