"""The cache of results: the same call gives the same bytes, computed once, whoever asks and whatever happened to it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qcompiler as qc
from qcompiler.caching import sources_digest
from qcompiler.compiler import ResultCache, result_cache
from qcompiler.compiler.fingerprint import sources_of
from qcompiler.errors import ExecutorError, GateError, UsageError
from tests.lower.models import proto_of

ROOT = Path(__file__).resolve().parents[2]
TEXT = "g (float[n,32] x) => (float[n,8] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"


def constant(outputs: Any, labels: Any) -> float:
    return 1.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(proto_of(TEXT, w=(32, 16), v=(16, 8)), path)
    return path


def samples(count: int = 8, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_call_is_answered_with_the_same_bytes(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = qc.compile(model, data=samples(), cache=cache)
    second = qc.compile(model, data=samples(), cache=cache)
    assert (first.is_cached, second.is_cached) == (False, True)
    one, two = contents(first.save(tmp_path / "a")), contents(second.save(tmp_path / "b"))
    assert one == two
    assert one.keys() == {"model.onnx", "recipe.toml", "report.html", "report.json", "trace.json"}
    x = samples(1, 5)
    np.testing.assert_array_equal(first.run(x)["y"], second.run(x)["y"])


@pytest.mark.parametrize(
    "change",
    [
        {"data": samples(seed=1)}, {"data": samples(9)}, {"recipe": "int8-dynamic"}, {"min_sqnr": 25.0}, {"seed": 1},
        {"settings": ["quantize-static.ranges=mse"]}, {"score": samples(4)}, {"exclude": ["^h$"]}, {"for_cpu": "avx2"},
        {"threads": 2}, {"budget": 100.0},
    ],
    ids=lambda change: ",".join(change),
)  # fmt: skip
def test_whatever_may_change_the_result_is_another_entry(model: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    cache = tmp_path / "cache"
    qc.compile(model, data=samples(), cache=cache)
    assert not qc.compile(model, **({"data": samples()} | change), cache=cache).is_cached


def test_another_weight_is_another_entry_and_another_place_is_not(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    np.savez(tmp_path / "one.npz", **samples())
    np.savez(tmp_path / "two.npz", **samples())
    qc.compile(model, data=tmp_path / "one.npz", cache=cache)
    (tmp_path / "moved.onnx").write_bytes(model.read_bytes())
    moved = qc.compile(tmp_path / "moved.onnx", data=tmp_path / "two.npz", cache=cache)
    assert moved.is_cached
    folder = moved.save(tmp_path / "out")
    assert json.loads((folder / "report.json").read_text())["source"]["path"] == str(tmp_path / "moved.onnx")
    assert f'data = "{tmp_path / "two.npz"}"' in (folder / "recipe.toml").read_text()
    proto = onnx.load(model)
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight[0, 0] += 1
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, proto.graph.initializer[0].name))
    onnx.save(proto, model)
    assert not qc.compile(model, data=tmp_path / "one.npz", cache=cache).is_cached


@pytest.mark.parametrize("harm", ["flip", "cut", "lose", "list", "schema"])
def test_a_damaged_entry_is_computed_again_and_told(model: Path, tmp_path: Path, harm: str) -> None:
    cache = tmp_path / "cache"
    first = contents(qc.compile(model, recipe="lossless", cache=cache).save(tmp_path / "a"))
    (entry,) = (cache / "entries").iterdir()
    held = entry / "model.onnx"
    if harm == "flip":
        held.write_bytes(bytes([held.read_bytes()[0] ^ 1]) + held.read_bytes()[1:])
    elif harm == "cut":
        held.write_bytes(held.read_bytes()[:-7])
    elif harm == "lose":
        held.unlink()
    elif harm == "list":
        (entry / "entry.json").write_text("{")
    else:
        (entry / "entry.json").write_text('{"schema": 99, "files": {}}')
    said: list[str] = []
    again = qc.compile(model, recipe="lossless", cache=cache, progress=said.append)
    assert not again.is_cached
    assert any("is damaged" in text and "compiling again" in text for text in said)
    assert contents(again.save(tmp_path / "b"))["model.onnx"] == first["model.onnx"]
    assert qc.compile(model, recipe="lossless", cache=cache).is_cached


def test_a_gate_that_was_not_met_is_not_met_from_the_cache_either(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(GateError):
            qc.compile(model, data=samples(), min_speedup=1000, strict=True, cache=cache)
    assert len(list((cache / "entries").iterdir())) == 1


def test_what_cannot_be_told_apart_is_not_kept(model: Path, tmp_path: Path) -> None:
    """A metric of the user's may call anything."""
    for metric in (lambda outputs, labels: 1.0, "tests.compiler.test_cache:constant"):
        options: dict[str, Any] = {"data": samples(), "metric": metric, "cache": tmp_path / "cache"}
        qc.compile(model, **options)
        assert not qc.compile(model, **options).is_cached


