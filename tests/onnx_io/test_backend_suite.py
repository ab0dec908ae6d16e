"""Every model of onnx's own backend suite comes in and goes out, and computes the same, bit for bit."""

import ctypes
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from qcompiler.dtypes import DType, pack
from qcompiler.ir import difference, verify
from qcompiler.onnx_io import load, to_proto

# Types that onnxruntime's Python face takes and gives only as a block of bytes.
OPAQUE = {int(dtype) for dtype in DType if dtype.bits and dtype.numpy.kind == "V"} | {16, 17, 18, 19, 20, 24}


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return list(collect_testcases(None))


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def value_of(item: Any, element: int) -> Any:
    """An input of a test case as onnxruntime takes it."""
    array = numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item
    if not isinstance(array, np.ndarray | np.generic):
        return array
    array = np.asarray(array)
    if element not in OPAQUE:
        return array
    made = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), element)
    data = pack(array, DType(element))
    ctypes.memmove(made.data_ptr(), data, len(data))
    return made


def plain(item: Any) -> Any:
    """An output as something that can be compared exactly."""
    if isinstance(item, ort.OrtValue):
        if item.is_tensor() and item.element_type() in OPAQUE:
            count = int(np.prod(item.shape(), dtype=int))
            size = -(-count * DType(item.element_type()).bits // 8)
            return item.element_type(), item.shape(), ctypes.string_at(item.data_ptr(), size)
        item = item.numpy()
    if isinstance(item, list | tuple):
        return [plain(each) for each in item]
    if isinstance(item, np.ndarray):
        return item.dtype, item.shape, item.tolist() if item.dtype == object else item.tobytes()
    return item


def outputs(model: onnx.ModelProto, case: Any) -> list[Any]:
    session = session_of(model)
    elements = {info.name: info.type.tensor_type.elem_type for info in model.graph.input}
    given = case.data_sets[0][0]
    feeds = {name: value_of(item, elements[name]) for name, item in zip(elements, given, strict=False)}
    if not OPAQUE.intersection([*elements.values(), *(info.type.tensor_type.elem_type for info in model.graph.output)]):
        return [plain(each) for each in session.run(None, feeds)]
    values = {
        name: ort.OrtValue.ortvalue_from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in feeds.items()
    }
    return [plain(each) for each in session.run_with_ort_values([info.name for info in model.graph.output], values)]


def round_trip(model: onnx.ModelProto) -> onnx.ModelProto:
    first = load(model)
    verify(first)
    back = to_proto(first)
    onnx.checker.check_model(back)
    second = load(back)
    assert difference(first, second) == ""
    assert to_proto(second) == back  # what has been through once is not changed again
    return back


def test_in_and_out_and_the_same_numbers(cases: list[Any], record_property: Callable[[str, object], None]) -> None:
    counts: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    for case in cases:
        try:
            back = round_trip(case.model)
        except Exception as error:  # one bad case must not hide the others
            wrong[case.name] = f"{type(error).__name__}: {error}"
            continue
        try:
            expected = outputs(case.model, case)
        except Exception:  # onnxruntime lacks a kernel, or refuses the case
            counts["not runnable"] += 1
            continue
        try:
            same = outputs(back, case) == expected
        except Exception as error:
            wrong[case.name] = f"runs no longer: {error}"
            continue
        if same:
            counts["equal"] += 1
        else:
            wrong[case.name] = "gives other numbers"
    for name, count in counts.items():
        record_property(name, count)
    print(f"{len(cases)} cases: {counts['equal']} equal, {counts['not runnable']} not runnable, {len(wrong)} wrong")  # noqa: T201
    assert wrong == {}
    assert len(cases) > 1000 and counts["equal"] > 0.9 * len(cases)
