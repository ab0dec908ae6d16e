"""Calls of every kernel on random shapes that divide no block, with extreme values and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from qcompiler.kernels import ACTIVATIONS, KERNELS, Operand, pack_fields, table_of

EXTREMES = np.asarray([-128, -127, -1, 0, 1, 126, 127], np.int8)


@dataclass(frozen=True)
class Call:
    """A kernel, its inputs, which of them are constant, and its attributes."""

    name: str
    arrays: tuple[Any, ...]
    constant: frozenset[int]
    attributes: dict[str, Any]

    @property
    def kernel(self) -> Any:
        return KERNELS[self.name]

    @property
    def settled(self) -> dict[str, Any]:
        return self.kernel.settled(self.attributes)

    @property
    def complete(self) -> list[Any]:
        return self.kernel.complete(self.arrays)

    def operands(self) -> list[Operand | None]:
        found = [
            None if array is None else Operand.of(array, constant=index in self.constant)
            for index, array in enumerate(self.arrays)
        ]
        return self.kernel.complete(found)


def int8(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Whole range, with the extremes over-represented."""
    plain = rng.integers(-128, 128, shape).astype(np.int8)
    return np.where(rng.random(shape) < 0.2, rng.choice(EXTREMES, shape), plain)


def scale(rng: np.random.Generator, *shape: int) -> Any:
    return np.exp(rng.uniform(-9, 2, shape)).astype(np.float32)


ZEROS = st.sampled_from([None, 0, 1, -1, 57, -128, 127])
SIZES = st.integers(1, 41)
FINITE = list(ACTIVATIONS)


def zero(draw: Any) -> Any:
    found = draw(ZEROS)
    return None if found is None else np.int8(found).reshape(())


