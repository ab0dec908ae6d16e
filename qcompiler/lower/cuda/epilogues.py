"""What a kernel can do behind its product: the nodes that follow a convolution or product, as one epilogue."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.dtypes import DType
from qcompiler.ir import Node, Value
from qcompiler.lower.ort_legality import added_bias, only_user

__all__ = ["Chain", "activation_of", "chain_of"]


@dataclass(frozen=True)
class Chain:
    """``nodes`` from the anchor on; ``residual`` is added before or after the activation, as ``mode`` says."""

    nodes: tuple[Node, ...]
    bias: Value | None
    activation: str = "none"
    low: float = 0.0
    high: float = 0.0
    residual: Value | None = None
    mode: str = "none"


def chain_of(anchor: Node) -> Chain:
    """The longest epilogue behind ``anchor``: bias of a MatMul, activation, residual, in that or the other order."""
    nodes = [anchor]
    bias = anchor.input(2) if not anchor.is_op("MatMul") else None
    follower = only_user(anchor)
    if anchor.is_op("MatMul") and follower is not None and (added := _bias(follower, anchor)) is not None:
        nodes.append(follower)
        bias = added
    found = activation_of(nodes[-1])
    name, low, high, residual, mode = "none", 0.0, 0.0, None, "none"
    if found is not None:
        more, name, low, high = found
        nodes += more
        residual = _residual(nodes[-1], nodes)
        if residual is not None:
            nodes.append(_follower(nodes[-1]))
            mode = "after"
    else:
        residual = _residual(nodes[-1], nodes)
        if residual is not None:
            nodes.append(_follower(nodes[-1]))
            mode = "before"
            found = activation_of(nodes[-1])
            if found is not None:
                more, name, low, high = found
                nodes += more
    return Chain(tuple(nodes), bias, name, low, high, residual, mode)


def _bias(node: Node, product: Node) -> Value | None:
    """What ``node`` adds to ``product`` if that is one number for each output channel; of clustered weights too."""
    found = added_bias(node, product)
    weight = product.input(1)
    if found is not None or not node.is_op("Add") or weight is None or weight.rank != 2 or weight.shape is None:
        return found
    held = [value for value in node.inputs if value is not None and value.constant is not None]
    if len(held) != 1 or held[0].dtype is not DType.FLOAT or held[0].shape != weight.shape[-1:]:
        return None
    return held[0]


def _follower(node: Node) -> Node:
    follower = only_user(node)
    assert follower is not None
    return follower


def _residual(node: Node, nodes: list[Node]) -> Value | None:
    """What an Add behind ``node`` adds, if it is an activation of the same shape that does not depend on the group."""
    follower = only_user(node)
    if follower is None or not follower.is_op("Add") or node.output.is_output:
        return None
    other = next((value for value in follower.inputs if value is not node.output), None)
    if other is None or other.const is not None or other.shape is None or node.output.shape is None:
        return None
    if other.dtype is not node.output.dtype or other.shape != node.output.shape or None in other.shape:
        return None
    # Of two products that meet in one sum the later one takes it: the other's result is there by then.
    product = _product_behind(other.producer)
    return None if product is not None and product.graph is node.graph and nodes[0].before(product) else other


def _product_behind(node: Node | None) -> Node | None:
    """The product of whose group ``node`` may be the last, so that it would take what follows."""
    while node is not None and not node.is_op("Conv", "ConvTranspose", "MatMul", "Gemm"):
        inputs = [value for value in node.inputs if value is not None and value.const is None]
        added = node.is_op("Add") and len(inputs) == 1
        gated = node.is_op("Mul") and len(inputs) == 2
        if not inputs or not (added or gated or activation(node) is not None):
            return None
        if gated:  # x * sigmoid(x)
            gate = next(
                (value for value in inputs if value.producer is not None and value.producer.is_op("Sigmoid")), None
            )
            if gate is None:
                return None
            inputs = [gate]
        node = inputs[0].producer
    return node


def activation_of(node: Node) -> tuple[list[Node], str, float, float] | None:
    """The activation behind ``node``, if it alone reads what ``node`` gives: its nodes, name and parameters."""
    value = node.output
    if value.is_output:
        return None
    users = value.users()
    if len(users) == 2 and len(value.uses) == 2 and all(user.graph is node.graph for user in users):
        gate = next((user for user in users if user.is_op("Sigmoid")), None)
        if gate is None or only_user(gate) is None:
            return None
        product = only_user(gate)
        assert product is not None
        joined = product.is_op("Mul") and set(product.inputs) == {value, gate.output}
        return ([gate, product], "silu", 0.0, 0.0) if joined and not gate.output.is_output else None
    follower = only_user(node)
    found = None if follower is None else activation(follower)
    return None if follower is None or found is None else ([follower], *found)


def activation(node: Node) -> tuple[str, float, float] | None:
    """``node`` as an activation of the kernels: name and parameters; None where it is none."""
    kind = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
    match kind:
        case "Relu":
            return "relu", 0.0, 0.0
        case "Sigmoid" | "Tanh":
            return node.op_type.lower(), 0.0, 0.0
        case "LeakyRelu":
            return "leaky_relu", float(node.attr("alpha", 0.01)), 0.0
        case "HardSwish":
            return "hard_swish", 0.0, 0.0
        case "HardSigmoid":
            return "hard_sigmoid", float(node.attr("alpha", 0.2)), float(node.attr("beta", 0.5))
        case "Gelu":
            return ("gelu_tanh" if node.attr("approximate", "none") == "tanh" else "gelu"), 0.0, 0.0
        case "com.microsoft:Gelu":
            return "gelu", 0.0, 0.0
        case "com.microsoft:FastGelu" if node.input(1) is None:
            return "gelu_tanh", 0.0, 0.0
        case "com.microsoft:QuickGelu" if node.attr("alpha", 1.702) == 1.0:
            return "silu", 0.0, 0.0
        case "Swish" if node.attr("alpha", 1.0) == 1.0:
            return "silu", 0.0, 0.0
        case "Clip":
            bounds = [node.input(1), node.input(2)]
            held = [None if value is None else value.constant for value in bounds]
            if any(value is not None and constant is None for value, constant in zip(bounds, held, strict=True)):
                return None
            low, high = (
                default if constant is None else float(constant.numpy())
                for constant, default in zip(held, (-3e38, 3e38), strict=True)
            )
            return "clip", low, high
    return None
