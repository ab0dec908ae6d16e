"""The models of onnx's own backend suite through the importer and through the lossless recipe, counted.

    python -m benchmarks.backend_suite docs/backend-suite.md

Every model runs in onnxruntime with optimizations off before and after. After import and export the outputs have to be
the same bits; after the lossless recipe the same within the tolerance of the numeric check.
"""

from __future__ import annotations

import ctypes
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from qcompiler.compiler import find_recipe, input_specs
from qcompiler.data import open_dataset
from qcompiler.dtypes import DType, pack
from qcompiler.errors import QCompilerError
from qcompiler.ir import clone_model, verify
from qcompiler.onnx_io import infer_types, load, to_proto, upgrade_opset
from qcompiler.pipeline import PassContext, Pipeline, deviation, tolerance

FILES = ("simple", "pytorch-converted", "pytorch-operator", "light")
KINDS = ("node", *FILES, "real")
WAYS = ("round-trip", "lossless")
# Types that onnxruntime's Python face takes and gives only as a block of bytes.
OPAQUE = {int(dtype) for dtype in DType if dtype.bits and dtype.numpy.kind == "V"} | {16, 17, 18, 19, 20, 24}


@dataclass
class Case:
    """A model of the suite and one set of values for its inputs, in their order."""

    kind: str
    name: str
    model: onnx.ModelProto
    values: list[Any] = field(default_factory=list)


