"""Every model of onnx's own backend suite comes in and goes out, and computes the same, bit for bit."""

from collections import Counter
from collections.abc import Callable

import onnx
import pytest

from benchmarks.backend_suite import FILES, Case, file_cases, judge, node_cases, outputs, plain
from qcompiler.ir import difference, verify
from qcompiler.onnx_io import load, to_proto


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(node_cases())


def round_trip(model: onnx.ModelProto) -> onnx.ModelProto:
    first = load(model)
    verify(first)
    back = to_proto(first)
    onnx.checker.check_model(back)
    second = load(back)
    assert difference(first, second) == ""
    assert to_proto(second) == back  # what has been through once is not changed again
    return back


def test_in_and_out_and_the_same_numbers(cases: list[Case], record_property: Callable[[str, object], None]) -> None:
    counts: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    for case in cases:
        try:
            back = round_trip(case.model)
        except Exception as error:  # one bad case must not hide the others
            wrong[case.name] = f"{type(error).__name__}: {error}"
            continue
        try:
            expected = plain(outputs(case.model, case.values))
        except Exception:  # onnxruntime lacks a kernel, or refuses the case
            counts["not runnable"] += 1
            continue
        try:
            same = plain(outputs(back, case.values)) == expected
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


@pytest.mark.parametrize("kind", FILES)
def test_models_that_lie_as_files(kind: str) -> None:
    """In and out, and through the lossless recipe as `compile` runs it, operator set raised and all."""
    found = {case.name: judge(case) for case in file_cases(kind)}
    wrong = {
        name: ways for name, ways in found.items() if {ways["round-trip"], ways["lossless"]} - {"equal", "not-runnable"}
    }
    assert wrong == {}
    assert sum(ways["lossless"] == "equal" for ways in found.values()) > 0.6 * len(found) > 0
