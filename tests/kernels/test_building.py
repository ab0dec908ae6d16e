"""What is shipped compiles for every architecture, uses the int8 instruction, and fits the card; no card is needed."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.kernels import ARCHITECTURES, CARDS, KERNELS, Operand
from qcompiler.kernels.building import Built, Specialization, build, specialization
from qcompiler.kernels.configurations import product_tiles

triton = pytest.importorskip("triton", reason="the extra triton is not installed")

PRODUCTS = re.compile(r"(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)\S*(?:s8\.s8|i8)")
NO_PRODUCT = {
    "depthwise:int8_depthwise", "pool:int8_pool", "elementwise:int8_binary", "elementwise:int8_lookup",
    "movement:int8_concat", "movement:int8_upsample", "quantize:quantize", "quantize:dequantize", "quantize:quantize_line", "quantize:dequantize_line", "softmax:int8_softmax", "norm:int8_norm", "rows:quantize_rows",
}  # fmt: skip


def one(dtype: str, *shape: int, fixed: bool = True) -> Operand:
    return Operand(dtype, shape, np.ones(shape, dtype) if fixed else None)


def ends(shape: tuple[int, ...], kind: str) -> tuple[list[Any], dict[str, Any]]:
    """The epilogue's inputs, and its attributes: the heaviest that there is, or none at all."""
    if kind == "plain":
        return [None] * 6, {"half": 1}
    more = [
        one("float32", shape[-1]),
        one("int8", *shape, fixed=False),
        one("float32"),
        one("int8"),
        one("float32"),
        one("int8"),
    ]
    return more, {"activation": kind, "residual": "before"}


def products(capability: int, kind: str) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Calls that between them ask for every tile of a product."""
    calls: list[tuple[str, list[Any], dict[str, Any]]] = []
    processors = CARDS[capability].processors
    for tile in product_tiles(CARDS[capability]):
        rows = 16 if tile.m == 16 else tile.m * processors
        more, attributes = ends((rows, tile.n), kind)
        head = [
            one("int8", rows, 512, fixed=False),
            one("float32"),
            one("int8"),
            one("int8", tile.n, 512),
            one("float32", tile.n),
            None,
        ]
        calls.append(("Int8MatMul", head + more, attributes))
        for channels in (3, 64):
            shape = (1, rows, 1, tile.n)
            more, attributes = ends(shape, kind)
            head = [
                one("int8", 1, rows, 1, channels, fixed=False),
                one("float32"),
                one("int8"),
                one("int8", tile.n, 3, 3, channels),
                one("float32", tile.n),
            ]
            calls.append(("Int8Conv", head + more, {**attributes, "pads": (1, 1, 1, 1)}))
    return calls


def others(kind: str) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Calls of everything else."""
    image, rows = one("int8", 1, 32, 32, 64, fixed=False), one("int8", 64, 768, fixed=False)
    scale, zero, vector = one("float32"), one("int8"), one("float32", 768)
    deep, chosen = ends((1, 32, 32, 64), kind)
    wide, flat = ends((64, 96), kind), ends((64, 64), kind)
    bare = [wide[0][0], None, None, None, *wide[0][4:]]
    activation = {"activation": "none" if kind == "plain" else kind}
    return [
        ("Int8Conv", [image, scale, zero, one("int8", 64, 3, 3, 1), scale, *deep], {**chosen, "group": 64, "pads": (1, 1, 1, 1)}),
        ("Int8ConvTranspose", [image, scale, zero, one("int8", 64, 3, 3, 64), scale, *deep], {**chosen, "pads": (1, 1, 1, 1)}),
        ("DynamicMatMul", [one("float16", 64, 768, fixed=False), one("int8", 96, 768), scale, *wide[0]], wide[1]),
        ("CodebookMatMul", [rows, one("float32", 64, fixed=False), None, one("uint8", 96, 384), one("int8", 16), scale, *bare], {**wide[1], "bits": 4}),
        ("CodebookMatMul", [one("int8", 8, 768, fixed=False), scale, zero, one("uint8", 96, 192), one("int8", 4), scale, *bare], {**wide[1], "bits": 2}),
        ("BlockMatMul", [rows, one("float32", 64, fixed=False), one("uint8", 96, 384), one("float32", 96, 24), *bare], {**wide[1], "block": 32}),
        ("Int8MatMul", [one("int8", 4, 64, 64, fixed=False), scale, zero, one("int8", 4, 64, 64, fixed=False), scale, zero, None, None, None, None, scale, zero], {"transB": 0}),
        ("Int8MatMul", [one("int8", 64, 64, fixed=False), one("float32", 64, fixed=False), None, one("int8", 64, 64), scale, None, *flat[0]], flat[1]),
        ("Int8MaxPool", [image], {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}),
        ("Int8AveragePool", [image, scale, zero, scale, zero], {}),
        ("Int8Add", [image, scale, zero, image, scale, zero, scale, zero], activation),
        ("Int8Mul", [image, scale, zero, one("int8", 1, 1, 1, 64, fixed=False), scale, zero, scale, zero], activation),
        ("Int8Concat", [scale, zero, image, scale, zero, image, scale, zero], {}),
        ("Int8Upsample", [image], {"factors": (2, 2)}),
        ("Int8Lookup", [image, one("int8", 256)], {}),
        ("Quantize", [one("float16", 1, 64, 32, 32, fixed=False), scale, zero], {"last": 1}),
        ("Quantize", [one("float32", 64, 768, fixed=False), scale, zero], {}),
        ("Dequantize", [image, scale, zero], {"first": 1, "half": 1}),
        ("Dequantize", [rows, scale, zero], {}),
        ("Int8Softmax", [rows, scale, scale, zero], {}),
        ("Int8LayerNorm", [rows, scale, zero, vector, vector, scale, zero], {}),
        ("Int8RMSNorm", [rows, scale, zero, vector, None, scale, zero], {}),
        ("QuantizeRows", [one("float16", 64, 768, fixed=False)], {}),
    ]  # fmt: skip


