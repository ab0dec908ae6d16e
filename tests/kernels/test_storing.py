"""Cubins in a folder, and tiles in the cache: read back, and done without where they are damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qcompiler.errors import ImportFailure, LoweringError
from qcompiler.kernels import CARDS, KERNELS, Operand
from qcompiler.kernels.building import Built, Specialization, specialization
from qcompiler.kernels.cards import Tile
from qcompiler.kernels.configurations import product_tile
from qcompiler.kernels.storing import KernelSet, read_kernels, write_kernels
from qcompiler.kernels.tuning import asked, fastest, keep_tiles, known_tiles
from tests.kernels.test_building import one

ITEM = Specialization("matmul:int8_matmul", ("*i8", "i32"), (1,), (("BLOCK_M", 16),), 4, 3)


def written(folder: Path) -> KernelSet:
    made = KernelSet((80, 86), {ITEM: {80: Built(b"eighty", "f", 100, 4, 2), 86: Built(b"six", "f", 50, 8, 2)}})
    write_kernels(folder, made)
    return made


@pytest.mark.parametrize(("capability", "made_for", "cubin"), [(80, 80, b"eighty"), (86, 86, b"six"), (89, 86, b"six")])
def test_a_device_gets_the_newest_that_it_can_run(tmp_path: Path, capability: int, made_for: int, cubin: bytes) -> None:
    assert written(tmp_path).record() == {
        "kernels": {"architectures": ["sm_80", "sm_86"], "built": 1, "bytes": 9, "problems": []}
    }
    found, kernels = read_kernels(tmp_path, capability)
    assert found == made_for
    assert kernels[ITEM.key].cubin == cubin


def test_another_generation_and_a_missing_folder_have_none(tmp_path: Path) -> None:
    written(tmp_path)
    assert read_kernels(tmp_path, 90) == (0, {})
    assert read_kernels(tmp_path / "nowhere", 80) == (0, {})


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"schema": 2, "kernels": []}', '{"schema": 1, "kernels": [{"cubins": {"80": {}}}]}']
)
def test_a_damaged_index_is_named(tmp_path: Path, damage: str) -> None:
    written(tmp_path)
    (tmp_path / "index.json").write_text(damage)
    with pytest.raises(ImportFailure, match=r"index\.json"):
        read_kernels(tmp_path, 80)


def test_a_missing_cubin_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    next((tmp_path / "sm_80").iterdir()).unlink()
    with pytest.raises(ImportFailure, match="cannot be read"):
        read_kernels(tmp_path, 80)


def test_the_fastest_tile_is_kept_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel, card = KERNELS["Int8MatMul"], CARDS[80]
    operands = kernel.complete(
        [one("int8", 512, 512, fixed=False), one("float32"), one("int8"), one("int8", 512, 512), one("float32", 512)]
    )
    settled = kernel.settled({})
    shape = asked(lambda each: kernel.launch(operands, settled, each), card)
    assert shape is not None and shape[:4] == (512, 512, 512, 1)
    tile = fastest(shape, card, lambda each: -each.tiles[shape].m * each.tiles[shape].n)
    assert (tile.m, tile.n) == (128, 128)
    assert known_tiles("A100") == {}
    keep_tiles("A100", {shape: tile})
    keep_tiles("A100", {(1,) * 6: Tile(16, 64, 32, 4, 4)})
    assert known_tiles("A100")[shape] == tile and len(known_tiles("A100")) == 2
    assert product_tile(*shape[:4], replace(card, tiles=known_tiles("A100")), room=shape[4]) == tile
    (tmp_path / "qcompiler" / "tiles.json").write_text(json.dumps({"A100": {"1 2": 7}}))
    assert known_tiles("A100") == {}
    lookup = KERNELS["Int8Lookup"]
    given = lookup.complete([one("int8", 5, fixed=False), one("int8", 256)])
    assert asked(lambda each: lookup.launch(given, {}, each), card) is None


def test_ports_say_what_a_kernel_takes() -> None:
    kernel = KERNELS["Int8MatMul"]
    good = [one("int8", 8, 64, fixed=False), one("float32"), one("int8"), one("int8", 16, 64), one("float32", 16)]
    assert kernel.refusal(kernel.complete(good), kernel.settled({})) == ""
    wide = [one("float32", 8, 64, fixed=False), *good[1:]]
    assert kernel.refusal(kernel.complete(wide), kernel.settled({})) == "its input 'a' is float32, not int8"
    assert kernel.refusal(kernel.complete(good[:3]), kernel.settled({})) == "its input 'b' is left out"
    moving = [good[0], one("float32", fixed=False), *good[2:]]
    assert kernel.refusal(kernel.complete(moving), kernel.settled({})) == "its scales are computed at run time"
    deep = [one("int8", 8, 70_000, fixed=False), *good[1:3], one("int8", 1, 70_000), good[1]]
    assert "may not fit int32" in kernel.refusal(kernel.complete(deep), kernel.settled({}))
    with pytest.raises(ValueError, match="no attribute 'speed'"):
        kernel.settled({"speed": 2})


def test_sizes_beyond_32_bits_are_refused_before_anything_is_launched() -> None:
    kernel = KERNELS["Int8Lookup"]
    huge = [Operand("int8", (1 << 31,)), one("int8", 256)]
    launch = kernel.launch(huge, {}, CARDS[90])
    with pytest.raises(LoweringError, match="do not fit 32 bits"):
        specialization(launch, huge, kernel.results(huge, {}))
