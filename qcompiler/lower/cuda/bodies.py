"""Operators of domain ``qcompiler`` written in standard ones, so that any onnxruntime runs them.

A body follows the numpy reference step by step. Products of integers are taken in float32, which is exact up to 2**24;
beyond, and where a runtime computes exponentials in its own way, a result may be another by one step of its scale.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import parser

from qcompiler.ir import Function
from qcompiler.kernels import DOMAIN, KERNELS
from qcompiler.onnx_io import from_proto

__all__ = ["OLDEST_OPSET", "Variant", "function_of"]

OLDEST_OPSET = 17
"""The operator set that bodies need (LayerNormalization)."""

_FLOAT, _HALF, _INT8, _INT32, _INT64 = 1, 10, 3, 6, 7


@dataclass(frozen=True)
class Variant:
    """What of a node decides its body: the kernel, for each input its rank and element type (None: left out), and the
    attributes that are no numbers, or that a body cannot hand on."""

    kernel: str
    inputs: tuple[tuple[int, str] | None, ...]
    fixed: tuple[tuple[str, Any], ...]
    opset: int

    @property
    def overload(self) -> str:
        """A name for it among those of the same kernel."""
        given = "".join("_" if item is None else f"{item[1][0]}{item[0]}" for item in self.inputs)
        return "-".join([f"o{self.opset}", given, *(f"{value}" for _, value in self.fixed)])


def fixed_attributes(kernel: str, attributes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The attributes that decide the body of a node."""
    names = ["activation", "residual", "half", "transB", "bits", "block", "last", "first"]
    found = [(name, attributes[name]) for name in names if name in attributes]
    if kernel == "Int8ConvTranspose":
        found.append(("group", attributes["group"]))
    if "kernel_shape" in attributes:
        found.append(("whole", int(not attributes["kernel_shape"])))
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def function_of(variant: Variant) -> Function:
    """The function of ``variant``; its name is the kernel, its overload the variant's."""
    kernel = KERNELS[variant.kernel]
    writer = _Writer(variant)
    body = _BODIES.get(variant.kernel)
    if body is None:
        kernel.body(writer)
    else:
        body(writer)
    inputs = ", ".join(port.name for port, _ in zip(kernel.inputs, variant.inputs, strict=False))
    outputs = ", ".join(port.name for port in kernel.outputs)
    names = ", ".join(kernel.attributes)
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["" : {variant.opset}]>\n'
        f"{kernel.name} {f'<{names}>' if names else ''} ({inputs}) => ({outputs}) {{\n"
        + "\n".join(writer.lines)
        + "\n}"
    )
    proto = parser.parse_function(text)
    proto.overload = variant.overload
    model = onnx.ModelProto(ir_version=10)
    model.functions.append(proto)
    (function,) = from_proto(model).functions.values()
    return function


