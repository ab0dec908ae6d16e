"""Batch normalization that was folded away when the model was exported, put back behind convolutions to train."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qcompiler.calibrate import with_outputs
from qcompiler.data import Dataset
from qcompiler.dtypes import DType
from qcompiler.errors import QCompilerError, TrainingError
from qcompiler.ir import Model, Node, Value, tensor
from qcompiler.onnx_io import open_session

__all__ = ["fold_normalization", "has_normalization", "restore_normalization"]

_SAMPLES = 64  # of which the statistics are taken
_LEAST = 1e-6  # variance of a channel that says something
_MARK = "restored"  # metadata of the nodes that were put in


def has_normalization(model: Model) -> bool:
    """Whether any node normalizes by batches."""
    return any(node.is_op("BatchNormalization") for node in model.nodes())


def restore_normalization(
    model: Model, data: Dataset, *, threads: int = 0, progress: Callable[[str], None] = lambda _: None
) -> int:
    """Put a BatchNormalization behind each convolution of ``model`` that has float weights and none; how many.

    Mean and variance are those of the convolution's output on the data, scale and shift undo them: the model computes
    the same. Raises TrainingError when no sample runs.
    """
    convolutions = [node for node in model.graph if _may_have_one(node)]
    if not convolutions:
        return 0
    progress("collecting statistics for batch normalization")
    exposed, names = with_outputs(model, [node.output for node in convolutions])
    session = open_session(exposed, threads=threads)
    sums = [np.zeros(0)] * len(convolutions)
    squares, counts = list(sums), [0] * len(convolutions)
    for sample in data.walk(range(0, len(data), -(-len(data) // _SAMPLES))):
        try:
            found = session.run(sample, [names[node.output] for node in convolutions])
        except QCompilerError:
            continue
        for place, array in enumerate(found.values()):
            rows = np.moveaxis(array, 1, 0).reshape(array.shape[1], -1).astype(np.float64)
            if not counts[place]:
                sums[place], squares[place] = np.zeros(len(rows)), np.zeros(len(rows))
            sums[place] += rows.sum(1)
            squares[place] += np.square(rows).sum(1)
            counts[place] += rows.shape[1]
    if not all(counts):
        raise TrainingError("no sample runs, so that batch normalization has no statistics")
    for node, total, square, count in zip(convolutions, sums, squares, counts, strict=True):
        mean = total / count
        _put_behind(node, mean, np.maximum(square / count - mean**2, 0.0))
    return len(convolutions)


def _may_have_one(node: Node) -> bool:
    weight = node.input(1)
    if not node.is_op("Conv") or weight is None or weight.constant is None or len(weight.uses) != 1:
        return False
    bias = node.input(2)
    if weight.constant.dtype is not DType.FLOAT or (bias is not None and bias.constant is None):
        return False
    users = node.output.users()
    return not node.output.is_output and not any(user.is_op("BatchNormalization") for user in users)


def _put_behind(conv: Node, mean: np.ndarray, variance: np.ndarray) -> None:
    graph, name = conv.graph, conv.output.name
    assert graph is not None
    epsilon = 1e-5
    usual = variance > _LEAST  # a channel that never changes keeps the scale 1
    variance = np.where(usual, variance, 1.0 - epsilon)
    scale = np.sqrt(variance + epsilon)
    constants = [
        graph.add_constant(tensor(array.astype(np.float32)), f"{name}_{what}")
        for what, array in (("scale", scale), ("shift", mean), ("mean", mean), ("variance", variance))
    ]
    node = Node("BatchNormalization", [None, *constants], {"epsilon": epsilon}, name=f"{name}/normalize")
    node.metadata[_MARK] = "1"
    graph.insert_after(conv, node)
    conv.output.replace_uses(node.output)
    node.set_input(0, conv.output)
    node.output.type, node.output.name = conv.output.type, f"{name}_normalized"


def fold_normalization(model: Model, *, undo: bool = False) -> int:
    """Fold what :func:`restore_normalization` put in into the convolutions in front; how many.

    w' = w * scale / sqrt(variance + epsilon), b' = (b - mean) * scale / sqrt(variance + epsilon) + shift
    (Jacob et al., 2018, section 3.2). With ``undo`` they are only taken out, and the model is what it was.
    """
    count = 0
    for node in model.graph:
        if _MARK not in node.metadata:
            continue
        conv = node.inputs[0].producer if node.inputs[0] is not None else None
        assert conv is not None and conv.graph is not None
        graph, weight, bias = conv.graph, conv.inputs[1], conv.input(2)
        old = list(node.inputs[1:5])
        if not undo:
            assert weight is not None
            scale, shift, mean, variance = (_array(value) for value in node.inputs[1:5])
            factor = scale / np.sqrt(variance + node.attr("epsilon", 1e-5))
            held = np.zeros(len(factor)) if bias is None else _array(bias)
            weight.const = tensor((_array(weight).T * factor).T.astype(np.float32))
            name = bias.name if bias is not None else f"{conv.output.name}_bias"
            made = graph.add_constant(tensor(((held - mean) * factor + shift).astype(np.float32)), name)
            conv.resize_inputs((*conv.inputs[:2], made))
            old.append(bias)
        node.output.replace_uses(conv.output)
        graph.remove(node)
        for value in old:
            if value is not None and not value.uses and not value.is_input:
                graph.remove_constant(value)
        count += 1
    return count


def _array(value: Value | None) -> np.ndarray:
    assert value is not None and value.constant is not None
    return np.asarray(value.constant.numpy(), np.float64)
