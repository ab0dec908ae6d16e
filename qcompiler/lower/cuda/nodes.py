"""Nodes of domain ``qcompiler`` with the function that any onnxruntime runs them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Attr, AttrKind, Function, Model, Node, Shape, TensorType, Value, clone_graph
from qcompiler.kernels import DOMAIN, KERNELS, Kernel, Operand
from qcompiler.lower.cuda.bodies import OLDEST_OPSET, function_of, variant_of

__all__ = ["EDGE", "attributes_of", "kernel_node", "kernel_of"]

EDGE = "/transpose"
"""What names end with of nodes that move channels between kernels and the rest."""

_VERSION = 1


def kernel_of(node: Node) -> Kernel | None:
    """The kernel that ``node`` calls; None for any other node."""
    return KERNELS.get(node.op_type) if node.domain == DOMAIN else None


def attributes_of(node: Node) -> dict[str, Any]:
    """The attributes of a kernel's node in plain Python, defaults included."""
    return KERNELS[node.op_type].settled({name: attr.value for name, attr in node.attrs.items()})


def kernel_node(
    model: Model,
    op: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, Any],
    *,
    shape: Shape | None = None,
    **options: Any,
) -> Node:
    """A detached node that calls the kernel ``op``, and its function among those of ``model``.

    ``options`` are those of :class:`qcompiler.ir.Node`, ``shape`` is that of its first output where sizes of the inputs
    are not known. Every input has to have a known element type and rank.
    Raises LoweringError below operator set 17.
    """
    if model.opset < OLDEST_OPSET:
        raise LoweringError(f"kernels need operator set {OLDEST_OPSET}, and the model has {model.opset}")
    kernel = KERNELS[op]
    settled = kernel.settled(attributes)
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    variant = variant_of(op, [_kind(value) for value in given], settled, model.opset)
    function = function_of(variant)
    model.functions.setdefault(function.key, _copied(function))
    model.opsets.setdefault(DOMAIN, _VERSION)
    model.ir_version = max(model.ir_version, 10)  # before, functions had no overloads
    attrs = {key: Attr(AttrKind.INTS, ()) if value == () else value for key, value in settled.items()}
    node = Node(op, given, attrs, outputs=len(kernel.outputs), domain=DOMAIN, overload=variant.overload, **options)
    operands = [None if value is None else _operand(value) for value in given]
    fixed = all(isinstance(size, int) for value in given if value is not None for size in value.shape or ())
    results = kernel.results(kernel.complete(operands), settled)
    for index, value in enumerate(node.outputs):
        kind, sizes = results[index]
        value.type = TensorType(DType.of(np.dtype(kind)), sizes if fixed else shape if index == 0 else None)
    return node


def _operand(value: Value) -> Operand:
    """``value`` as a kernel sees it; a size that is not known counts as one."""
    assert value.dtype is not None and value.shape is not None
    sizes = tuple(size if isinstance(size, int) else 1 for size in value.shape)
    return Operand(value.dtype.numpy.name, sizes)


def _kind(value: Value | None) -> tuple[int, str] | None:
    if value is None:
        return None
    if value.dtype is None or value.rank is None:
        raise LoweringError(f"{value!r} has no known type", hint="infer types before lowering")
    return value.rank, value.dtype.name.lower()


def _copied(function: Function) -> Function:
    made = Function(
        function.domain, function.name, clone_graph(function.graph, {}), dict(function.opsets), function.overload
    )
    made.attributes, made.defaults = list(function.attributes), dict(function.defaults)
    return made
