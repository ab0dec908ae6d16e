"""The executor of a card, on a card that is not there: its plans, buffers, bursts and fallbacks.

Memory is the processor's and each launch runs in Triton's interpreter; everything above the driver is what a card gets.
What only a card can tell (the driver itself, streams, cubins) is not tested here.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from qcompiler.errors import LoweringError
from qcompiler.ir import Model, clone_model
from qcompiler.kernels.building import Built, Specialization
from qcompiler.lower.cuda import program_of
from qcompiler.runtime import Executor
from qcompiler.runtime import cuda as runtime_cuda
from qcompiler.runtime.cuda import CudaExecutor
from tests.lower.models import model_of
from tests.lower.test_cuda import build, lowered, static_plan

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

TYPES = {
    "*i8": ctypes.c_int8,
    "*u8": ctypes.c_uint8,
    "*i32": ctypes.c_int32,
    "*fp32": ctypes.c_float,
    "*fp16": ctypes.c_uint16,
}


class Emulated:
    """What a driver does, by the interpreter. ``sizes`` are bytes by address."""

    capability, name = 90, "an emulated card"

    def __init__(self, sizes: dict[int, int]) -> None:
        self.sizes = sizes
        self.launched: list[str] = []
        self.graphs: list[Callable[[], None]] = []
        self.replayed = self.released = 0
        self.capturing: list[Any] | None = None

    def function(self, cubin: bytes, entry: str, shared: int) -> Any:
        return json.loads(cubin)

    def launch(self, function: Any, grid: Any, warps: int, shared: int, arguments: Any) -> None:
        if self.capturing is not None:
            self.capturing.append((function, grid, arguments))
            return
        module, _, name = function["function"].partition(":")
        self.launched.append(name)
        code = getattr(importlib.import_module(f"qcompiler.kernels.triton.{module}"), name)
        given, hidden = arguments[: len(function["types"])], arguments[len(function["types"]) :]
        assert hidden == (0, 0)
        assert len(inspect.signature(code.fn).parameters) == len(given) + len(function["constants"])
        values = [self.read(item, kind) for item, kind in zip(given, function["types"], strict=True)]
        with np.errstate(all="ignore"):
            code[grid](*values, **function["constants"])

    def read(self, item: Any, kind: str) -> Any:
        if isinstance(item, ctypes.c_int32):
            assert kind == "i32"
            return item.value
        element = TYPES[kind]
        array = np.ctypeslib.as_array((element * (self.sizes[item] // ctypes.sizeof(element))).from_address(item))
        return torch.from_numpy(array.view(np.float16) if kind == "*fp16" else array)

    def captured(self, work: Callable[[], None]) -> int:
        self.capturing = found = []
        work()
        self.capturing = None
        self.graphs.append(
            lambda: [self.launch(function, grid, 0, 0, arguments) for function, grid, arguments in found]
        )
        return len(self.graphs)

    def replay(self, graph: int) -> None:
        self.replayed += 1
        self.graphs[graph - 1]()

    def release(self, graph: int) -> None:
        self.released += 1

    def synchronize(self) -> None: ...

    def seconds(self, work: Callable[[], None], runs: int) -> float:
        work()
        return 1e-3


class OnTheProcessor(CudaExecutor):
    device = "cpu"

    def _open_driver(self) -> Any:
        self.sizes: dict[int, int] = {}
        return Emulated(self.sizes)

    def _session(self, model: bytes) -> Any:
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def _built(self, wanted: Specialization) -> Built:
        return Built(json.dumps(wanted.record()).encode(), "it", 0, wanted.warps, 2)

    def _up(self, array: Any) -> Any:
        return self.noted(super()._up(array))

    def _empty(self, kind: str, shape: tuple[int, ...]) -> Any:
        return self.noted(super()._empty(kind, shape))

    def _run(self, index: int, plan: Any) -> bool:
        done = super()._run(index, plan)
        for value in plan.given.get(index, ()):
            self.noted(value)
        return done

    def noted(self, value: Any) -> Any:
        self.sizes[value.data_ptr()] = value.tensor_size_in_bytes()
        return value


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def both(model: Model, **options: Any) -> tuple[OnTheProcessor, Executor, list[str]]:
    said: list[str] = []
    emulated = OnTheProcessor(program_of(clone_model(model)), tell=said.append, **options)
    return emulated, Executor(program_of(clone_model(model))), said


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return all(np.array_equal(one[name], two[name]) and one[name].shape == two[name].shape for name in two)


@pytest.mark.parametrize(
    "name", ["pooling and joining", "a head", "bilinear stays", "products", "a capture", "a dynamic batch", "attention"]
)
def test_every_run_gives_what_the_processor_gives(name: str) -> None:
    made, samples = lowered(build(name))
    emulated, plain, said = both(made)
    for sample in [*samples[:3], samples[0]]:  # settling, launching, capturing, replaying
        assert same(emulated.run(sample), plain.run(sample))
    assert not said


def test_launches_in_a_row_become_one_graph_and_nothing_is_allocated_again() -> None:
    made, samples = lowered(build("pooling and joining"))
    emulated, *_ = both(made)
    driver: Any = emulated._driver
    for sample in samples[:3]:
        emulated.run(sample)
    room = dict(emulated.sizes)
    for sample in samples:
        emulated.run(sample)
    assert len(driver.graphs) == 1
    assert driver.replayed == len(samples) + 1
    assert emulated.sizes == room


def test_every_shape_has_its_plan_and_old_ones_go() -> None:
    made, _ = lowered(build("a dynamic batch"))
    emulated, plain, _ = both(made)
    driver: Any = emulated._driver
    random = np.random.default_rng(0)
    for batch in [1, 2, 3, 2, 1, *range(4, 10), 1]:
        feed = {"x": random.standard_normal((batch, 8, 9, 7)).astype(np.float32)}
        for _ in range(3):
            assert same(emulated.run(feed), plain.run(feed))
    assert len(emulated._plans) == 8
    assert driver.released >= 1


def test_shapes_that_follow_from_the_elements() -> None:
    model = model_of(
        "g (float[6,64] x, bool[6] keep) => (float[n,8] y) { a = MatMul(x, m) b = Relu(a) c = Compress<axis=0>(b, keep) y = MatMul(c, o) }",
        m=(64, 64), o=(64, 8),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    feeds = [{"x": x, "keep": np.arange(6) < count} for count in (6, 2, 2, 2, 5, 0, 5, 1)]
    emulated, plain, said = both(static_plan(model, feeds[:1]))
    for feed in feeds:
        assert same(emulated.run(feed), plain.run(feed))
    assert not said


def refuse(what: str) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise LoweringError(what) if what.startswith(("cu", "kernels")) else RuntimeError(what)

    return call


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("launch", "cuLaunchKernel: too many resources requested for launch"),
        ("function", "cuModuleLoadData: the provided PTX was compiled with an unsupported toolchain."),
        ("_built", "kernels are compiled by triton"),
        ("ortvalue_from_shape_and_type", "out of memory"),
    ],
)
def test_what_cannot_be_launched_runs_as_its_body_and_is_told_once(
    place: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch or a cubin that the driver refuses, shapes that were not compiled, no memory."""
    made, samples = lowered(build("residual behind the activation"))
    emulated, plain, said = both(made)
    if place.startswith("ort"):
        monkeypatch.setattr(onnxruntime.OrtValue, place, refuse(what))
        what = "its results cannot be held: out of memory"
    else:
        monkeypatch.setattr(emulated if place == "_built" else emulated._driver, place, refuse(what))
    for sample in samples[:3]:
        found, wanted = emulated.run(sample)["y"], plain.run(sample)["y"]
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert len(said) == 2  # of Quantize, and of Int8Conv
    assert all(text.endswith(f"runs as its function body: {what}") for text in said)


def test_a_card_that_no_kernel_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Emulated, "capability", 75)
    made, samples = lowered(build("relu between"))
    emulated, plain, said = both(made)
    assert np.allclose(emulated.run(samples[0])["y"], plain.run(samples[0])["y"], atol=0.05)
    assert said[0] == "no kernel is made for sm_75: onnxruntime runs everything"


def test_tiles_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, samples = lowered(build("products"))
    emulated, plain, _ = both(made, tune=True)
    timed: list[int] = []
    driver: Any = emulated._driver
    monkeypatch.setattr(driver, "seconds", lambda work, runs: timed.append(runs) or 1e-3)
    assert same(emulated.run(samples[0]), plain.run(samples[0]))
    first = len(timed)
    assert first > 0
    assert same(both(made, tune=True)[0].run(samples[0]), plain.run(samples[0]))
    assert len(timed) == first  # what was found is in the cache
    assert runtime_cuda.known_tiles("an emulated card")


def test_defaults_and_wrong_feeds() -> None:
    made, samples = lowered(build("relu between"))
    emulated, *_ = both(made)
    with pytest.raises(LoweringError, match="input 'x' is not fed"):
        emulated.run({})
    call = emulated.prepared(samples[0])
    call()
    call()