def test_the_code_of_passes_and_kernels_is_part_of_the_key() -> None:
    """They stand elsewhere in a checkout, behind links."""
    package = Path(qc.__file__).parent
    files = [Path(folder, name) for folder, _, names in os.walk(package, followlinks=True) for name in names]
    assert {"static.py", "catalog.py"} <= {path.name for path in files}
    assert sources_of(qc.compile, qc.Pass) == [sources_digest(package)]
    assert sources_digest(package / "passes") != sources_digest(package / "kernels") != sources_digest(Path(__file__))


def test_a_change_in_code_is_another_digest(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "a.py").write_text("x = 1")
    before = sources_digest(tmp_path / "package")
    (tmp_path / "real" / "a.py").write_text("x = 2")
    assert sources_digest(tmp_path / "package") != before


def test_links_that_lead_nowhere_or_in_circles_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    before = sources_digest(tmp_path)
    (tmp_path / ".#a.py").symlink_to("nobody@nowhere")
    (tmp_path / "up").symlink_to(tmp_path)
    assert sources_digest(tmp_path) == before


def test_code_that_was_changed_while_it_runs_is_computed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    qc.compile(model, recipe="lossless", cache=cache)
    monkeypatch.setattr("qcompiler.compiler.fingerprint.sources_digest", lambda path: "edited")
    assert not qc.compile(model, recipe="lossless", cache=cache).is_cached
    assert len(list((cache / "entries").iterdir())) == 1


