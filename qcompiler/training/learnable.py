"""Which constants of a model learn, in which form, and why the others do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, Value
from qcompiler.ops import info

__all__ = ["CODEBOOK", "LEVELS", "SCALE", "STATISTICS", "WEIGHT", "Learnable", "Plan", "is_matrix", "name_of", "plan"]

WEIGHT, CODEBOOK, SCALE, LEVELS, STATISTICS = "weight", "codebook", "scale", "levels", "statistics"
"""Kinds: real numbers, of which zeros among weights stay; centroids; factors that stay positive; integers that stand
for real numbers by a scale; running statistics of batch normalization."""

_WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "LSTM": (1, 2, 3), "GRU": (1, 2, 3),
    "RNN": (1, 2, 3), "BatchNormalization": (1, 2), "LayerNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2), "RMSNormalization": (1,), "PRelu": (1,), "Einsum": (0, 1),
    "com.microsoft:MatMulIntegerToFloat": (6,),
}  # fmt: skip
_PER_CHANNEL = {"Add", "Sub", "Mul", "Div", "Sum"}
_SCALES = {
    "QuantizeLinear": (1,), "DequantizeLinear": (1,), "com.microsoft:MatMulIntegerToFloat": (2, 3),
}  # fmt: skip
_FLOATS = (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16)
_INTEGERS = {DType.INT8, DType.UINT8, DType.INT4, DType.UINT4, DType.INT2, DType.UINT2, DType.INT16, DType.INT32}
_ZEROS = 0.01  # share of zeros from which they are no accident,
_ZERO_LEVELS = 0.3  # and among integers, to which many small weights are rounded
_KEEPS_RANGE = (
    "MaxPool",
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Slice",
    "Gather",
    "Split",
)


@dataclass
class Learnable:
    """One constant that learns. ``scale`` and ``zero`` are what the integers of kind ``levels`` stand for.

    ``axis`` is that of the scales, ``block`` their block size or 0. With ``product`` the scale is not one of its own
    but the product of two others: biases of integer layers.
    """

    value: Value
    kind: str
    keeps_zeros: bool = False
    scale: Value | None = None
    zero: Value | None = None
    axis: int = 0
    block: int = 0
    product: tuple[Value, Value] | None = None


@dataclass
class Plan:
    """What learns, and for other float constants why not, by name. ``products``: scales that follow two others."""

    learnable: dict[Value, Learnable] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    products: dict[Value, tuple[Value, Value]] = field(default_factory=dict)


def plan(model: Model, exclude: re.Pattern[str] | None = None) -> Plan:
    """What of ``model`` learns. Constants with such a name, or of nodes with such a name or type, are left out."""
    found = Plan()
    fed: set[Value] = _feeding_weights(model)
    for graph in model.graphs():
        turning = _turns(graph)
        for value in graph.constants:
            held = value.constant
            if turning and held is not None and held.dtype in _FLOATS and held.size > 1:
                found.frozen[value.name] = "it stands in a loop, through which nothing learns"
            if turning:
                continue
            uses = [(user, place) for user, place in value.uses if isinstance(user, Node)]
            if held is None or not uses:
                continue
            names = [value.name, *(text for user, _ in uses for text in (user.name, user.op_type))]
            if exclude is not None and any(exclude.search(text) for text in names if text):
                if held.dtype in _FLOATS and held.size > 1:
                    found.frozen[value.name] = "excluded"
                continue
            if held.dtype in _INTEGERS:
                made = _levels(value, uses)
                if made is not None:
                    found.learnable[value] = made
                    if made.product is not None and made.scale is not None:
                        found.products[made.scale] = made.product
                continue
            if held.dtype not in _FLOATS:
                continue
            kind = None if value.is_output else _kind(value, uses, fed)
            if kind is not None and not np.isfinite(held.numpy().astype(np.float32)).all():
                found.frozen[value.name] = "it holds NaN or infinity"
            elif kind is not None:
                found.learnable[value] = Learnable(value, kind, keeps_zeros=_keeps_zeros(value, kind))
            elif held.size > 1:
                found.frozen[value.name] = "something reads it that is no layer"
    for value in (*found.products, *_bound_scales(model, found)):
        found.learnable.pop(value, None)
    return found


def is_matrix(value: Value) -> bool:
    """Whether ``value`` is what layers multiply their inputs by: no bias, slope or scale."""
    held = value.constant
    if held is None or sum(size > 1 for size in held.shape) < 2:
        return False
    for user, place in value.uses:
        known = info(user) if isinstance(user, Node) else None
        if known is None or not isinstance(user, Node):
            continue
        if place == known.weight or (user.is_op("LSTM", "GRU", "RNN") and place in (1, 2)):
            return True
        if user.is_op("MatMul", "Einsum") or (user.is_op("Gemm") and place < 2):
            return True
    return False


def _turns(graph: Graph) -> bool:
    """Whether ``graph`` stands in something else than an If: onnxruntime runs that as a whole."""
    current: Graph | None = graph
    while current is not None and current.owner is not None:
        if not current.owner.is_op("If"):
            return True
        current = current.owner.graph
    return False


def _bound_scales(model: Model, found: Plan) -> list[Value]:
    """Scales that cannot move by themselves: targets fuse layers only while certain numbers stay equal.

    Those of an int32 bias that is no plain product, with the scales of its layer; and two scales of equal numbers on
    both sides of an operator that only moves or chooses elements.
    """
    bound: list[Value | None] = []
    for node in model.nodes():
        if node.is_op("DequantizeLinear"):
            held = node.inputs[0].constant if node.inputs[0] is not None else None
            if held is not None and held.dtype is DType.INT32 and node.input(1) not in found.products:
                bound.append(node.input(1))
                for layer in node.output.users():
                    bound += [_scale_behind(value) for value in layer.inputs[:2]]
        elif node.is_op(*_KEEPS_RANGE):
            for value in node.inputs:
                before = _scale_behind(value)
                for user in node.output.users():
                    after = user.input(1) if user.is_op("QuantizeLinear") else None
                    if before is not None and after is not None and before is not after and _equal(before, after):
                        bound += [before, after]
    return [value for value in bound if value is not None]


def _scale_behind(value: Value | None) -> Value | None:
    """The scale by which ``value`` was made float again."""
    maker = value.producer if value is not None else None
    return maker.input(1) if maker is not None and maker.is_op("DequantizeLinear") else None


def _equal(one: Value, other: Value) -> bool:
    held, there = one.constant, other.constant
    return held is not None and there is not None and np.array_equal(held.numpy(), there.numpy())


def name_of(node: Node) -> str:
    """Domain and type, as tables of operators say them."""
    return f"{node.domain}:{node.op_type}" if node.domain else node.op_type


def _kind(value: Value, uses: list[tuple[Node, int]], fed: set[Value]) -> str | None:
    """The kind in which a float constant learns; None where one of its readers is no layer."""
    kinds = {_kind_for(value, user, place, fed) for user, place in uses}
    return kinds.pop() if len(kinds) == 1 else None


def _kind_for(value: Value, user: Node, place: int, fed: set[Value]) -> str | None:
    held = value.constant
    assert held is not None
    name = name_of(user)
    if place in _WEIGHTS.get(name, ()):
        return WEIGHT
    if name == "BatchNormalization" and place in (3, 4):
        return STATISTICS
    if place in _SCALES.get(name, ()) and (held.numpy() > 0).all():
        return SCALE
    if user.output in fed:  # part of a chain that makes a weight at loading
        if name in ("Gather", "GatherElements") and place == 0:
            return CODEBOOK
        return SCALE if name == "Mul" and (held.numpy() > 0).all() else None
    if name == "Gather" and place == 0 and len(held.shape) == 2 and user.attr("axis", 0) == 0:
        return WEIGHT
    if name in _PER_CHANNEL and held.size > 1 and sum(size > 1 for size in held.shape) == 1:
        return WEIGHT
    return None


def _keeps_zeros(value: Value, kind: str) -> bool:
    held = value.constant
    assert held is not None
    if kind == CODEBOOK:
        return True
    if kind != WEIGHT or not is_matrix(value):
        return False
    array = held.numpy()
    return bool(_ZEROS <= 1 - np.count_nonzero(array) / max(1, array.size) < 1)  # all zeros have yet to begin


def _feeding_weights(model: Model) -> set[Value]:
    """Values that are made of constants alone and come to be weights: clustered ones, Casts of them."""
    constant: set[Value] = set()
    order = [node for node in model.nodes() if node.inputs and next(node.subgraphs(), None) is None]
    for node in order:
        if all(value is not None and (value.constant is not None or value in constant) for value in node.inputs):
            constant.update(node.outputs)
    found: set[Value] = set()
    for node in reversed(order):
        for place, value in enumerate(node.inputs):
            if value in constant and (place in _places(node) or node.output in found):
                assert value is not None
                found.add(value)
    return found


def _places(node: Node) -> tuple[int, ...]:
    if node.is_op("Gather"):
        return (0,)
    return _WEIGHTS.get(name_of(node), ())


def _levels(value: Value, uses: list[tuple[Node, int]]) -> Learnable | None:
    """``value``, constant integers, as levels of one scale; None where its readers see them otherwise."""
    found = list(_readings(value, uses))
    first = found[0] if found else None
    if first is None or any(each is None or (each.scale, each.zero) != (first.scale, first.zero) for each in found):
        return None
    if first.scale is None or first.scale.constant is None or not (first.scale.constant.numpy() > 0).all():
        return None
    held = value.constant
    assert held is not None
    zero = 0 if first.zero is None or first.zero.constant is None else first.zero.constant.numpy()
    if np.ndim(zero) == 0 or not np.any(zero):
        share = float(np.mean(held.numpy().astype(np.int64) == (0 if np.ndim(zero) else zero)))
        first.keeps_zeros = _ZERO_LEVELS <= share < 1
    if held.dtype is DType.INT32:
        first.product = _product(uses)
        return first if first.product is not None else None
    return first


def _readings(value: Value, uses: list[tuple[Node, int]]) -> Iterator[Learnable | None]:
    for user, place in uses:
        name = name_of(user)
        if name == "DequantizeLinear" and place == 0:
            axis, block = int(user.attr("axis", 1)), int(user.attr("block_size", 0) or 0)
            yield Learnable(value, LEVELS, scale=user.input(1), zero=user.input(2), axis=axis, block=block)
        elif name == "com.microsoft:MatMulIntegerToFloat" and place == 1:
            yield Learnable(value, LEVELS, scale=user.input(3), zero=user.input(5), axis=-1)
        else:
            yield None


def _product(uses: list[tuple[Node, int]]) -> tuple[Value, Value] | None:
    """The scales of input and weights of the layer whose bias the integers are, if they are that."""
    if len(uses) != 1:
        return None
    bias = uses[0][0]
    users = bias.output.users()
    layer = users[0] if len(users) == 1 and users[0].is_op("Conv", "Gemm", "ConvTranspose") else None
    if layer is None or layer.input(2) is not bias.output:
        return None
    scales: list[Value] = []
    for value in layer.inputs[:2]:
        maker = value.producer if value is not None else None
        scale = maker.input(1) if maker is not None and maker.is_op("DequantizeLinear") else None
        if scale is None or scale.constant is None:
            return None
        scales.append(scale)
    own = bias.input(1)
    if own is None or own.constant is None or len(own.uses) != 1:
        return None
    expected = np.float64(scales[0].constant.numpy()) * scales[1].constant.numpy()  # type: ignore[union-attr]
    there = own.constant.numpy()
    if expected.reshape(-1).shape != there.reshape(-1).shape or not np.allclose(expected, there, rtol=1e-5, atol=0):
        return None
    return scales[0], scales[1]