@dataclass
class _Writer:
    """Lines of the body in ONNX's text, and names for what is between them."""

    variant: Variant
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = [port.name for port in KERNELS[self.variant.kernel].inputs]
        self.fixed = dict(self.variant.fixed)

    def has(self, name: str) -> bool:
        place = self.ports.index(name)
        return place < len(self.variant.inputs) and self.variant.inputs[place] is not None

    def rank(self, name: str) -> int:
        found = self.variant.inputs[self.ports.index(name)]
        assert found is not None
        return found[0]

    def __call__(self, op: str, *inputs: str, give: str = "", **attributes: str) -> str:
        """A node; attributes are text behind the equals sign, ``kind: value`` as the parser takes it."""
        name = give or f"t{len(self.lines)}"
        said = ", ".join(f"{key}{value}" for key, value in attributes.items())
        self.lines.append(f"  {name} = {op} {f'<{said}>' if said else ''} ({', '.join(inputs)})")
        return name

    def constant(self, text: str) -> str:
        return self("Constant", value=f" = {text}")

    def number(self, value: float) -> str:
        return self("Constant", value_float=f" = {value!r}")

    def integers(self, *values: int) -> str:
        return self.constant(f"int64[{len(values)}] {{{', '.join(map(str, values))}}}")

    def to(self, kind: int, value: str, give: str = "") -> str:
        return self("Cast", value, to=f" = {kind}", give=give)

    def turned(self, value: str, *axes: int, give: str = "") -> str:
        return self("Transpose", value, perm=f" = [{', '.join(map(str, axes))}]", give=give)

    def centred(self, name: str, zero: str) -> str:
        """Integers as floats, their zero point taken away."""
        value = self.to(_FLOAT, name)
        return self("Sub", value, self.to(_FLOAT, zero)) if self.has(zero) else value

    def real(self, name: str, scale: str, zero: str) -> str:
        return self("Mul", self.centred(name, zero), scale)

    def reduced(self, op: str, value: str) -> str:
        """Over the last axis, which stays."""
        if op != "ReduceSum" and self.variant.opset < 18:
            return self(op, value, axes=" = [-1]", keepdims=" = 1")
        return self(op, value, self.integers(-1), keepdims=" = 1")

    def activated(self, x: str) -> str:
        match self.fixed["activation"]:
            case "none":
                return x
            case "relu":
                return self("Relu", x)
            case "clip":
                low = self("Constant", value_float=": float = @low")
                return self("Clip", x, low, self("Constant", value_float=": float = @high"))
            case "leaky_relu":
                return self("LeakyRelu", x, alpha=": float = @low")
            case "silu":
                return self("Mul", x, self("Sigmoid", x))
            case "gelu":
                inner = self("Erf", self("Mul", x, self.number(0.70710678)))
                return self("Mul", self("Mul", x, self.number(0.5)), self("Add", inner, self.number(1.0)))
            case "gelu_tanh":
                cube = self("Mul", self("Mul", self("Mul", x, x), x), self.number(0.044715))
                inner = self("Tanh", self("Mul", self("Add", x, cube), self.number(0.7978845608)))
                return self("Mul", self("Mul", x, self.number(0.5)), self("Add", inner, self.number(1.0)))
            case "hard_swish":
                return self("HardSwish", x)
            case "sigmoid":
                return self("Sigmoid", x)
            case "tanh":
                return self("Tanh", x)
            case "hard_sigmoid":
                return self("HardSigmoid", x, alpha=": float = @low", beta=": float = @high")
        raise ValueError(f"there is no activation '{self.fixed['activation']}'")

    def quantized(self, x: str, give: str = "y") -> None:
        zero = "y_zero_point" if self.has("y_zero_point") else self.constant("int8 {0}")
        self("QuantizeLinear", x, "y_scale", zero, give=give)

    def finished(self, real: str) -> None:
        """The epilogue."""
        if self.has("bias"):
            real = self("Add", real, "bias")
        other = ""
        if self.has("residual") and self.fixed["residual"] != "none":
            is_int8 = self.has("residual_scale")
            other = (
                self.real("residual", "residual_scale", "residual_zero_point")
                if is_int8
                else self.to(_FLOAT, "residual")
            )
        if other and self.fixed["residual"] == "before":
            real = self("Add", real, other)
        real = self.activated(real)
        if other and self.fixed["residual"] == "after":
            real = self("Add", real, other)
        if self.has("y_scale"):
            self.quantized(real)
        else:
            self.to(_HALF if self.fixed["half"] else _FLOAT, real, give="y")

    def swapped(self, value: str, rank: int) -> str:
        """The last two axes the other way round."""
        return self.turned(value, *range(rank - 2), rank - 1, rank - 2)

    def scaled(self, product: str, a_rank: int) -> None:
        """A product of integers by both scales, and the epilogue."""
        scale = "a_scale"
        if self.rank("a_scale") and self.rank("a_scale") == a_rank - 1:
            scale = self("Unsqueeze", "a_scale", self.integers(-1))
        self.finished(self("Mul", product, self("Mul", scale, "b_scale")))

    def unpacked(self, bits: int, width: str) -> str:
        """Fields of the bytes of b, int32 [N, width]."""
        field_bits = 4 if bits > 2 else bits
        per = 8 // field_bits
        units = ", ".join(str(1 << (field_bits * index)) for index in range(per))
        held = self("Unsqueeze", self.to(_INT32, "b"), self.integers(2))
        shifted = self("Div", held, self.constant(f"int32[{per}] {{{units}}}"))
        values = self("Mod", shifted, self.constant(f"int32 {{{1 << field_bits}}}"))
        flat = self("Reshape", values, self.integers(0, -1))
        return self("Slice", flat, self.integers(0), width, self.integers(1))


def _matmul(w: _Writer) -> None:
    b = w.centred("b", "b_zero_point")
    if w.fixed["transB"]:
        b = w.swapped(b, w.rank("b"))
    w.scaled(w("MatMul", w.centred("a", "a_zero_point"), b), w.rank("a"))


