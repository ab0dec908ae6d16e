"""Float16 and bfloat16 on the processor: computed in float32, and each result rounded as a card rounds it.

onnxruntime's CPU provider has few operators in these types. It casts around the others and drops the casts between
them, so that nothing would be rounded and nothing that they lose would be seen. Casts that the graph itself has between
operators of float32 it keeps, at every level of optimization.
"""

from __future__ import annotations

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Node, TensorType, Value, tensor
from qcompiler.lower.target import HALVES

__all__ = ["in_float32"]


_SAYS_ITS_TYPE = ("Bernoulli", "BlackmanWindow", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "HammingWindow",
                  "HannWindow", "MelWeightMatrix", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
                  "RandomUniformLike")  # fmt: skip
_OF_ONE_TYPE = ("Gelu", "FastGelu", "QuickGelu")  # onnxruntime's own that the compiler itself makes


def in_float32(graph: Graph) -> bool:
    """Let everything in ``graph`` that is float16 or bfloat16 be float32, rounded to what such a type can hold.

    What DequantizeLinear gives is not rounded: where it is part of a product, integers are multiplied. Inputs and
    outputs keep their types. False, and nothing is changed, for a graph in which halves are not made by operators of
    the types that they read: models that came in halves may have such.
    """
    nodes = list(graph)
    if not all(map(_follows, graph.all_nodes())):
        return False
    for value in [*graph.constants, *graph.inputs]:
        if value.dtype in HALVES:
            _entered(graph, value)
    for node in nodes:
        halves = [(value, value.dtype) for value in node.outputs if value.dtype in HALVES]
        if node.is_op("Cast") and halves:
            node.attrs = {**node.attrs, **Node("Cast", attrs={"to": int(DType.FLOAT)}).attrs}
            node.touch()
        for value, dtype in halves:
            value.type = TensorType(DType.FLOAT, value.shape)
            if not node.is_op("DequantizeLinear") or value.output_uses:
                _rounded(graph, node, value, dtype)
    return True


def _follows(node: Node) -> bool:
    """True when the halves that ``node`` gives are there because of those that it reads."""
    if not any(value is not None and value.dtype in HALVES for value in (*node.inputs, *node.outputs)):
        return True
    nested = next(node.subgraphs(), None) is not None or node.graph is None or node.graph.owner is not None
    known = not node.domain or (node.domain == "com.microsoft" and node.op_type in _OF_ONE_TYPE)
    return known and not nested and not node.is_op(*_SAYS_ITS_TYPE)


def _entered(graph: Graph, value: Value) -> None:
    """Readers of an input or a constant get it in float32."""
    if value.constant is not None:
        held = tensor(value.constant.numpy().astype(np.float32))
        wide = graph.add_constant(held, f"{value.name}_wide")
    else:
        node = Node("Cast", [value], {"to": int(DType.FLOAT)}, name=f"{value.name}/wide")
        wide = graph.insert_after(None, node).output
        wide.type, wide.name = TensorType(DType.FLOAT, value.shape), f"{value.name}_wide"
    for user, place in list(value.uses):
        if isinstance(user, Node) and user is not wide.producer:
            user.set_input(place, wide)


def _rounded(graph: Graph, node: Node, value: Value, dtype: DType) -> None:
    """Everybody reads ``value`` rounded to ``dtype``; where the graph gives it, it is of that type again."""
    uses = list(value.uses)
    narrow = Node("Cast", [value], {"to": int(dtype)}, name=f"{value.name}/rounded")
    wide = Node("Cast", [narrow.output], {"to": int(DType.FLOAT)}, name=f"{value.name}/wide")
    graph.insert_after(node, narrow)
    graph.insert_after(narrow, wide)
    narrow.output.type, wide.output.type = TensorType(dtype, value.shape), TensorType(DType.FLOAT, value.shape)
    for user, place in uses:
        if isinstance(user, Node):
            user.set_input(place, wide.output)
        else:
            narrow.output.name, value.name = value.name, f"{value.name}_exact"
            user.set_output(place, narrow.output)
