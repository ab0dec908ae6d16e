"""A model in onnx's text form through passes: what became of it, and the numbers before and after."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.parser
import pytest

from qcompiler.ir import Model, clone_model, format_model, tensor, verify
from qcompiler.onnx_io import infer_types, load, open_session, weight_bytes
from qcompiler.pipeline import Pass, PassContext, deviation, tolerance

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Done:
    """``nodes`` are the lines of the rewritten main graph's nodes, inner values numbered; ``text`` is all of it."""

    source: Model
    model: Model
    context: PassContext
    changed: int
    counts: dict[str, int]
    reasons: list[str]

    @property
    def text(self) -> str:
        return format_model(self.model, numbered=True)

    @property
    def nodes(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if re.match(r" +[^ (]\S*(, \S+)* = [\w:.]+\(", line)]

    @property
    def ops(self) -> list[str]:
        return [node.op_type for node in self.model.nodes()]

    def constant(self, position: int) -> Array:
        """The elements of the constant at ``position`` among those that are used."""
        used = [value for value in self.model.graph.constants if value.uses and value.constant is not None]
        return used[position].constant.numpy()

    @property
    def grown(self) -> int:
        """Bytes of constants that were added, less those that went."""
        return weight_bytes(self.model) - weight_bytes(self.source)


def random_feeds(model: Model, sizes: dict[str, int], seed: int = 0) -> dict[str, Array]:
    """Something for every input without a default; symbolic sizes as ``sizes`` says, 2 where it is silent."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        if value.const is None:
            shape = tuple(dim if isinstance(dim, int) else sizes.get(str(dim), 2) for dim in value.shape or ())
            dtype = value.dtype.numpy
            drawn = random.normal(size=shape) if dtype.kind == "f" else random.integers(0, 2, shape)
            feeds[value.name] = np.asarray(drawn, dtype=dtype)
    return feeds


def assert_same_numbers(source: Model, model: Model, feeds: dict[str, Array]) -> None:
    """onnxruntime gives the same for both, its optimizations off."""
    expected = open_session(source, optimize=False).run(feeds)
    found = open_session(model, optimize=False).run(feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert deviation(array, found[name]) <= tolerance(source), name


Rewrite = Callable[..., Done]


@pytest.fixture(scope="session")
def same_numbers() -> Callable[[Model, Model, dict[str, Array]], None]:
    """same_numbers(before, after, feeds)"""
    return assert_same_numbers


@pytest.fixture(scope="session")
def feeds_for() -> Callable[..., dict[str, Array]]:
    """feeds_for(model, sizes of symbolic axes, seed)"""
    return random_feeds


@pytest.fixture(scope="session")
def model_of() -> Callable[..., Model]:
    """model_of(text, opset=, ir=, **arrays): a typed model; an initializer named in ``arrays`` holds that array."""

    def build(text: str, *, opset: int = 17, ir: int = 8, **arrays: Any) -> Model:
        proto = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}, "local": 1]>' + text)
        model = load(proto)
        held = {value.name: value for graph in model.graphs() for value in graph.constants}
        for name, array in arrays.items():
            value, made = held[name], tensor(np.asarray(array), name=name)
            assert made.shape == value.shape and made.dtype is value.dtype
            value.const = made
        infer_types(model)
        return model

    return build


@pytest.fixture(scope="session")
def rewrite(model_of: Callable[..., Model]) -> Rewrite:
    """rewrite(text, *passes, sizes=, run=, explain=, **arrays): the passes in turn; numbers are compared unless run=False."""

    def through(
        text: str | Model,
        *passes: Pass,
        opset: int = 17,
        ir: int = 8,
        sizes: dict[str, int] | None = None,
        run: bool = True,
        explain: bool = False,
        disabled: tuple[str, ...] = (),
        **arrays: Any,
    ) -> Done:
        model = text if isinstance(text, Model) else model_of(text, opset=opset, ir=ir, **arrays)
        source = clone_model(model)
        context = PassContext(disabled=set(disabled))
        context.trace.explain = explain
        changed = 0
        for item in passes:
            changed += item.run(model, context)
            verify(model)
            infer_types(model)
        if run:
            for seed in range(2):
                assert_same_numbers(source, model, random_feeds(source, sizes or {}, seed))
        reasons = [miss.reason for miss in context.trace.near_misses]
        return Done(source, model, context, changed, context.trace.counts(), reasons)

    return through