def node_cases() -> Iterator[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        for case in collect_testcases(None):
            yield Case("node", case.name, case.model, case.data_sets[0][0])


def file_cases(kind: str) -> Iterator[Case]:
    """Those that lie as files; the models called real are the light ones under another name, so they are these."""
    folder = Path(onnx.__file__).parent / "backend/test/data"
    if kind in ("light", "real"):
        for path in sorted((folder / "light").glob("*.onnx")):
            model = onnx.load(path)
            yield Case(kind, path.stem, model, _random(model))
        return
    for path in sorted((folder / kind).glob("*/model.onnx")):
        model = onnx.load(path)
        parts = sorted((path.parent / "test_data_set_0").glob("input_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
        yield Case(kind, path.parent.name, model, [_read(part, model, i) for i, part in enumerate(parts)])


def cases(kind: str) -> Iterator[Case]:
    return node_cases() if kind == "node" else file_cases(kind)


def outputs(model: onnx.ModelProto, values: list[Any]) -> list[Any]:
    """What onnxruntime, with optimizations off, computes. Raises whatever it raises."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    elements = {info.name: info.type.tensor_type.elem_type for info in _inputs(model)}
    feeds = {name: _value_of(item, elements[name]) for name, item in zip(elements, values, strict=False)}
    if not OPAQUE.intersection([*elements.values(), *(info.type.tensor_type.elem_type for info in model.graph.output)]):
        return list(session.run(None, feeds))
    given = {name: ort.OrtValue.ortvalue_from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in feeds.items()}
    return list(session.run_with_ort_values([info.name for info in model.graph.output], given))


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


def far(expected: Any, found: Any) -> float:
    """How far an output is from what it was; opaque ones have to be equal."""
    if isinstance(expected, ort.OrtValue):
        return 0.0 if plain(expected) == plain(found) else float("inf")
    return deviation(expected, found)


def through_lossless(case: Case) -> tuple[onnx.ModelProto, float, int, int]:
    """The model after the lossless recipe, the tolerance, and the nodes before and after. No pass may be left out."""
    model = load(case.model)
    upgrade_opset(model)
    infer_types(model)
    source = clone_model(model)
    made, records = Pipeline(find_recipe("lossless").passes).run(model, PassContext())
    verify(made)
    for record in records:
        if record.status not in ("applied", "no-op"):
            raise AssertionError(f"pass '{record.name}': {record.reason}")
    return to_proto(made), tolerance(source), source.count_nodes(), made.count_nodes()


def judge(case: Case) -> dict[str, str]:
    """For ``round-trip`` and ``lossless``: ``equal``, ``not-runnable`` (already before), or what is wrong.

    ``why`` is there when onnxruntime does not run the source; ``runs-now`` too when it runs what came out.
    """
    found: dict[str, str] = {}
    try:
        expected = outputs(case.model, case.values)
    except Exception as error:  # onnxruntime lacks a kernel, or refuses the case
        expected, found["why"] = None, _short(error)
    for way in WAYS:
        try:
            if way == "round-trip":
                made, limit = to_proto(load(case.model)), 0.0
            else:
                made, limit, before, after = through_lossless(case)
                if after > before:
                    raise AssertionError(f"{after} nodes instead of {before}")
            if expected is None:
                found[way] = "not-runnable"
                if way == "lossless" and _runs(made, case.values):
                    found["runs-now"] = "yes"
                continue
            results = outputs(made, case.values)
            if limit:
                worst = max((far(a, b) for a, b in zip(expected, results, strict=True)), default=0.0)
                found[way] = "equal" if worst <= limit else f"off by {worst:.2g}"
            else:
                found[way] = "equal" if plain(results) == plain(expected) else "gives other bits"
        except Exception as error:  # one bad case must not hide the others
            found[way] = f"{type(error).__name__}: {error}"
    return found


def table(judged: dict[str, dict[str, dict[str, str]]]) -> str:
    """The counts in Markdown, and by name what onnxruntime does not run and what is wrong."""
    lines = [
        f"onnx {onnx.__version__}, onnxruntime {ort.__version__}, optimizations off, CPU provider.",
        "",
        "| models | all | import and export: same bits | lossless: same numbers | onnxruntime does not run the source "
        "| of these it runs the result | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    idle, wrong = [], []
    for kind, found in judged.items():
        ways = {way: Counter(result[way] for result in found.values()) for way in WAYS}
        bad = [f"- {kind}, {name}: {way}: {result[way]}" for name, result in found.items()
               for way in WAYS if result[way] not in ("equal", "not-runnable")]  # fmt: skip
        stuck = {name: result for name, result in found.items() if "why" in result}
        idle += [f"{kind}/{name}: {result['why']}" for name, result in stuck.items()]
        wrong += bad
        lines.append(
            f"| {kind} | {len(found)} | {ways['round-trip']['equal']} | {ways['lossless']['equal']} "
            f"| {len(stuck)} | {sum('runs-now' in result for result in stuck.values())} | {len(bad)} |"
        )
    if wrong:
        lines += ["", "## Wrong", "", *wrong]
    lines += ["", f"## Not run by onnxruntime itself ({len(idle)})", ""]
    lines.append("They go through the importer and the passes all the same, and the result verifies. Some it runs")
    lines.append("afterwards, because the importer raises the operator set to one for which it has a kernel.")
    lines += ["", *(f"- {name}" for name in idle)]
    return "\n".join(lines) + "\n"


def _runs(model: onnx.ModelProto, values: list[Any]) -> bool:
    try:
        outputs(model, values)
    except Exception:
        return False
    return True


def _short(error: Exception) -> str:
    """The first line of what onnxruntime says, without its own paths."""
    line = str(error).split("\n")[0].split(" : ")[-1]
    return re.sub(r"/onnxruntime_src\S*\s?", "", line)[:120].strip()


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    held = {item.name for item in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in held]


def _random(model: onnx.ModelProto) -> list[Any]:
    sample = open_dataset("random", input_specs(load(model)), limit=1).sample(0)
    return [sample[info.name] for info in _inputs(model)]


def _read(path: Path, model: onnx.ModelProto, index: int) -> Any:
    info, data = _inputs(model)[index], path.read_bytes()
    if info.type.WhichOneof("value") == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if info.type.WhichOneof("value") == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return onnx.TensorProto.FromString(data)


def _value_of(item: Any, element: int) -> Any:
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


def main(path: str | None = None) -> int:
    judged = {kind: {case.name: judge(case) for case in cases(kind)} for kind in KINDS}
    text = table(judged)
    print(text)
    if path is not None:
        Path(path).write_text("# The backend suite of onnx\n\nMade by `python -m benchmarks.backend_suite`.\n" + text)
    results = [ways[way] for found in judged.values() for ways in found.values() for way in WAYS]
    return any(result not in ("equal", "not-runnable") for result in results)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:2]))
    except QCompilerError as error:
        sys.exit(f"error: {error}")
