"""What onnxruntime's CPU provider runs in integers (kernels registered in its wheels since 1.22), node by node."""

from __future__ import annotations

from qcompiler.calibrate import reachable
from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, Value
from qcompiler.lower.target import Group
from qcompiler.ops import info

__all__ = [
    "added_bias",
    "find_groups",
    "glue_candidates",
    "glue_nodes",
    "group_of",
    "is_table",
    "objection",
    "only_user",
    "table_group",
    "weight_axis",
]

_REQUANTIZES = {"Conv"}  # QLinearConv has no form with a float output; MatMul and Gemm do
_TABLE = 1 << 12  # elements of a table below which storing it in fewer bits saves nothing worth an operator


def find_groups(model: Model) -> tuple[list[Group], dict[Node, str]]:
    """The groups in order, those in branches and loops too, and why other nodes that multiply stay float."""
    groups: list[Group] = []
    refused: dict[Node, str] = {}
    for graph in model.graphs():
        for node in graph:
            known = info(node)
            if graph is model.graph and is_table(node):
                groups.append(table_group(node))
            if known is None or known.role != "compute":
                continue
            reason = _objection(node, model) if reachable(graph, model) else "it stands where nothing can be observed"
            if reason:
                refused[node] = reason
            else:
                groups.append(group_of(node, node.op_type in _REQUANTIZES))
    return groups, refused


def glue_candidates(model: Model) -> list[Node]:
    """Nodes that could run in integers between groups."""
    return [node for graph in model.graphs() if reachable(graph, model) for node in graph if _is_glue(node)]


def glue_nodes(model: Model, active: set[Node], outputs: set[Value]) -> list[Node]:
    """Nodes between groups that run on integers too, so that no value has to be made float in between.

    ``active`` are the nodes of the chosen groups, ``outputs`` the values they give in integers. A glue node is taken
    when everything it reads is there in integers, and what it gives goes into integers again.
    """
    there = set(outputs)
    candidates: list[Node] = []
    for node in glue_candidates(model):
        if node in active or node.output.quant is None:
            continue
        data = _data(node)
        if data and all(value in there for value in data):
            candidates.append(node)
            there.update(node.outputs[:1])
    kept: set[Node] = set()
    for node in reversed(candidates):
        value = node.output
        users = value.users()
        onward = users and not value.output_uses and all(user in active or user in kept for user in users)
        if onward:
            kept.add(node)
    return [node for node in candidates if node in kept]


def _objection(node: Node, model: Model) -> str:
    """Why ``node`` cannot run in integers, or nothing."""
    if node.op_type == "ConvTranspose":
        return "onnxruntime has no integer ConvTranspose on the CPU"
    return objection(node, model)


def objection(node: Node, model: Model) -> str:
    """Why ``node``, a product with constant weights, has no form in Q/DQ; empty where it has."""
    if model.opset < 13:
        return f"operator set {model.opset} has no quantization per channel"
    if any(value.dtype is not DType.FLOAT for value in node.inputs if value is not None):
        kinds = sorted({value.dtype.name.lower() if value.dtype else "unknown" for value in node.inputs if value})
        return f"its inputs are {', '.join(kinds)}, not float"
    weight = node.input(1)
    assert weight is not None
    held = weight.constant
    if node.op_type != "MatMul" and held is None:
        return "its weights are computed at run time or can be overridden"
    if held is None:
        return "both factors are computed at run time"
    if held.size == 0:
        return "its weights are empty"
    if node.op_type == "MatMul" and len(held.shape) != 2:
        return f"its weights have {len(held.shape)} axes"
    if node.op_type == "Gemm" and (
        node.attr("transA", 0) or node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0
    ):
        return "a scaled or transposed Gemm has no integer form"
    bias = node.input(2)
    if bias is not None and bias.constant is None:
        return "its bias is computed at run time or can be overridden"
    channels = held.shape[weight_axis(node)]
    if bias is not None and bias.constant is not None and bias.constant.shape not in ((channels,), (1, channels)):
        return "its bias is not one number per output channel"
    if held.size < 16:
        return "its weights are a handful of numbers"
    return ""


def group_of(node: Node, requantizes: bool = False) -> Group:
    """The group around a product with constant weights: its bias, and an activation that only cuts off. Where the
    activation is part of it, or with ``requantizes``, its output is an integer."""
    absorbed: list[Node] = [node]
    bias = node.input(2)
    follower = only_user(node)
    if node.is_op("MatMul"):
        if follower is not None and (added := added_bias(follower, node)) is not None:
            absorbed.append(follower)
            bias = added
    # An activation that only cuts off disappears into the integer range of what follows.
    # Left alone behind a Gemm it would be fused into a float Gemm before the integer form is looked for.
    elif follower is not None and _cuts_at_zero(follower):
        absorbed.append(follower)
    data = node.inputs[0]
    assert data is not None
    return Group(
        node.name or node.output.name,
        node,
        tuple(absorbed),
        (data,),
        node.input(1),
        bias,
        weight_axis(node),
        absorbed[-1].output,
        requantizes or (len(absorbed) > 1 and not node.is_op("MatMul")),
    )


def only_user(node: Node) -> Node | None:
    """The one node that reads what ``node`` gives, if nobody else does."""
    users = node.output.users()
    alone = len(node.output.uses) == 1 and len(users) == 1 and users[0].graph is node.graph
    return users[0] if alone else None


def added_bias(node: Node, product: Node) -> Value | None:
    """What ``node`` adds to ``product`` if that is one number for each output channel."""
    weight = product.input(1)
    if not node.is_op("Add") or weight is None or weight.constant is None:
        return None
    added = next((value for value in node.inputs if value is not product.output), None)
    if added is None or added.constant is None or added.dtype is not DType.FLOAT:
        return None
    return added if added.constant.shape == weight.constant.shape[-1:] else None


def is_table(node: Node) -> bool:
    """True for a Gather of whole rows from a constant table of floats."""
    table = node.input(0)
    if not node.is_op("Gather") or table is None or table.constant is None or table.dtype is not DType.FLOAT:
        return False
    return len(table.constant.shape) == 2 and node.attr("axis", 0) == 0 and table.constant.size >= _TABLE


def table_group(node: Node) -> Group:
    """The group of a table, which has only weights."""
    return Group(
        node.name or node.output.name, node, (node,), (), node.inputs[0], None, 0, node.output, requantizes=False
    )


def weight_axis(node: Node) -> int:
    """Axis of the output channels in the weights."""
    if node.op_type == "Gemm":
        return 0 if node.attr("transB", 0) else 1
    return 1 if node.op_type in ("MatMul", "ConvTranspose") else 0


def _cuts_at_zero(node: Node) -> bool:
    """Relu, or a Clip from zero upwards by constants."""
    if node.is_op("Relu"):
        return True
    if not node.is_op("Clip") or len(node.inputs) < 2:
        return False
    bounds = [value.constant if value is not None else None for value in node.inputs[1:]]
    return all(bound is not None for bound in bounds) and float(bounds[0].numpy()) == 0.0  # type: ignore[union-attr]


def _is_glue(node: Node) -> bool:
    known = info(node)
    if known is None or known.role not in ("movement", "monotone", "arith") or node.op_type in ("Clip", "Identity"):
        return False
    if len(node.outputs) != 1:
        return False
    return node.op_type in ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Add",
                            "AveragePool", "GlobalAveragePool", "Relu", "Resize")  # fmt: skip


def _data(node: Node) -> list[Value]:
    known = info(node)
    assert known is not None
    places = range(len(node.inputs)) if known.data_inputs is None else known.data_inputs
    return [value for place in places if (value := node.input(place)) is not None]