def _rows(w: _Writer, x: str) -> tuple[str, str]:
    """Rows quantized by their own ranges: levels and scales [..., 1], in floats."""
    most = w.reduced("ReduceMax", w("Abs", x))
    scale = w("Div", most, w.number(127.0))
    scale = w("Where", w("Greater", scale, w.number(1.1754944e-38)), scale, w.number(1.0))
    level = w("Clip", w("Round", w("Div", x, scale)), w.number(-128.0), w.number(127.0))
    return level, scale


def _quantize_rows(w: _Writer) -> None:
    level, scale = _rows(w, w.to(_FLOAT, "x"))
    w.to(_INT8, level, give="y")
    w("Squeeze", scale, w.integers(-1), give="scale")


def _dynamic(w: _Writer) -> None:
    level, scale = _rows(w, w.to(_FLOAT, "a"))
    product = w("MatMul", level, w.swapped(w.to(_FLOAT, "b"), 2))
    w.finished(w("Mul", product, w("Mul", scale, "b_scale")))


def _width(w: _Writer) -> str:
    """K, int64 [1]."""
    return w("Shape", "a", start=" = -1")


def _codebook(w: _Writer) -> None:
    index = w.unpacked(w.fixed["bits"], _width(w))
    weights = w.to(_FLOAT, w("Gather", "codebook", index))
    w.scaled(w("MatMul", w.centred("a", "a_zero_point"), w.swapped(weights, 2)), w.rank("a"))


def _blocks(w: _Writer) -> None:
    width = _width(w)
    level = w("Sub", w.to(_FLOAT, w.unpacked(4, width)), w.number(8.0))
    held = w("Unsqueeze", "b_scale", w.integers(2))
    spread = w("Expand", held, w.integers(1, 1, w.fixed["block"]))
    scale = w("Slice", w("Reshape", spread, w.integers(0, -1)), w.integers(0), width, w.integers(1))
    product = w("MatMul", w.to(_FLOAT, "a"), w.swapped(w("Mul", level, scale), 2))
    w.finished(w("Mul", product, w("Unsqueeze", "a_scale", w.integers(-1))))


_WINDOW = {"strides": ": ints = @strides", "pads": ": ints = @pads", "dilations": ": ints = @dilations"}


def _conv(w: _Writer) -> None:
    x = w.turned(w.centred("x", "x_zero_point"), 0, 3, 1, 2)
    weights = w.turned(w.to(_FLOAT, "w"), 0, 3, 1, 2)
    _convolved(w, w("Conv", x, weights, group=": int = @group", **_WINDOW))


def _conv_transpose(w: _Writer) -> None:
    x = w.turned(w.centred("x", "x_zero_point"), 0, 3, 1, 2)
    weights = w.to(_FLOAT, "w")
    if w.fixed["group"] == 1:
        weights = w.turned(weights, 3, 0, 1, 2)
    else:
        shape = w("Concat", w.integers(w.fixed["group"], -1), w("Shape", "w", start=" = 1"), axis=" = 0")
        apart = w.turned(w("Reshape", weights, shape), 0, 4, 1, 2, 3)
        joined = w("Concat", w.integers(-1), w("Shape", apart, start=" = 2"), axis=" = 0")
        weights = w("Reshape", apart, joined)
    more = {"output_padding": ": ints = @output_padding", "group": ": int = @group"}
    _convolved(w, w("ConvTranspose", x, weights, **more, **_WINDOW))


def _convolved(w: _Writer, product: str) -> None:
    w.finished(w("Mul", w.turned(product, 0, 2, 3, 1), w("Mul", "x_scale", "w_scale")))


_POOL = {"kernel_shape": ": ints = @kernel_shape", "ceil_mode": ": int = @ceil_mode"}


def _max_pool(w: _Writer) -> None:
    if w.fixed["whole"]:
        x = w("GlobalMaxPool", w.turned(w.to(_FLOAT, "x"), 0, 3, 1, 2))
        w.turned(w.to(_INT8, x), 0, 2, 3, 1, give="y")
    else:
        w.turned(w("MaxPool", w.turned("x", 0, 3, 1, 2), **_POOL, **_WINDOW), 0, 2, 3, 1, give="y")


def _average_pool(w: _Writer) -> None:
    x = w.turned(w.centred("x", "x_zero_point"), 0, 3, 1, 2)
    if w.fixed["whole"]:
        mean = w("GlobalAveragePool", x)
    else:
        window = {name: text for name, text in _WINDOW.items() if name != "dilations" or w.variant.opset >= 19}
        mean = w("AveragePool", x, count_include_pad=": int = @count_include_pad", **_POOL, **window)
    w.quantized(w.turned(w("Mul", mean, "x_scale"), 0, 2, 3, 1))


