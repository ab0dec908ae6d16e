"""Which of several ranges of a tensor does least harm to what is computed from it.

One model holds, beside the real one, each reader of a tensor once more for every candidate, fed with the tensor
quantized and made float again; it gives one number for each: the squared difference of the reader's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from qcompiler.calibrate.collect import cut
from qcompiler.calibrate.counting import rows_of
from qcompiler.data import Sample
from qcompiler.dtypes import DType
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Model, Node, Quantization, TensorType, Value, clone_model, clone_node, tensor
from qcompiler.onnx_io import open_session, upgrade_opset
from qcompiler.ops import is_pure

__all__ = ["least_effect"]

_MOST_READERS = 4  # of one tensor that are looked at


def least_effect(
    model: Model,
    candidates: Mapping[Value, Sequence[Quantization]],
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[Value, Quantization]:
    """For each value of the main graph, the candidate with the least error at its readers' outputs over ``samples``.

    The error is squared, relative to the output's own power, and summed over readers; weights stay float. A value
    without a reader that can be repeated is judged by its own error. What does not run on any sample is left out of
    the result. Sums are rounded once, so that the order of samples does not matter. Time: that of the model, times the
    number of candidates, for each sample.
    """
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    if any(quant.spec.dtype.bits > 8 for quants in candidates.values() for quant in quants):
        upgrade_opset(copy, 21)  # the first in which QuantizeLinear gives 16 bits
    if any(quant.spec.dtype is DType.FLOAT8E4M3FN for quants in candidates.values() for quant in quants):
        upgrade_opset(copy, 19)  # and 8-bit floats
    probes: dict[Value, list[list[tuple[str, str]]]] = {}
    signals: dict[Value, str] = {}
    for value, quants in candidates.items():
        if len(quants) > 1 and mapping[value].home is copy.graph:
            probes[value] = _probes(copy.graph, mapping[value], quants, signals)
    names = [name for found in probes.values() for pairs in found for pair in pairs for name in pair]
    names = list(dict.fromkeys(names))
    best = {value: quants[0] for value, quants in candidates.items() if len(quants) == 1}
    if not names:
        return best
    session = open_session(copy, threads=threads)
    seen: dict[str, list[float]] = {name: [] for name in names}
    done = 0
    for part, by_row in cut(session, samples):
        for row in rows_of(part[0]) if by_row else part:
            try:
                outputs = session.run(row, names)
            except QCompilerError:
                continue
            for name, array in outputs.items():
                seen[name].append(float(array))
        done += 1
        progress(done)
    sums = {name: math.fsum(items) if all(map(math.isfinite, items)) else math.inf for name, items in seen.items()}
    for value, found in probes.items():
        errors = [sum(sums[error] / (sums[signal] or 1.0) for error, signal in pairs) for pairs in found]
        if all(map(math.isfinite, errors)) and seen[found[0][0][0]]:
            best[value] = candidates[value][int(np.argmin(errors))]
    return best


def _probes(
    graph: Graph, value: Value, quants: Sequence[Quantization], signals: dict[Value, str]
) -> list[list[tuple[str, str]]]:
    """For each candidate the names of (squared error, squared output) of each reader."""
    readers = [
        node for node in value.users()
        if node.graph is graph and is_pure(node) and len(node.outputs) == 1 and not list(node.subgraphs())
        and node.output.dtype is DType.FLOAT
    ][:_MOST_READERS]  # fmt: skip
    found = []
    for quant in quants:
        scale = graph.add_constant(tensor(np.asarray(quant.scale, np.float32)), "probe_scale")
        zero = graph.add_constant(tensor(np.asarray(quant.zero_point)), "probe_zero_point")
        to = graph.append(Node("QuantizeLinear", [value, scale, zero]))
        to.output.type = TensorType(quant.spec.dtype, value.shape)
        back = graph.append(Node("DequantizeLinear", [to.output, scale, zero])).output
        back.type = value.type
        pairs = []
        for reader in readers:
            again = clone_node(reader, {value: back})
            again.name = ""
            again.output.name = ""
            graph.append(again)
            pairs.append((_difference(graph, again.output, reader.output), _power(graph, reader.output, signals)))
        found.append(pairs or [(_difference(graph, back, value), _power(graph, value, signals))])
    return found


def _difference(graph: Graph, a: Value, b: Value) -> str:
    minus = graph.append(Node("Sub", [a, b]))
    minus.output.type = b.type
    return _squares(graph, minus.output)


def _power(graph: Graph, value: Value, known: dict[Value, str]) -> str:
    if value not in known:
        known[value] = _squares(graph, value)
    return known[value]


def _squares(graph: Graph, value: Value) -> str:
    """The name of an output that is the sum of the squares of ``value``."""
    node = graph.append(Node("ReduceSumSquare", [value], {"keepdims": 0}))
    node.output.type, node.output.name = TensorType(DType.FLOAT, ()), f"probe_{len(graph.outputs)}"
    graph.add_output(node.output)
    return node.output.name