def test_who_holds_a_result_keeps_it_when_it_is_evicted(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = qc.compile(model, recipe="lossless", cache=cache)
    found = qc.compile(model, recipe="lossless", cache=cache)
    assert ResultCache(cache).clear()[0] == 1
    one, two = contents(made.save(tmp_path / "a")), contents(found.save(tmp_path / "b"))
    assert one == two
    rooms = [path for path in (cache / "held").iterdir() if path.is_dir()]
    assert len(rooms) == 2
    for room in rooms:  # for however long
        os.utime(room, (1, 1))
    ResultCache(cache).trim()
    assert all(room.is_dir() for room in rooms)
    if (child := os.fork()) == 0:
        del made, found
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert all(room.is_dir() for room in rooms), "a child that was forked does not hold them"
    del made, found
    gc.collect()
    assert not list((cache / "held").iterdir())


def test_what_killed_processes_left_goes_after_a_day(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    qc.compile(model, recipe="lossless", cache=cache)
    (whole,) = (cache / "entries").iterdir()
    for left in (cache / "entries" / ".abc.1.part", cache / "held" / "tmp1", cache / "entries" / "halfgone"):
        left.mkdir(parents=True)
        (left / "model.onnx").write_bytes(b"x" * 100)
        os.utime(left, (1, 1))
    (cache / "entries" / ".new.part").mkdir()
    ResultCache(cache, limit=ResultCache(cache).statistics()[1] - 1).trim()
    assert {path.name for path in (cache / "entries").iterdir()} == {whole.name, ".new.part"}
    assert not list((cache / "held").iterdir())


def test_an_executor_that_cannot_be_used_costs_nothing_that_was_measured(model: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "build.unfinished"

    def stop(text: str) -> None:
        if text.startswith("scoring on samples"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qc.compile(model, data=samples(), min_speedup=0, unfinished=unfinished, progress=stop)
    kept = contents(unfinished)
    assert "journal.jsonl" in kept
    for executor in ("proceses:2", "dask:tcp://127.0.0.1:1"):
        with pytest.raises((UsageError, ExecutorError)):
            qc.compile(model, data=samples(), min_speedup=0, unfinished=unfinished, executor=executor)
        assert contents(unfinished) == kept
    cache = tmp_path / "cache"
    qc.compile(model, data=samples(), min_speedup=0, cache=cache)
    assert qc.compile(model, data=samples(), min_speedup=0, cache=cache, unfinished=unfinished).is_cached
    assert not unfinished.exists()


def test_waiting_for_another_does_not_spend_the_budget(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store, told = ResultCache(cache), list[str]()
    keys: list[str] = []
    original = ResultCache.claimed

    def noted(self: ResultCache, key: str, tell: Any) -> Any:
        keys.append(key)
        return original(self, key, tell)

    options: dict[str, Any] = {"data": samples(), "min_speedup": 0, "min_sqnr": 45, "budget": 30.0}
    ResultCache.claimed = noted  # type: ignore[method-assign]
    try:
        qc.compile(model, **options, cache=cache)
    finally:
        ResultCache.claimed = original  # type: ignore[method-assign]
    store.clear()
    with store.claimed(keys[0], told.append):
        thread = threading.Thread(target=lambda: qc.compile(model, **options, cache=cache, progress=told.append))
        thread.start()
        time.sleep(1.5)
        assert any("waiting for another process" in text for text in told)
    thread.join(60)
    assert not any("budget was spent" in text for text in told)


def test_the_oldest_go_when_the_cache_is_full(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for seed in range(3):
        qc.compile(model, recipe="lossless", seed=seed, cache=cache)
        (newest,) = sorted((cache / "entries").iterdir(), key=lambda path: path.stat().st_ctime_ns)[-1:]
        os.utime(newest / "entry.json", (seed, seed))
    assert qc.compile(model, recipe="lossless", seed=0, cache=cache).is_cached  # used: the youngest by now
    store = ResultCache(cache)
    count, size = store.statistics()
    assert count == 3
    ResultCache(cache, limit=size - 1).trim()
    assert qc.compile(model, recipe="lossless", seed=0, cache=cache).is_cached
    assert qc.compile(model, recipe="lossless", seed=2, cache=cache).is_cached
    assert not qc.compile(model, recipe="lossless", seed=1, cache=cache).is_cached
    assert store.clear()[0] == 3
    assert store.statistics() == (0, 0)


def test_where_the_cache_is_and_that_it_can_be_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert result_cache(True) is None  # $QCOMPILER_CACHE is off in tests
    monkeypatch.setenv("QCOMPILER_CACHE", str(tmp_path))
    found = result_cache(True)
    assert found is not None and found.folder == tmp_path
    monkeypatch.delenv("QCOMPILER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found = result_cache(True)
    assert found is not None and found.folder == tmp_path / "xdg" / "qcompiler" / "results"
    monkeypatch.setenv("QCOMPILER_CACHE_LIMIT", "many")
    with pytest.raises(UsageError, match="QCOMPILER_CACHE_LIMIT is 'many'"):
        result_cache(tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    result = qc.compile(model, recipe="lossless", cache=tmp_path / "file", progress=said.append)
    assert not result.is_cached
    assert any("cannot be used" in text for text in said)


def _compile_many(job: tuple[str, str, str, int]) -> list[tuple[bool, dict[str, bytes]]]:
    model, cache, out, count = job
    found = []
    for index in range(count):
        result = qc.compile(model, data=samples(), cache=cache)
        found.append((result.is_cached, contents(result.save(Path(out) / str(index)))))
    return found


def test_200_calls_in_8_processes_are_one_computation(model: Path, tmp_path: Path) -> None:
    jobs = [(str(model), str(tmp_path / "cache"), str(tmp_path / str(index)), 25) for index in range(8)]
    with ProcessPoolExecutor(8) as pool:
        found = [item for items in pool.map(_compile_many, jobs) for item in items]
    assert len(found) == 200
    assert sum(not cached for cached, _ in found) == 1
    assert all(files == found[0][1] for _, files in found)
    assert len(list((tmp_path / "cache" / "entries").iterdir())) == 1


def test_who_is_killed_in_the_middle_leaves_nothing_and_holds_up_nobody(model: Path, tmp_path: Path) -> None:
    cache, data = tmp_path / "cache", tmp_path / "data.npz"
    np.savez(data, **samples())
    script = (
        "import sys, os, qcompiler as qc\n"
        "def progress(text):\n"
        "    if text.startswith('measuring'): os.kill(os.getpid(), 9)\n"
        f"qc.compile({str(model)!r}, data={str(data)!r}, cache={str(cache)!r}, progress=progress)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -9
    assert not (cache / "entries").exists() or not list((cache / "entries").iterdir())
    assert not qc.compile(model, data=data, cache=cache).is_cached
    assert qc.compile(model, data=data, cache=cache).is_cached