@functools.cache
def shipped(capability: int) -> list[tuple[Specialization, Built | str]]:
    wanted: dict[Specialization, None] = {}
    for kind in ("plain", "relu", "gelu"):
        for name, operands, given in products(capability, kind) + others(kind):
            kernel = KERNELS[name]
            operands, attributes = kernel.complete(operands), kernel.settled(given)
            assert kernel.refusal(operands, attributes) == ""
            launch = kernel.launch(operands, attributes, CARDS[capability])
            wanted[specialization(launch, operands, kernel.results(operands, attributes))] = None
    return list(zip(wanted, build(list(wanted), capability), strict=True))


def usage(cubin: bytes, folder: Path) -> dict[str, int]:
    """What one launch takes, as NVIDIA's own tool reads it from the file."""
    path = folder / "it.cubin"
    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    said = subprocess.run([tool, "--dump-resource-usage", path], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


@pytest.mark.parametrize(
    "capability", [80, 89, 90, *(pytest.param(other, marks=pytest.mark.long) for other in (86, 100, 120))]
)
def test_what_is_shipped_compiles_well(capability: int, tmp_path: Path) -> None:
    found = shipped(capability)
    tiles = {
        (dict(item.constants)["BLOCK_M"], dict(item.constants)["BLOCK_N"])
        for item, _ in found
        if item.function == "matmul:int8_matmul"
    }
    assert tiles >= {(tile.m, tile.n) for tile in product_tiles(CARDS[capability])}
    assert {item.function for item, _ in found} >= NO_PRODUCT | {"matmul:int8_matmul", "conv:int8_conv"}
    for item, built in found:
        assert isinstance(built, Built), (item, built)
        if item.function not in NO_PRODUCT:
            assert PRODUCTS.search(built.ptx), item
        assert not re.search(r"\bfma\.rn\.f32", built.ptx), item
        assert built.shared <= CARDS[capability].shared, item
        taken = usage(built.cubin, tmp_path)
        assert taken["STACK"] == taken["LOCAL"] == 0, (item, taken)


def test_a_kernel_that_cannot_be_compiled_says_why() -> None:
    item, built = shipped(80)[0]
    assert isinstance(built, Built)
    broken = Specialization(item.function, item.types, item.divisible, (*item.constants[:1], *item.constants[2:]), 4, 1)
    (said,) = build([broken], 80)
    assert isinstance(said, str) and said


def test_old_architectures_have_no_card() -> None:
    from qcompiler.kernels import card_for

    assert card_for(75) is None
    assert {card_for(item).capability for item in (80, 86, 87, 89, 90, 100, 103, 120, 121)} == {
        80,
        86,
        89,
        90,
        100,
        120,
    }
    assert set(ARCHITECTURES) <= set(CARDS)
