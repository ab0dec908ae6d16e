"""What a few values come to, computed by onnxruntime as a small model of its own."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Model, Node, Tensor, TensorType, Value, clone_node, spilled
from qcompiler.onnx_io import open_session
from qcompiler.passes.lossless.fold_cost import value_bytes

__all__ = ["Elements", "evaluate"]

Elements = MutableMapping[Value, Tensor]
"""Values whose elements are known."""

_AT_ONCE = 256  # values computed in one run,
_BYTES_AT_ONCE = 1 << 26  # unless they take more than this together
_FAILURES = 64  # runs that may fail in search of the nodes that cannot be run, before the rest is given up


def evaluate(values: Sequence[Value], known: Elements, opsets: Mapping[str, int]) -> dict[Value, Tensor]:
    """The elements of ``values``, which depend on nothing but constants and ``known``.

    Many in one run, with optimizations off. Where that fails each half is tried by itself, so that what cannot be
    computed (it is left out of the result) costs the others nothing.
    """
    found: dict[Value, Tensor] = {}
    # onnxruntime's time to load grows faster than the number of outputs; what one run found the next one starts from.
    waiting = list(_portions(values))[::-1]
    failures = 0
    while waiting and failures < _FAILURES:
        some = waiting.pop()
        model = _model(some, ChainMap[Value, Tensor](found, known), opsets)
        try:
            outputs = open_session(model, optimize=False).run({})
        except QCompilerError:
            failures += 1
            if len(some) > 1:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]
            continue
        found |= {value: spilled(np.asarray(array)) for value, array in zip(some, outputs.values(), strict=True)}
    return found


def _portions(values: Iterable[Value]) -> Iterator[list[Value]]:
    """``values`` in order, as many at once as fit into one run."""
    some: list[Value] = []
    size = 0
    for value in values:
        if some and (len(some) == _AT_ONCE or size > _BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(value)
        size += value_bytes(value) or 0
    if some:
        yield some


def _model(values: Sequence[Value], known: Elements, opsets: Mapping[str, int]) -> Model:
    """A model without inputs that gives ``values``: copies of their nodes over constants."""
    graph = Graph("constants")
    copies: dict[Value, Value] = {}
    for node in _nodes_before(values, known):
        for value in node.inputs:
            if value is not None and value not in copies:
                copies[value] = graph.add_constant(_tensor(value, known), f"c{len(copies)}")
        graph.append(clone_node(node, copies))
    for index, value in enumerate(values):
        given = copies[value]
        given.name = f"r{index}"
        given.type = TensorType(value.dtype)  # the size is what comes out
        graph.add_output(given)
    return Model(graph, dict(opsets))


def _nodes_before(values: Iterable[Value], known: Elements) -> list[Node]:
    """The nodes that compute ``values``, each after those that it needs."""
    order: list[Node] = []
    done: set[Node] = set()
    stack = [(value.producer, False) for value in values if value.producer is not None]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            needed = (value for value in node.inputs if value is not None and value not in known)
            stack.extend((value.producer, False) for value in needed if value.producer is not None)
    return order


def _tensor(value: Value, known: Elements) -> Tensor:
    held = known.get(value) or value.constant
    if held is None:
        raise ValueError(f"{value!r} is not known")
    return held
