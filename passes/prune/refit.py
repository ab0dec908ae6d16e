"""New weights for the readers of what is left, by least squares on what they should have given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from qcompiler.calibrate import key_of, results, vectors, with_outputs
from qcompiler.data import Sample
from qcompiler.errors import QCompilerError
from qcompiler.ir import Model, Node, tensor
from qcompiler.onnx_io import open_session
from qcompiler.passes.matrix import as_rows, from_rows

__all__ = ["refit"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_RIDGE = 1e-3  # of the mean diagonal, that pulls towards the weights that were there


def refit(
    before: Model,
    after: Model,
    pairs: Sequence[tuple[Node, Node]],
    gone: Mapping[Node, Array],
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Refit, in the order of ``pairs`` (node of ``before``, its twin in ``after``), weights and bias of each twin.

    ``gone`` are the output channels of a node that its twin gives no more.

    They minimize |y - W x - b|^2 + r |W - W0|^2 over the samples, where y is what the node of ``before`` gives and x
    what its twin is fed by the pruned and already refitted layers in front of it, so that their errors are made good
    too. Only x x^T and y x^T are kept. Nodes that read the same value are done in one walk. How many were refitted.
    """
    count = 0
    for _, run in groupby(pairs, key=lambda pair: id(pair[0].inputs[0])):
        found = _normal_equations(before, after, list(run), gone, samples, threads)
        for twin, (gram, cross) in found.items():
            count += _solve(twin, gram, cross)
        progress(count)
    return count


def _normal_equations(
    before: Model,
    after: Model,
    pairs: Sequence[tuple[Node, Node]],
    gone: Mapping[Node, Array],
    samples: Iterable[Sample],
    threads: int,
) -> dict[Node, tuple[Array, Array]]:
    """x x^T and y x^T of each twin, x with a one at its end."""
    keys = {twin: key_of(twin) for _, twin in pairs}
    usable = [(node, twin) for node, twin in pairs if keys[twin] is not None]
    if not usable:
        return {}
    told, names = with_outputs(before, [node.output for node, _ in usable])
    read = [twin.inputs[0] for _, twin in usable]
    fed, inputs = with_outputs(after, list(dict.fromkeys(value for value in read if value is not None)))
    source, pruned = open_session(told, threads=threads), open_session(fed, threads=threads)
    given = {spec.name for spec in pruned.inputs}
    sums: dict[Node, tuple[Array, Array]] = {}
    for sample in samples:
        try:
            wanted = source.run(sample, list(dict.fromkeys(names.values())))
            got = pruned.run(sample, [name for name in dict.fromkeys(inputs.values()) if name not in given])
        except QCompilerError:
            continue
        for node, twin in usable:
            name = inputs[twin.inputs[0]]  # type: ignore[index]
            data = np.asarray(sample[name] if name in given else got[name])
            key = keys[twin]
            assert key is not None
            x = vectors(data, key)[0].astype(np.float64)
            y = results(np.asarray(wanted[names[node.output]]), key).astype(np.float64)
            y = np.delete(y, gone[twin], axis=1)
            x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
            if twin not in sums:
                sums[twin] = np.zeros((x.shape[1], x.shape[1])), np.zeros((y.shape[1], x.shape[1]))
            gram, cross = sums[twin]
            gram += x.T @ x
            cross += y.T @ x
    return sums


def _solve(twin: Node, gram: Array, cross: Array) -> int:
    weight, bias = twin.input(1), twin.input(2)
    graph = twin.graph
    assert weight is not None and weight.constant is not None and graph is not None
    array = weight.constant.numpy()
    rows = as_rows(twin, array)[0]
    has_bias = bias is not None and bias.constant is not None and len(bias.uses) == 1
    offset = np.zeros(len(rows))
    if bias is not None and bias.constant is not None:
        offset = np.broadcast_to(bias.constant.numpy().astype(np.float64).reshape(-1), (len(rows),))
    start = np.concatenate([rows, offset[:, None]], axis=1)
    if not has_bias:  # what is added is somebody else's: only the products are ours
        cross = cross - offset[:, None] * gram[-1]
        gram, cross, start = gram[:-1, :-1], cross[:, :-1], rows
    ridge = np.full(len(gram), _RIDGE * float(np.trace(gram[: rows.shape[1], : rows.shape[1]])) / rows.shape[1])
    if has_bias:
        ridge[-1] = 1e-9
    if not np.isfinite(gram).all() or not ridge[0] > 0:
        return 0
    made = start + np.linalg.solve(gram + np.diag(ridge), (cross - start @ gram).T).T
    new = from_rows(twin, made[None, :, : rows.shape[1]], array).astype(array.dtype)
    twin.set_input(1, graph.add_constant(tensor(new, weight.constant.dtype), weight.name))
    if not weight.uses:
        graph.remove_constant(weight)
    if has_bias:
        assert bias is not None and bias.constant is not None
        held = bias.constant.numpy()
        twin.set_input(2, graph.add_constant(tensor(made[:, -1].reshape(held.shape).astype(held.dtype)), bias.name))
        graph.remove_constant(bias)
    return 1
