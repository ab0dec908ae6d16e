"""The one table of what is known of an operator. An operator that is not in it is a barrier, never a guess."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qcompiler.ir import Node, Shape

__all__ = ["OpInfo", "Role", "info", "is_pure", "known_ops", "macs", "total_macs", "weight_macs"]

Role = str
"""How a target may see the op when it quantizes:

``compute``   multiplies by weights or activations and accumulates: worth int8 by itself
``movement``  passes elements on unchanged, so that input and output share scale and zero point
``monotone``  keeps order (MaxPool, Relu, Clip): may run on the integers of its input
``arith``     has an integer form that must requantize (Add, Mul, Concat, pooling by average)
``float``     stays float
"""


@dataclass(frozen=True, slots=True)
class OpInfo:
    """What is known of one operator of the standard domain.

    ``commutative``: the inputs may be taken in any order. ``elementwise``: each output element depends on the
    elements that stand at its place after broadcasting. ``deterministic``: same inputs, same outputs.
    ``data_inputs``: the inputs that carry activations; the others are shapes, axes, weights. None means all.
    ``weight``: the input that holds weights when it is constant, with ``weight_axis`` the axis of its output
    channels and ``bias`` the input that is added per output channel.
    """

    name: str
    role: Role = "float"
    commutative: bool = False
    elementwise: bool = False
    deterministic: bool = True
    data_inputs: tuple[int, ...] | None = None
    weight: int | None = None
    weight_axis: int = 0
    bias: int | None = None


def info(node: Node) -> OpInfo | None:
    """What is known of ``node``; None for an operator that is not in the table."""
    return _TABLE.get(node.op_type) if not node.domain else None


def is_pure(node: Node) -> bool:
    """True when ``node`` may be dropped if unused, computed at compile time, or merged with its twin."""
    if f"{node.domain}:{node.op_type}" in _PURE:
        return True
    found = info(node)
    if found is None or not found.deterministic:
        return False
    if node.op_type == "Dropout" and (training := node.input(2)) is not None:
        held = training.constant
        if held is None or held.numpy().any():
            return False  # in training it draws
    return all(is_pure(inner) for graph in node.subgraphs() for inner in graph.all_nodes())


def known_ops() -> dict[str, OpInfo]:
    """The whole table, by operator type."""
    return dict(_TABLE)


_PURE = frozenset({"com.microsoft:Gelu", "com.microsoft:FastGelu", "com.microsoft:QuickGelu"})
"""Operators beyond the standard that our own passes write, and that are functions of their inputs."""

_TABLE: dict[str, OpInfo] = {}


def _add(names: str, **fields: object) -> None:
    for name in names.split():
        base = _TABLE.get(name, OpInfo(name))
        _TABLE[name] = replace(base, **fields)  # type: ignore[arg-type]


# Everything of the standard domain that computes the same from the same inputs.
_add(
    "Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization "
    "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike CausalConvWithState Ceil "
    "Celu CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger "
    "ConvTranspose Cos Cosh CumProd CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout "
    "DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike FlexAttention Flatten Floor GRU Gather "
    "GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample "
    "GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageDecoder "
    "InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual LinearAttention Log "
    "LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean "
    "MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg NegativeLogLikelihoodLoss NonMaxSuppression "
    "NonZero Not OneHot Optional OptionalGetElement OptionalHasElement Or PRelu Pad Pow QLinearConv QLinearMatMul "
    "QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence "
    "RoiAlign RotaryEmbedding Round STFT Scan ScatterElements ScatterND Selu SequenceAt SequenceConstruct "
    "SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign Sin Sinh Size "
    "Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze "
    "StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu "
    "Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor"
)
_add("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli", deterministic=False)

_add("Add Mul And Or Xor Equal BitwiseAnd BitwiseOr BitwiseXor Max Min Sum Mean", commutative=True)
_add(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu "
    "Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor",
    elementwise=True,
)

_add("Conv ConvTranspose", role="compute", data_inputs=(0,), weight=1, bias=2)
_add("ConvTranspose", weight_axis=1)
_add("Gemm", role="compute", data_inputs=(0, 1), weight=1, weight_axis=1, bias=2)
_add("MatMul", role="compute", data_inputs=(0, 1), weight=1, weight_axis=-1)
_add(
    "Reshape Transpose Flatten Squeeze Unsqueeze Slice Gather Split DepthToSpace SpaceToDepth Tile Expand "
    "GatherElements GatherND Identity",
    role="movement",
    data_inputs=(0,),
)
_add("MaxPool", role="monotone", data_inputs=(0,))
_add("Relu Clip", role="monotone", data_inputs=(0,))
_add("Add Mul Concat", role="arith")
_add("AveragePool GlobalAveragePool", role="arith", data_inputs=(0,))


_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def macs(node: Node) -> int:
    """Multiply-accumulate operations of one run of ``node``, from the shapes of its values.

    Symbolic sizes count as one, so that the number is per row of a dynamic batch; 0 where shapes are unknown or the
    operator does not multiply and accumulate.
    """
    return sum(weight_macs(node).values())


def total_macs(graph: Iterable[Node]) -> int:
    """:func:`macs` of all nodes together."""
    return sum(map(macs, graph))


def weight_macs(node: Node) -> dict[int, int]:
    """:func:`macs` by the input whose elements are multiplied: weights, where there are any.

    A recurrent operator has two, for what comes in (1) and for its own state (2).
    """
    known = info(node)
    data, weight = node.input(0), node.input(1)
    if data is None or weight is None or data.shape is None or weight.shape is None:
        return {}
    if node.op_type in _RECURRENT and known is not None:
        state = node.input(2)
        steps = _product(data.shape[:-1])  # length times batch
        return {1: steps * _product(weight.shape), 2: steps * _product(state.shape if state is not None else None)}
    if known is None or known.role != "compute":
        return {}
    if node.op_type == "Conv":
        return {1: _product(node.output.shape) * _product(weight.shape[1:])}
    if node.op_type == "ConvTranspose":
        return {1: _product(data.shape) * _product(weight.shape[1:])}
    inner = data.shape[-1] if not node.attr("transA", 0) else data.shape[0]
    return {1: _product(node.output.shape) * (inner if isinstance(inner, int) else 1)}


def _product(shape: Shape | None) -> int:
    if shape is None:
        return 0
    total = 1
    for size in shape:
        total *= size if isinstance(size, int) else 1
    return total