def epilogue(draw: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Its six inputs and its attributes, for an output of ``shape``."""
    attributes: dict[str, Any] = {"activation": draw(st.sampled_from(FINITE)), "low": -0.25, "high": 4.5}
    bias = (rng.standard_normal(shape[-1]) * 3).astype(np.float32) if draw(st.booleans()) else None
    given: list[Any] = [bias, None, None, None]
    if draw(st.booleans()):
        attributes["residual"] = draw(st.sampled_from(["before", "after"]))
        if draw(st.booleans()):
            given[1:] = [int8(rng, shape), scale(rng).reshape(()), np.int8(draw(st.integers(-128, 127))).reshape(())]
        else:
            given[1] = (rng.standard_normal(shape) * 2).astype(draw(st.sampled_from([np.float32, np.float16])))
    if draw(st.booleans()):
        given += [scale(rng).reshape(()), np.int8(draw(st.integers(-128, 127))).reshape(())]
    else:
        given += [None, None]
        attributes["half"] = int(draw(st.booleans()))
    return given, attributes


def _call(name: str, arrays: list[Any], attributes: dict[str, Any], runtime: set[int]) -> Call:
    while arrays and arrays[-1] is None:
        arrays.pop()
    constant = frozenset(index for index in range(len(arrays)) if index not in runtime)
    return Call(name, tuple(arrays), constant, attributes)


@st.composite
def matmuls(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n, k = draw(SIZES), draw(SIZES), draw(st.integers(1, 150))
    lead = draw(st.sampled_from([(), (2,), (2, 3)]))
    batched, transposed = draw(st.booleans()), draw(st.booleans())
    a = int8(rng, (*lead, m, k))
    b = int8(rng, (*(lead if batched else ()), *((n, k) if transposed else (k, n))))
    rows = draw(st.booleans())
    a_scale = scale(rng, *a.shape[:-1]) if rows else scale(rng).reshape(())
    a_zero = None if rows else zero(draw)
    per_tensor = draw(st.booleans())
    b_scale = scale(rng).reshape(()) if per_tensor else scale(rng, n)
    more, attributes = epilogue(draw, rng, (*a.shape[:-1], n))
    runtime = {0, 7} | ({1} if rows else set()) | ({3} if batched else set())
    arrays = [a, a_scale, a_zero, b, b_scale, zero(draw), *more]
    return _call("Int8MatMul", arrays, {**attributes, "transB": int(transposed)}, runtime)


@st.composite
def dynamic(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n, k = draw(SIZES), draw(SIZES), draw(st.integers(1, 150))
    a = (rng.standard_normal((m, k)) * np.exp(rng.uniform(-30, 5, (m, 1)))).astype(
        draw(st.sampled_from([np.float32, np.float16]))
    )
    a[draw(st.integers(0, m - 1))] = 0
    more, attributes = epilogue(draw, rng, (m, n))
    return _call("DynamicMatMul", [a, int8(rng, (n, k)), scale(rng, n), *more], attributes, {0, 4})


@st.composite
def convolutions(draw: Any, name: str = "Int8Conv") -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    group = draw(st.sampled_from([1, 1, 2, 5]))
    each = draw(st.sampled_from([1, 3, 7, 33]))
    filters = draw(st.integers(1, 9))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)]))
    dilations = draw(st.sampled_from([(1, 1), (2, 1)]))
    size = draw(st.tuples(st.integers(5, 9), st.integers(5, 9)))
    attributes: dict[str, Any] = {
        "strides": draw(st.sampled_from([(1, 1), (2, 2), (1, 3)])),
        "pads": draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 1)])),
        "dilations": dilations,
        "group": group,
    }
    if name == "Int8ConvTranspose":
        attributes["output_padding"] = (attributes["strides"][0] - 1, 0)
    x = int8(rng, (draw(st.integers(1, 2)), *size, each * group))
    w = int8(rng, (filters * group, *kernel, each))
    per_tensor = draw(st.booleans())
    arrays = [
        x,
        scale(rng).reshape(()),
        zero(draw),
        w,
        scale(rng).reshape(()) if per_tensor else scale(rng, filters * group),
    ]
    shape = KERNELS[name].results([x, None, None, w, *[None] * 7], KERNELS[name].settled(attributes))[0][1]
    more, chosen = epilogue(draw, rng, shape)
    return _call(name, arrays + more, {**attributes, **chosen}, {0, 6})


@st.composite
def pools(draw: Any, name: str) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = int8(rng, (draw(st.integers(1, 2)), draw(st.integers(4, 9)), draw(st.integers(4, 9)), draw(SIZES)))
    attributes: dict[str, Any] = {
        "kernel_shape": draw(st.sampled_from([(), (2, 2), (3, 3), (3, 2)])),
        "strides": draw(st.sampled_from([(1, 1), (2, 2), (2, 1)])),
        "ceil_mode": draw(st.integers(0, 1)),
    }
    if attributes["kernel_shape"]:
        attributes["pads"] = draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1)]))
    if name == "Int8MaxPool":
        return _call(name, [x], attributes, {0})
    attributes["count_include_pad"] = 0 if attributes["ceil_mode"] else draw(st.integers(0, 1))
    parts = [scale(rng).reshape(()), zero(draw), scale(rng).reshape(()), zero(draw)]
    return _call(name, [x, *parts], attributes, {0})


@st.composite
def pairs(draw: Any, name: str) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), SIZES))
    other = draw(st.sampled_from([shape, shape[-1:], (shape[0], 1, 1, shape[-1]), (*shape[:-1], 1), (), (*shape[1:],)]))
    arrays = [
        int8(rng, shape), scale(rng).reshape(()), zero(draw), int8(rng, other), scale(rng).reshape(()), zero(draw),
        scale(rng).reshape(()), zero(draw),
    ]  # fmt: skip
    return _call(name, arrays, {"activation": draw(st.sampled_from(FINITE)), "low": -0.25, "high": 4.5}, {0, 3})


@st.composite
def lookups(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.sampled_from([(), (1,), (1500,), (3, 5, 7)]))
    one, two = (np.int8(draw(st.integers(-128, 127))) for _ in range(2))
    table = table_of(
        draw(st.sampled_from(FINITE)), scale(rng).reshape(()), one, scale(rng).reshape(()), two, -0.25, 4.5
    )
    return _call("Int8Lookup", [int8(rng, shape), table], {}, {0})


@st.composite
def rows(draw: Any, name: str) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (*draw(st.sampled_from([(1,), (5,), (2, 3)])), draw(st.sampled_from([1, 3, 63, 130, 5000])))
    if name == "QuantizeRows":
        x = (rng.standard_normal(shape) * np.exp(rng.uniform(-30, 5))).astype(
            draw(st.sampled_from([np.float32, np.float16]))
        )
        x[..., 0, :] *= draw(st.integers(0, 1))
        return _call(name, [x], {}, {0})
    x, out = int8(rng, shape), [scale(rng).reshape(()), zero(draw)]
    if draw(st.booleans()):
        x[..., 0, :] = draw(st.sampled_from([-128, 0, 127]))
    if name == "Int8Softmax":
        return _call(name, [x, scale(rng).reshape(()), *out], {}, {0})
    gain, bias = (rng.standard_normal(shape[-1]).astype(np.float32) for _ in range(2))
    plain = [x, scale(rng).reshape(()), zero(draw), gain, bias if draw(st.booleans()) else None, *out]
    return _call(name, plain, {"epsilon": draw(st.sampled_from([1e-5, 1e-12, 0.5]))}, {0})


@st.composite
def concats(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, axis = draw(st.integers(1, 4)), draw(st.sampled_from([-1, 0, 1]))
    shape = list(draw(st.tuples(st.integers(1, 4), st.integers(1, 9), SIZES)))
    arrays: list[Any] = [scale(rng).reshape(()), np.int8(draw(st.integers(-128, 127))).reshape(())]
    for _ in range(count):
        shape[axis] = draw(st.integers(1, 30))
        arrays += [int8(rng, tuple(shape)), scale(rng).reshape(()), zero(draw)]
    return _call("Int8Concat", arrays, {"axis": axis}, {2, 5, 8, 11})


@st.composite
def upsamples(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), SIZES))
    return _call("Int8Upsample", [int8(rng, shape)], {"factors": draw(st.sampled_from([(1, 1), (2, 2), (3, 1)]))}, {0})


@st.composite
def edges(draw: Any, name: str) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    turned = draw(st.booleans())
    shape = (
        draw(st.tuples(st.integers(1, 3), SIZES, st.integers(1, 9), st.integers(1, 9)))
        if turned
        else draw(st.sampled_from([(), (5,), (3, 700)]))
    )
    parts = [scale(rng).reshape(()), zero(draw)]
    if name == "Dequantize":
        return _call(name, [int8(rng, shape), *parts], {"first": int(turned), "half": draw(st.integers(0, 1))}, {0})
    x = np.asarray(rng.standard_normal(shape) * np.exp(rng.uniform(-3, 5))).astype(
        draw(st.sampled_from([np.float32, np.float16]))
    )
    if x.size > 3:
        x.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    return _call(name, [x, *parts], {"last": int(turned)}, {0})


@st.composite
def codebooks(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n, k, bits = draw(SIZES), draw(SIZES), draw(st.integers(1, 150)), draw(st.sampled_from([2, 3, 4]))
    by_rows = draw(st.booleans())
    a = int8(rng, (m, k))
    arrays = [
        a, scale(rng, m) if by_rows else scale(rng).reshape(()), None if by_rows else zero(draw),
        pack_fields(rng.integers(0, 2**bits, (n, k)), bits), int8(rng, (2**bits,)),
        scale(rng, n) if draw(st.booleans()) else scale(rng).reshape(()),
    ]  # fmt: skip
    more, attributes = epilogue(draw, rng, (m, n))
    return _call("CodebookMatMul", arrays + more, {**attributes, "bits": bits}, {0, 7, *([1] if by_rows else [])})


@st.composite
def blocks(draw: Any) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n, k, block = draw(SIZES), draw(SIZES), draw(st.integers(1, 150)), draw(st.sampled_from([32, 64]))
    arrays = [
        int8(rng, (m, k)),
        scale(rng, m),
        pack_fields(rng.integers(0, 16, (n, k)), 4),
        scale(rng, n, -(-k // block)),
    ]
    more, attributes = epilogue(draw, rng, (m, n))
    return _call("BlockMatMul", arrays + more, {**attributes, "block": block}, {0, 1, 5})


CALLS = {
    "Int8MatMul": matmuls(),
    "DynamicMatMul": dynamic(),
    "CodebookMatMul": codebooks(),
    "BlockMatMul": blocks(),
    "Int8Conv": convolutions(),
    "Int8ConvTranspose": convolutions("Int8ConvTranspose"),
    "Int8MaxPool": pools("Int8MaxPool"),
    "Int8AveragePool": pools("Int8AveragePool"),
    "Int8Add": pairs("Int8Add"),
    "Int8Mul": pairs("Int8Mul"),
    "Int8Concat": concats(),
    "Int8Upsample": upsamples(),
    "Int8Lookup": lookups(),
    "Int8Softmax": rows("Int8Softmax"),
    "Int8LayerNorm": rows("Int8LayerNorm"),
    "Int8RMSNorm": rows("Int8RMSNorm"),
    "Quantize": edges("Quantize"),
    "Dequantize": edges("Dequantize"),
    "QuantizeRows": rows("QuantizeRows"),
}
