"""Every kernel on the card that is here: checked against its reference, then timed beside what torch has.

    python -m benchmarks.gpu                     checks and times
    python -m benchmarks.gpu --carry gpu.pyz     writes one file that does the same where only triton and torch are
    python gpu.pyz [--json figures.json] [--checks] [--tune]

Times are the least of many by torch's events. Peaks are measured on the same card in the same run: the bandwidth of a
copy, the fastest int8 product of cuBLASLt (torch._int_mm) and the fastest bfloat16 one. Floors are those of an H200.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
import zipapp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.kernels import CARDS, KERNELS, Given, Held, Launch, Made, Operand, Size, card_for, pack_fields, table_of
from qcompiler.kernels.tuning import asked, fastest

FLOORS = {
    "int8 product 4096, share of the peak": 0.45,
    "int8 product 4096, to cuBLASLt int8": 0.9,
    "int8 product 4096, to bfloat16": 1.5,
    "memory, share of a copy": 0.8,
    "codebook product, to float16": 2.5,
}


class Bench:
    """The device, and how its launches are made and timed."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        self.device = "cpu" if self.interpreted else "cuda"
        if self.interpreted:
            self.name, self.card = "the interpreter", CARDS[90]
        else:
            if not torch.cuda.is_available():
                sys.exit("there is no card here; TRITON_INTERPRET=1 checks the kernels without one")
            properties = torch.cuda.get_device_properties(0)
            card = card_for(10 * properties.major + properties.minor)
            if card is None:
                sys.exit(f"no kernel is made for sm_{properties.major}{properties.minor}")
            self.name, self.card = properties.name, card

    def tensor(self, array: Any) -> Any:
        return self.torch.from_numpy(np.array(array)).to(self.device)

    def ready(
        self, launch: Launch, given: Sequence[Any], results: Sequence[tuple[str, tuple[int, ...]]]
    ) -> tuple[Callable[[], Any], list[Any]]:
        """A function that launches, and the tensors that it writes."""
        module, _, name = launch.function.partition(":")
        function = getattr(importlib.import_module(f"qcompiler.kernels.triton.{module}"), name)
        made = [self.torch.empty(shape, dtype=getattr(self.torch, kind), device=self.device) for kind, shape in results]
        arguments: list[Any] = []
        for item in launch.arguments:
            match item:
                case Given(index):
                    arguments.append(given[index])
                case Held(array):
                    arguments.append(self.tensor(array))
                case Size(value):
                    arguments.append(value)
                case Made(index):
                    arguments.append(made[index])
        options = {} if self.interpreted else {
            "num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": False
        }  # fmt: skip
        return lambda: function[launch.grid](*arguments, **launch.constants, **options), made

    def seconds(self, call: Callable[[], Any], budget: float = 0.3) -> float:
        """The least of many runs, with the cache of the card cleared before each."""
        torch = self.torch
        flush = torch.empty(256 << 20, dtype=torch.int8, device=self.device)
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        least, end = float("inf"), time.perf_counter() + budget
        while time.perf_counter() < end:
            flush.zero_()
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            stop.record()
            torch.cuda.synchronize()
            least = min(least, start.elapsed_time(stop) * 1e-3)
        return least


Call = tuple[str, list[Any], set[int], dict[str, Any]]


