"""What changed between the versions of the standard operators, as edits of one node.

A rule takes a node over one boundary: from the version of its operator before an opset to the version that came with
it. Each says what changed in which version; versions that only took more types, or more inputs and attributes that
may be left out, need no rule (see :mod:`qcompiler.onnx_io.opset`).

Two texts changed and the operator did not, so there is no rule either: OneHot 11 counts negative indices from the
end, where indices had to be non-negative before (onnxruntime counts so in every version); ConvTranspose 11 puts the
odd element of automatic padding on the other side, which was a mistake in the older text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import TensorType
from qcompiler.onnx_io.opset_draft import Draft, Refusal

__all__ = ["RULES", "SAME", "Rule"]

Rule = Callable[[Draft], None]


# Attributes that became inputs


def _to_input(name: str, position: int, *, required: bool = False) -> Rule:
    """The integers of attribute ``name`` became input ``position``. An empty list that may be left out meant none."""

    def rule(draft: Draft) -> None:
        items: Sequence[int] = draft.take(name) if required else draft.take(name, ())
        if required or items:
            draft.put(position, draft.constant(items, DType.INT64, name))

    return rule


def _slice_10(draft: Draft) -> None:
    """Slice 10: ``starts``, ``ends`` and ``axes`` became inputs 1 to 3; ``steps`` is new and 1 by default."""
    for position, name in enumerate(("starts", "ends", "axes"), start=1):
        _to_input(name, position, required=name != "axes")(draft)


def _topk_10(draft: Draft) -> None:
    """TopK 10: ``k`` became input 1, of shape [1]."""
    draft.put(1, draft.constant([draft.take("k")], DType.INT64, "k"))


def _pad_2(draft: Draft) -> None:
    """Pad 2: ``paddings`` was renamed to ``pads``."""
    draft.set("pads", draft.take("paddings"))


def _pad_11(draft: Draft) -> None:
    """Pad 11: ``pads`` and ``value`` became inputs 1 and 2, the latter of the element type of the data."""
    draft.put(1, draft.constant(draft.take("pads"), DType.INT64, "pads"))
    value = draft.take("value", 0.0)
    if draft.get("mode", "constant") == "constant" and (value != 0 or math.copysign(1, value) < 0):
        draft.put(2, draft.constant(value, draft.dtype(0), "value"))


def _clip_11(draft: Draft) -> None:
    """Clip 11: ``min`` and ``max`` became inputs 1 and 2, of the element type of the data.

    Left out, they used to be the limits of float32, and have become the limits of that type.
    """
    dtype = draft.dtype(0)
    limit = float(np.finfo(np.float32).max)
    for position, (name, default) in enumerate((("min", -limit), ("max", limit)), start=1):
        value = draft.take(name, None)
        if value is not None or dtype is not DType.FLOAT:
            draft.put(position, draft.constant(default if value is None else value, dtype, name))


def _dropout_12(draft: Draft) -> None:
    """Dropout 12: ``ratio`` became input 1; input 2 is new, and without it nothing is dropped, as before.

    The mask of such a node is all ones. Before, nothing was said of it, and onnxruntime gives zeros.
    """
    if any(mask.uses for mask in draft.node.outputs[1:]):
        raise Refusal("its mask is used, and has other elements")
    ratio = draft.take("ratio", None)
    if ratio is not None:
        draft.put(1, draft.constant(ratio, DType.FLOAT, "ratio"))


def _split_18(draft: Draft) -> None:
    """Split 18: without sizes, ``num_outputs`` must say into how many parts."""
    if not draft.has(1):
        draft.set("num_outputs", len(draft.node.outputs))


def _upsample_9(draft: Draft) -> None:
    """Upsample 9: ``scales`` became input 1."""
    draft.put(1, draft.constant(draft.take("scales"), DType.FLOAT, "scales"))


def _dft_20(draft: Draft) -> None:
    """DFT 20: ``axis`` became input 2, and its default -2 instead of 1."""
    draft.put(2, draft.constant(draft.take("axis", 1), DType.INT64, "axis"))


# Operators under a new name


def _upsample_10(draft: Draft) -> None:
    """Upsample 10: deprecated for Resize, whose scales may be below 1 too."""
    draft.op_type, draft.enlarges = "Resize", True


def _scatter_11(draft: Draft) -> None:
    """Scatter 11: renamed to ScatterElements."""
    draft.op_type = "ScatterElements"


# Changed meanings


def _softmax_13(draft: Draft) -> None:
    """Softmax, LogSoftmax and Hardmax 13: along one axis, the last by default.

    Before, along all axes from ``axis`` (1 by default) on, as if flattened. That is the same where the axes after it
    are of size 1; else the flattening has to be written down.
    """
    axis = draft.take("axis", 1)
    shape = draft.shape(0)
    following = None
    if shape is not None and axis < len(shape):
        following = shape[axis % len(shape) + 1 :]
    if axis == -1 or (following is not None and all(size == 1 for size in following)):
        draft.set("axis", axis)
    else:
        flat = draft.insert("Flatten", [draft.inputs[0]], axis=axis)
        made = draft.insert(draft.op_type, [flat], draft.name, axis=-1)
        if shape is not None and all(isinstance(size, int) and size > 0 for size in shape):
            target = draft.constant(shape, DType.INT64, "shape")
        else:
            target = draft.insert("Shape", [draft.inputs[0]])
        draft.op_type, draft.name, draft.attrs, draft.inputs = "Reshape", "", {}, [made, target]


def _resize_11(draft: Draft) -> None:
    """Resize 11: inputs are now data, region, scales, sizes, and there are many ways to map coordinates.

    Before, a coordinate was divided by the scale; the nearest element was the one before it where the scale
    enlarges, and the one after it where it shrinks.
    """
    draft.set("coordinate_transformation_mode", "asymmetric")
    if draft.get("mode", "nearest") == "nearest":
        held = draft.known(1)
        scales = held.numpy() if held is not None else None
        if draft.enlarges or (scales is not None and (scales >= 1).all()):
            draft.set("nearest_mode", "floor")
        elif scales is not None and (scales <= 1).all():
            draft.set("nearest_mode", "ceil")
        else:
            raise Refusal("it enlarges and shrinks at once" if held is not None else "its scales are not constant")
    data, scale = draft.inputs
    region = None if draft.version >= 13 else draft.constant([], DType.FLOAT, "roi")  # optional since 13
    draft.inputs = [data, region, scale]


def _resize_13(draft: Draft) -> None:
    """Resize 13: ``tf_half_pixel_for_nn`` is no more, and where there are sizes the empty scales are left out."""
    if draft.get("coordinate_transformation_mode", "half_pixel") == "tf_half_pixel_for_nn":
        raise Refusal("coordinate_transformation_mode tf_half_pixel_for_nn has no counterpart")
    if draft.has(3):
        draft.inputs[2] = None


def _roi_align_16(draft: Draft) -> None:
    """RoiAlign 16: half a pixel is now subtracted, unless ``coordinate_transformation_mode`` says otherwise."""
    draft.set("coordinate_transformation_mode", "output_half_pixel")


def _dropout_10(draft: Draft) -> None:
    """Dropout 10: the mask is of booleans; it used to be of the type of the data."""
    for mask in draft.node.outputs[1:]:
        if mask.uses:
            raise Refusal("its mask is used, and has become boolean")
        if mask.type is not None:
            draft.retyped[mask] = TensorType(DType.BOOL, mask.shape)


def _batch_norm_9(draft: Draft) -> None:
    """BatchNormalization 9: ``spatial`` went. 0 meant a scale for each element, [C, D1, ...] instead of [C]."""
    if not draft.take("spatial", 1) and draft.rank(1) != 1:
        raise Refusal("spatial is 0")


def _batch_norm_14(draft: Draft) -> None:
    """BatchNormalization 14: training has its own attribute and other outputs, inputs 3 and 4 other names.

    Before, a node was in training when it gave more than one output.
    """
    if any(value.name or value.uses for value in draft.node.outputs[1:]):
        raise Refusal("it gives the statistics of training")


def _erf_13(draft: Draft) -> None:
    """Erf 13: no longer defined on integers."""
    if not draft.dtype(0).is_float:
        raise Refusal("it is applied to integers")


def _quantize_19(draft: Draft) -> None:
    """QuantizeLinear 19: data and scale must be of one type; before, int32 data went with a float scale."""
    if draft.dtype(0) is not draft.dtype(1):
        raise Refusal("data and scale are of different types")


def _grid_sample_20(draft: Draft) -> None:
    """GridSample 20: modes ``bilinear`` and ``bicubic`` were renamed to ``linear`` and ``cubic``."""
    mode = draft.get("mode", "bilinear")
    draft.set("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _pool(draft: Draft) -> None:
    """AveragePool 19 and 22, MaxPool 22: windows that start in the padding at the end are counted differently."""
    if draft.get("ceil_mode", 0):
        raise Refusal("ceil_mode is set, and means something else")


def _attention_24(draft: Draft) -> None:
    """Attention 24: the causal mask was defined anew for keys that outnumber the queries."""
    if draft.get("is_causal", 0):
        raise Refusal("its causal mask is another one")


# Before opset 7


def _broadcast_7(draft: Draft) -> None:
    """Add, And, Div, Equal, Greater, Less, Mul, Or, Pow, Sub and Xor 7: broadcasting as in numpy.

    Before, only with ``broadcast``, where ``axis`` said with which axis of the first input the second one begins.
    """
    axis = draft.take("axis", None)
    if not draft.take("broadcast", 0) or axis is None:
        return
    first, second = draft.rank(0), draft.rank(1)
    following = first - (axis + first if axis < 0 else axis) - second
    if second and following > 0:
        shape = draft.constant([0] * second + [1] * following, DType.INT64, "shape")  # 0 keeps the size
        draft.inputs[1] = draft.insert("Reshape", [draft.inputs[1], shape])


def _gemm_7(draft: Draft) -> None:
    """Gemm 7: the third input broadcasts by itself, without ``broadcast``."""
    draft.take("broadcast", 0)


def _prelu_7(draft: Draft) -> None:
    """PRelu 7: the slope broadcasts as in numpy. Before, one of more than one element was along axis 1."""
    slope = draft.shape(1)
    if slope is None or len(slope) == 1:
        following = draft.rank(0) - 2
        if draft.rank(1) and slope != (1,) and following > 0:
            shape = draft.constant([-1] + [1] * following, DType.INT64, "shape")
            draft.inputs[1] = draft.insert("Reshape", [draft.inputs[1], shape])


def _inference_7(draft: Draft) -> None:
    """BatchNormalization and Dropout 7: ``is_test`` went; before, 0 and the default meant training."""
    if not draft.take("is_test", 0):
        raise Refusal("it is in training, is_test is not set")


def _rnn_7(draft: Draft) -> None:
    """RNN, GRU and LSTM 7: ``output_sequence`` went, output 0 is given when somebody takes it."""
    if not draft.take("output_sequence", 0) and draft.node.output.uses:
        raise Refusal("output 0 is used, but output_sequence is not set")


def _concat_4(draft: Draft) -> None:
    """Concat 4: ``axis`` must be given; its default was 1."""
    draft.set("axis", draft.get("axis", 1))


def _cast_6(draft: Draft) -> None:
    """Cast 6: ``to`` is the number of the type, no longer its name."""
    name = str(draft.take("to")).upper()
    if name not in DType.__members__:
        raise Refusal(f"there is no element type {name}")
    draft.set("to", int(DType[name]))


def _selu_6(draft: Draft) -> None:
    """Selu 6: the defaults are more precise."""
    draft.set("alpha", draft.get("alpha", 1.6732))
    draft.set("gamma", draft.get("gamma", 1.0507))


_BROADCASTING = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

RULES: dict[tuple[str, int], Rule] = {
    ("AveragePool", 19): _pool,
    ("AveragePool", 22): _pool,
    ("Attention", 24): _attention_24,
    ("BatchNormalization", 7): _inference_7,
    ("BatchNormalization", 9): _batch_norm_9,
    ("BatchNormalization", 14): _batch_norm_14,
    ("Cast", 6): _cast_6,
    ("Clip", 11): _clip_11,
    ("Concat", 4): _concat_4,
    ("DFT", 20): _dft_20,
    ("Dropout", 7): _inference_7,
    ("Dropout", 10): _dropout_10,
    ("Dropout", 12): _dropout_12,
    ("Erf", 13): _erf_13,
    ("GRU", 7): _rnn_7,
    ("Gemm", 7): _gemm_7,
    ("GridSample", 20): _grid_sample_20,
    ("Hardmax", 13): _softmax_13,
    ("LSTM", 7): _rnn_7,
    ("LogSoftmax", 13): _softmax_13,
    ("MaxPool", 22): _pool,
    ("PRelu", 7): _prelu_7,
    ("Pad", 2): _pad_2,
    ("Pad", 11): _pad_11,
    ("QuantizeLinear", 19): _quantize_19,
    ("RNN", 7): _rnn_7,
    ("ReduceSum", 13): _to_input("axes", 1),
    ("Reshape", 5): _to_input("shape", 1, required=True),
    ("Resize", 11): _resize_11,
    ("Resize", 13): _resize_13,
    ("RoiAlign", 16): _roi_align_16,
    ("Scatter", 11): _scatter_11,
    ("Selu", 6): _selu_6,
    ("Slice", 10): _slice_10,
    ("Softmax", 13): _softmax_13,
    ("Split", 13): _to_input("split", 1),
    ("Split", 18): _split_18,
    ("Squeeze", 13): _to_input("axes", 1),
    ("TopK", 10): _topk_10,
    ("Unsqueeze", 13): _to_input("axes", 1, required=True),
    ("Upsample", 9): _upsample_9,
    ("Upsample", 10): _upsample_10,
    **{(op_type, 7): _broadcast_7 for op_type in _BROADCASTING},
    **{(f"Reduce{kind}", 18): _to_input("axes", 1) for kind in _REDUCTIONS},
}
"""(operator, opset that changed it): what has to be done to a node."""

SAME = {
    ("Clip", 6),  # the defaults that the text named before became part of the definition
    ("GRU", 3),  # the default of direction had a spelling mistake
}
"""Changes that look like more than they are."""