def _pair(op: str) -> Callable[[_Writer], None]:
    def write(w: _Writer) -> None:
        both = (w.real(name, f"{name}_scale", f"{name}_zero_point") for name in "ab")
        w.quantized(w.activated(w(op, *both)))

    return write


def _concat(w: _Writer) -> None:
    parts = [w.real(name, f"{name}_scale", f"{name}_zero_point") for name in "abcd" if w.has(name)]
    w.quantized(w("Concat", *parts, axis=": int = @axis") if len(parts) > 1 else parts[0])


def _upsample(w: _Writer) -> None:
    """Each pixel spread over a new axis, which is then joined with its own."""
    shape = w("Shape", "x")
    one, factor = w.integers(1), w("Constant", value_ints=": ints = @factors")
    sizes = [w("Slice", shape, w.integers(i), w.integers(i + 1), w.integers(0)) for i in range(4)]
    steps = [w("Slice", factor, w.integers(i), w.integers(i + 1), w.integers(0)) for i in range(2)]
    apart = w("Reshape", "x", w("Concat", sizes[0], sizes[1], one, sizes[2], one, sizes[3], axis=" = 0"))
    spread = w("Concat", sizes[0], sizes[1], steps[0], sizes[2], steps[1], sizes[3], axis=" = 0")
    # Expand is not there for int8 everywhere
    wide = w.to(_INT8, w("Expand", w.to(_FLOAT, apart), spread))
    high = [w("Mul", sizes[1], steps[0]), w("Mul", sizes[2], steps[1])]
    w("Reshape", wide, w("Concat", sizes[0], *high, sizes[3], axis=" = 0"), give="y")


def _lookup(w: _Writer) -> None:
    w("Gather", "table", w("Add", w.to(_INT32, "x"), w.constant("int32 {128}")), give="y")


def _quantize(w: _Writer) -> None:
    w.quantized(w.to(_FLOAT, "x"), give="t" if w.fixed["last"] else "y")
    if w.fixed["last"]:
        w.turned("t", 0, 2, 3, 1, give="y")


def _dequantize(w: _Writer) -> None:
    real = w.real("x", "x_scale", "x_zero_point")
    if w.fixed["first"]:
        real = w.turned(real, 0, 3, 1, 2)
    w.to(_HALF if w.fixed["half"] else _FLOAT, real, give="y")


def _softmax(w: _Writer) -> None:
    w.quantized(w("Softmax", w("Mul", w.to(_FLOAT, "x"), "x_scale"), axis=" = -1"))


def _layer_norm(w: _Writer) -> None:
    inputs = [w.real("x", "x_scale", "x_zero_point"), "gain", *(["bias"] if w.has("bias") else [])]
    w.quantized(w("LayerNormalization", *inputs, axis=" = -1", epsilon=": float = @epsilon"))


def _rms_norm(w: _Writer) -> None:
    x = w.real("x", "x_scale", "x_zero_point")
    mean = w.reduced("ReduceMean", w("Mul", x, x))
    root = w("Sqrt", w("Add", mean, w("Constant", value_float=": float = @epsilon")))
    real = w("Mul", w("Div", x, root), "gain")
    w.quantized(w("Add", real, "bias") if w.has("bias") else real)


_BODIES: dict[str, Callable[[_Writer], None]] = {
    "BlockMatMul": _blocks,
    "CodebookMatMul": _codebook,
    "Dequantize": _dequantize,
    "DynamicMatMul": _dynamic,
    "Int8Add": _pair("Add"),
    "Int8AveragePool": _average_pool,
    "Int8Concat": _concat,
    "Int8Conv": _conv,
    "Int8ConvTranspose": _conv_transpose,
    "Int8LayerNorm": _layer_norm,
    "Int8Lookup": _lookup,
    "Int8MatMul": _matmul,
    "Int8MaxPool": _max_pool,
    "Int8Mul": _pair("Mul"),
    "Int8RMSNorm": _rms_norm,
    "Int8Softmax": _softmax,
    "Int8Upsample": _upsample,
    "Quantize": _quantize,
    "QuantizeRows": _quantize_rows,
}


def variant_of(
    kernel: str, inputs: Sequence[tuple[int, str] | None], attributes: Mapping[str, Any], opset: int
) -> Variant:
    """The variant of a node by its inputs (rank and element type) and its settled attributes."""
    return Variant(kernel, tuple(inputs), fixed_attributes(kernel, attributes), opset)