def calls(rng: np.random.Generator, scale: int) -> list[Call]:
    """A call of every kernel, on sizes that divide no block: name, inputs, which of them change, attributes."""

    def q(*shape: int) -> Any:
        return rng.integers(-128, 128, shape).astype(np.int8)

    def s(*shape: int) -> Any:
        return np.exp(rng.uniform(-6, -2, shape)).astype(np.float32)

    z = np.int8(-7).reshape(())
    m, n, k = 33 * scale, 29 * scale, 37 * scale
    image = q(1, 9 * scale, 7 * scale, 36)
    end = [s(n), q(m, n), s().reshape(()), z, s().reshape(()), z]
    one = s().reshape(())
    found: list[Call] = [
        ("Int8MatMul", [q(m, k), one, z, q(n, k), s(n), None, *end], {0, 7}, {"activation": name, "residual": order})
        for name, order in (("none", "none"), ("relu", "before"), ("gelu", "after"), ("silu", "none"),
                            ("hard_swish", "before"), ("gelu_tanh", "none"))
    ]  # fmt: skip
    found += [
        ("Int8MatMul", [q(3, m, k), one, z, q(3, k, n), one, z], {0, 3}, {"transB": 0, "half": 1}),
        ("Int8MatMul", [q(7, k), s(7), None, q(n, k), s(n)], {0, 1}, {}),
        ("DynamicMatMul", [rng.standard_normal((m, k)).astype(np.float16), q(n, k), s(n), s(n)], {0}, {"half": 1}),
        ("BlockMatMul", [q(m, k), s(m), pack_fields(rng.integers(0, 16, (n, k)), 4), s(n, -(-k // 32))], {0, 1}, {}),
    ]
    for bits in (2, 3, 4):
        packed = pack_fields(rng.integers(0, 2**bits, (n, k)), bits)
        found.append(("CodebookMatMul", [q(9, k), s(9), None, packed, q(2**bits), s(n)], {0, 1}, {"bits": bits}))
    for group, pads in ((1, (1, 1, 1, 1)), (4, (0, 1, 1, 0)), (36, (1, 1, 1, 1))):
        weights = q(36, 3, 3, 36 // group)
        head = [image, one, z, weights, s(36), s(36), None, None, None, one, z]
        found.append(("Int8Conv", head, {0}, {"group": group, "pads": pads, "strides": (2, 1), "activation": "silu"}))
        found.append(("Int8ConvTranspose", head, {0}, {"group": group, "pads": pads, "strides": (2, 2)}))
    found.append(("Int8Conv", [q(1, 31, 33, 3), one, z, q(16, 3, 3, 3), s(16)], {0}, {"pads": (1, 1, 1, 1)}))
    found += [
        ("Int8MaxPool", [image], {0}, {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
        ("Int8AveragePool", [image, one, z, one, z], {0}, {}),
        ("Int8Add", [image, one, z, image, one, z, one, z], {0, 3}, {"activation": "relu"}),
        ("Int8Mul", [image, one, z, q(36), one, z, one, z], {0, 3}, {}),
        ("Int8Concat", [one, z, image, one, z, image, one, z, image, one, z], {2, 5, 8}, {}),
        ("Int8Upsample", [image], {0}, {"factors": (2, 2)}),
        ("Int8Lookup", [image, table_of("gelu", one, z, one, z)], {0}, {}),
        ("Int8Softmax", [q(m, n), one, np.float32(1 / 255).reshape(()), np.int8(-128).reshape(())], {0}, {}),
        ("Int8LayerNorm", [q(m, n), one, z, s(n), s(n), one, z], {0}, {}),
        ("Int8RMSNorm", [q(m, n), one, z, s(n), None, one, z], {0}, {}),
        ("QuantizeRows", [rng.standard_normal((m, n)).astype(np.float16)], {0}, {}),
        ("Quantize", [rng.standard_normal((2, 36, 9, 7 * scale)).astype(np.float16), one, z], {0}, {"last": 1}),
        ("Quantize", [rng.standard_normal((m, n)).astype(np.float32), one, z], {0}, {}),
        ("Dequantize", [image, one, z], {0}, {"first": 1, "half": 1}),
        ("Dequantize", [q(m, n), one, z], {0}, {}),
    ]
    return found


def prepared(call: Call) -> tuple[Any, list[Any], list[Any], dict[str, Any]]:
    name, arrays, runtime, given = call
    kernel = KERNELS[name]
    operands = [
        None if array is None else Operand.of(np.asarray(array), constant=index not in runtime)
        for index, array in enumerate(arrays)
    ]
    return kernel, kernel.complete(arrays), kernel.complete(operands), kernel.settled(given)


def check(bench: Bench, scale: int) -> bool:
    """Each kernel against its reference, bit for bit."""
    good = True
    for call in calls(np.random.default_rng(0), scale):
        kernel, arrays, operands, attributes = prepared(call)
        results = kernel.results(operands, attributes)
        launch = kernel.launch(operands, attributes, bench.card)
        start, made = bench.ready(launch, [None if item is None else bench.tensor(item) for item in arrays], results)
        start()
        expected = kernel.reference(arrays, attributes)
        same = all(
            np.array_equal(one.cpu().numpy(), two, equal_nan=True) for one, two in zip(made, expected, strict=True)
        )
        good &= same
        said = {key: value for key, value in call[3].items() if value not in ("none", 0)}
        print(f"{'same bits' if same else 'DIFFERENT':10} {kernel.name} {said}", flush=True)
    return good


def measure(bench: Bench, tune: bool) -> dict[str, float]:
    """Figures by name. Ratios are torch's time over ours, so that above 1 is faster."""
    torch, found = bench.torch, {}
    rng = np.random.default_rng(0)

    def note(name: str, value: float, unit: str = "") -> None:
        found[name] = value
        print(f"{name:60} {value:9.3f} {unit}", flush=True)

    def ours(call: Call) -> float:
        kernel, arrays, operands, attributes = prepared(call)
        results = kernel.results(operands, attributes)
        given = [None if item is None else bench.tensor(item) for item in arrays]

        def on(card: Any) -> float:
            try:
                launch = kernel.launch(operands, attributes, card)
                return bench.seconds(bench.ready(launch, given, results)[0])
            except Exception as error:  # a tile that this card does not take
                print(f"  {type(error).__name__}: {str(error).splitlines()[0][:100]}")
                return float("inf")

        shape = asked(lambda card: kernel.launch(operands, attributes, card), bench.card) if tune else None
        if shape is None:
            return on(bench.card)
        tile = fastest(shape, bench.card, on)
        print(f"  best tile: {tile}")
        return on(replace(bench.card, tiles={shape: tile}))

    def q(*shape: int) -> Any:
        return rng.integers(-128, 128, shape, dtype=np.int8)

    one, zero = np.float32(0.02).reshape(()), np.int8(3).reshape(())
    source = torch.empty(1 << 29, dtype=torch.int8, device="cuda")
    other = torch.empty_like(source)
    copy = 2 * source.numel() / bench.seconds(lambda source=source, other=other: other.copy_(source))
    note("copy", copy / 1e9, "GB/s")
    del source, other
    peaks = {}
    for size in (4096, 8192):
        a = torch.randint(-128, 128, (size, size), dtype=torch.int8, device="cuda")
        b = torch.randint(-128, 128, (size, size), dtype=torch.int8, device="cuda")
        wide = a.to(torch.bfloat16), b.to(torch.bfloat16)
        peaks["int8", size] = bench.seconds(lambda a=a, b=b: torch._int_mm(a, b.t()))
        peaks["bf16", size] = bench.seconds(lambda wide=wide: wide[0] @ wide[1].t())
    peak = max(2 * size**3 / peaks["int8", size] for size in (4096, 8192))
    note("cuBLASLt int8, the best of two sizes", peak / 1e12, "TOPS")
    for size in (1024, 4096, 8192):
        scale = np.full(size, 1e-4, np.float32)
        ends = [scale, None, None, None, one, zero]
        call: Call = ("Int8MatMul", [q(size, size), one, zero, q(size, size), scale, None, *ends], {0}, {})
        took = ours(call)
        note(f"int8 product {size}, with requantization", 2 * size**3 / took / 1e12, "TOPS")
        note(f"int8 product {size}, share of the peak", 2 * size**3 / took / peak)
        if size > 1024:
            note(f"int8 product {size}, to cuBLASLt int8", peaks["int8", size] / took)
            note(f"int8 product {size}, to bfloat16", peaks["bf16", size] / took)
        gelu = ours((*call[:3], {"activation": "gelu"}))
        note(f"int8 product {size}, with GELU", 2 * size**3 / gelu / 1e12, "TOPS")
    for rows in (1, 8, 16):
        size = 8192
        half = torch.randn(rows, size, device="cuda", dtype=torch.float16)
        weights = torch.randn(size, size, device="cuda", dtype=torch.float16)
        plain = bench.seconds(lambda half=half, weights=weights: half @ weights.t())
        x, scales, tall = q(rows, size), np.full(rows, 0.01, np.float32), np.full(size, 1e-3, np.float32)
        for bits in (2, 4):
            packed = pack_fields(rng.integers(0, 2**bits, (size, size)), bits)
            call = ("CodebookMatMul", [x, scales, None, packed, q(2**bits), tall], {0, 1}, {"bits": bits, "half": 1})
            note(f"codebook product, {rows} rows, {bits} bits, to float16", plain / ours(call))
        packed = pack_fields(rng.integers(0, 16, (size, size)), 4)
        block_scales = np.full((size, size // 32), 1e-3, np.float32)
        call = ("BlockMatMul", [x, scales, packed, block_scales], {0, 1}, {"half": 1})
        note(f"product in blocks of 4 bits, {rows} rows, to float16", plain / ours(call))
    for batch, size, channels, window, group in (
        (32, 56, 64, 3, 1), (32, 28, 128, 3, 1), (32, 14, 256, 3, 1), (32, 14, 1024, 1, 1), (32, 56, 144, 3, 144)
    ):  # fmt: skip
        image = torch.randn(batch, channels, size, size, device="cuda", dtype=torch.float16)
        image = image.to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels // group, window, window, device="cuda", dtype=torch.float16)
        weight = weight.to(memory_format=torch.channels_last)
        plain = bench.seconds(
            lambda image=image, weight=weight, window=window, group=group: torch.nn.functional.conv2d(
                image, weight, padding=window // 2, groups=group
            )
        )
        inputs = [q(batch, size, size, channels), one, zero, q(channels, window, window, channels // group),
                  np.full(channels, 1e-3, np.float32), None, None, None, None, one, zero]  # fmt: skip
        took = ours(("Int8Conv", inputs, {0}, {"pads": (window // 2,) * 4, "group": group}))
        kind = "depthwise" if group > 1 else "convolution"
        note(f"{kind} {window} x {window}, {channels} channels, {size} x {size}, to cuDNN float16", plain / took)
    rows, width = 32768, 4096
    x = q(rows, width)
    gain = np.ones(width, np.float32)
    moving = {
        "Int8Add": (3, [x, one, zero, x, one, zero, one, zero], {0, 3}),
        "Int8Lookup": (2, [x, table_of("gelu", one, zero, one, zero)], {0}),
        "Int8Softmax": (2, [x, one, one, zero], {0}),
        "Int8LayerNorm": (2, [x, one, zero, gain, gain, one, zero], {0}),
        "Int8RMSNorm": (2, [x, one, zero, gain, None, one, zero], {0}),
        "QuantizeRows": (3, [rng.standard_normal((rows, width), dtype=np.float32).astype(np.float16)], {0}),
    }
    for name, (traffic, inputs, runtime) in moving.items():
        took = ours((name, inputs, runtime, {}))
        note(f"{name}, share of a copy", traffic * rows * width / took / copy)
    return found


def judged(found: Mapping[str, float]) -> dict[str, float]:
    """The figures that have floors, by the names of the floors."""
    moving = [value for name, value in found.items() if name.endswith("share of a copy")]
    packed = [value for name, value in found.items() if name.startswith("codebook product")]
    return {
        **{name: found[name] for name in FLOORS if name in found},
        "memory, share of a copy": min(moving),
        "codebook product, to float16": min(packed),
    }


def carry(path: Path) -> None:
    """One file that needs numpy, triton and torch alone: unpacked when it starts, since Triton reads source files."""
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "carried"
        for name in ("qcompiler/__init__.py", "qcompiler/caching.py", "qcompiler/errors.py", "benchmarks/gpu.py"):
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, inside / name)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / "kernels", inside / "qcompiler" / "kernels", ignore=ignored)
        (inside / "__main__.py").write_text(_STARTER)
        zipapp.create_archive(inside, path, interpreter="/usr/bin/env python3", compressed=True)
    print(f"{path}: {path.stat().st_size} bytes")


_STARTER = """
import runpy, sys, tempfile, zipfile
with tempfile.TemporaryDirectory() as folder:
    zipfile.ZipFile(sys.argv[0]).extractall(folder)
    sys.path[0] = folder
    runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carry", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--checks", action="store_true", help="no times")
    parser.add_argument("--tune", action="store_true", help="measure every tile of each product")
    options = parser.parse_args()
    if options.carry is not None:
        carry(options.carry)
        return
    bench = Bench()
    begin = time.perf_counter()
    print(f"on {bench.name}, triton {importlib.import_module('triton').__version__}, torch {bench.torch.__version__}")
    good = check(bench, 1 if bench.interpreted else 11)
    figures: dict[str, float] = {}
    if not options.checks and not bench.interpreted:
        figures = measure(bench, options.tune)
        for name, value in judged(figures).items():
            print(f"{'met' if value >= FLOORS[name] else 'MISSED':7} {name}: {value:.3f}, floor {FLOORS[name]}")
    print(f"{time.perf_counter() - begin:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps({"card": bench.name, "same_bits": good, **figures}, indent=1) + "\n")
    if not good:
        sys.exit(1)


if __name__ == "__main__":
    main()
