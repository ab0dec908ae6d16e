"""Random graphs of fifty operators, in the pieces that exporters write, under every rule there is in any order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, clone_model, tensor, verify
from qcompiler.onnx_io import infer_types
from qcompiler.passes import builtin_passes
from qcompiler.passes.lossless import LOSSLESS
from qcompiler.pipeline import Pass, PassContext, Pipeline, Reference
from qcompiler.rewrite import Rule, Trace, apply_rules
from qcompiler.testing import random_feeds

RULES = list({rule.name: rule for item in builtin_passes().values() for rule in item.rules}.values())
OPS = 50
SHAPE = (2, 4, 6, 6)


class Network:
    """Grows a graph over one float value of four axes by pieces, each in one of the ways in which it is written."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("random")
        self.values = [self.graph.add_input(Value("x", TensorType(DType.FLOAT, ("n", *SHAPE[1:]))))]
        self.count = 0

    def add(self, kind: str, *inputs: Any, **attrs: Any) -> Value:
        self.count += 1
        held = [item if isinstance(item, Value) or item is None else self.constant(item) for item in inputs]
        return self.graph.append(Node(kind, held, attrs, name=f"{kind}_{self.count}")).output

    def constant(self, data: Any) -> Value:
        array = np.asarray(data)
        return self.graph.add_constant(tensor(array.astype(np.float32) if array.dtype == np.float64 else array))

    def either_way(self, kind: str, a: Any, b: Any) -> Value:
        return self.add(kind, *((a, b) if self.choose.random() < 0.5 else (b, a)))

    def per_channel(self) -> Any:
        return self.rng.uniform(0.5, 1.5, (4, 1, 1))

    def grow(self) -> None:
        x = self.values[-1] if self.choose.random() < 0.8 else self.choose.choice(self.values)
        self.values.append(self.choose.choice(PIECES)(self, x))

    def model(self) -> Model:
        while self.count < OPS:
            self.grow()
        for index, value in enumerate(dict.fromkeys([self.values[-1], self.choose.choice(self.values[1:])])):
            value.name = f"y{index}"
            self.graph.add_output(value)
        model = Model(self.graph, {"": 21, "com.microsoft": 1})
        infer_types(model)
        return model


def plain(net: Network, x: Value) -> Value:
    return net.add(net.choose.choice(["Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Identity", "Dropout"]), x)


def gelu(net: Network, x: Value) -> Value:
    gate = net.either_way("Add", net.add("Erf", net.add("Div", x, 2**0.5)), 1.0)
    if net.choose.random() < 0.5:
        return net.either_way("Mul", net.either_way("Mul", x, gate), 0.5)
    return net.either_way("Mul", net.either_way("Mul", x, 0.5), gate)


def gelu_tanh(net: Network, x: Value) -> Value:
    inner = net.either_way("Add", x, net.either_way("Mul", net.add("Pow", x, 3.0), 0.044715))
    gate = net.either_way("Add", net.add("Tanh", net.either_way("Mul", inner, (2 / np.pi) ** 0.5)), 1.0)
    return net.either_way("Mul", net.either_way("Mul", x, 0.5), gate)


def swish(net: Network, x: Value) -> Value:
    return net.either_way("Mul", x, net.add("Sigmoid", x))


def hard_swish(net: Network, x: Value) -> Value:
    gate = net.add("Clip", net.either_way("Add", x, 3.0), np.float32(0), np.float32(6))
    if net.choose.random() < 0.5:
        return net.either_way("Mul", x, net.add("Div", gate, 6.0))
    return net.add("Div", net.either_way("Mul", x, gate), 6.0)


def mish(net: Network, x: Value) -> Value:
    return net.either_way("Mul", x, net.add("Tanh", net.add("Softplus", x)))


def norm(net: Network, x: Value) -> Value:
    axes = np.array(net.choose.choice([[-1], [3], [2, 3]]))
    mean = net.add("ReduceMean", x, axes)
    centred = net.add("Sub", x, mean)
    square = net.add("Pow", centred, 2.0) if net.choose.random() < 0.5 else net.add("Mul", centred, centred)
    spread = net.add("Sqrt", net.either_way("Add", net.add("ReduceMean", square, axes), 1e-5))
    normed = (
        net.add("Div", centred, spread)
        if net.choose.random() < 0.7
        else net.either_way("Mul", centred, net.add("Reciprocal", spread))
    )
    size = net.choose.choice([(6,), (4, 1, 1)])
    return net.either_way(
        "Add", net.either_way("Mul", normed, net.rng.uniform(0.5, 1.5, size)), net.rng.normal(size=size)
    )


def rms_norm(net: Network, x: Value) -> Value:
    square = net.add("Mul", x, x) if net.choose.random() < 0.5 else net.add("Pow", x, 2.0)
    root = net.add("Sqrt", net.either_way("Add", net.add("ReduceMean", square, np.array([-1])), 1e-5))
    return net.either_way("Mul", net.either_way("Mul", x, net.add("Reciprocal", root)), net.rng.uniform(0.5, 1.5, 6))


def softmax(net: Network, x: Value) -> Value:
    powers = net.add("Exp", net.add("Sub", x, net.add("ReduceMax", x, np.array([-1]))))
    return net.add("Div", powers, net.add("ReduceSum", powers, np.array([-1])))


def conv(net: Network, x: Value) -> Value:
    weight = net.rng.normal(size=(4, 4, 3, 3)) / 6
    made = net.add(
        "Conv", x, weight, *([net.rng.normal(size=4)] if net.choose.random() < 0.5 else []), pads=[1, 1, 1, 1]
    )
    way = net.choose.randrange(4)
    if way == 0:
        return net.add("BatchNormalization", made, *(net.rng.uniform(0.5, 1.5, 4) for _ in range(4)))
    if way == 1:
        return net.either_way("Mul", made, net.per_channel())
    return net.either_way("Add", made, net.per_channel()) if way == 2 else made


def padded(net: Network, x: Value) -> Value:
    wider = net.add("Pad", x, np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(0))
    return net.add("Conv", wider, net.rng.normal(size=(4, 4, 3, 3)) / 6)


def dense(net: Network, x: Value) -> Value:
    flat = net.add("Reshape", x, np.array([-1, 6]))
    made = net.either_way("Add", net.add("MatMul", flat, net.rng.normal(size=(6, 6)) / 3), net.rng.normal(size=6))
    return net.add("Reshape", made, np.array([-1, *SHAPE[1:]]))


def turned(net: Network, x: Value) -> Value:
    perm = net.choose.sample(range(4), 4)
    back = [perm.index(axis) for axis in range(4)]
    made = net.add("Transpose", x, perm=perm)
    return net.add("Transpose", net.add("Relu", made) if net.choose.random() < 0.3 else made, perm=back)


def viewed(net: Network, x: Value) -> Value:
    if net.choose.random() < 0.5:
        return net.add("Squeeze", net.add("Unsqueeze", x, np.array([1])), np.array([1]))
    sizes = net.add("Shape", x)
    return net.add("Reshape", net.add("Reshape", x, np.array([0, -1])), sizes)


def sized(net: Network, x: Value) -> Value:
    first = net.add("Unsqueeze", net.add("Gather", net.add("Shape", x), np.int64(0)), np.array([0]))
    return net.add("Reshape", net.add("Identity", x), net.add("Concat", first, np.array(SHAPE[1:]), axis=0))


def cut(net: Network, x: Value) -> Value:
    end = net.choose.choice([4, 2**31 - 1, 2**62])
    return net.add(
        "Slice",
        net.add("Slice", x, np.array([0]), np.array([end]), np.array([1])),
        np.array([0]),
        np.array([9]),
        np.array([2]),
    )


def cast(net: Network, x: Value) -> Value:
    return net.add("Cast", net.add("Cast", x, to=11), to=1) if net.choose.random() < 0.5 else net.add("Cast", x, to=1)


def pooled(net: Network, x: Value) -> Value:
    return net.either_way("Mul", x, net.add("ReduceMean", x, np.array([2, 3])))


def again(net: Network, x: Value) -> Value:
    return net.either_way(net.choose.choice(["Add", "Mul", "Max", "Sum"]), x, net.choose.choice(net.values))


def neutral(net: Network, x: Value) -> Value:
    kind, number = net.choose.choice([("Add", 0.0), ("Mul", 1.0), ("Div", 1.0), ("Sub", 0.0), ("Pow", 1.0)])
    return net.add(kind, x, number)


PIECES: list[Callable[[Network, Value], Value]] = [
    plain, gelu, gelu_tanh, swish, hard_swish, mish, norm, norm, rms_norm, softmax, conv, conv, padded, dense, turned,
    viewed, sized, cut, cast, pooled, again, again, neutral,
]  # fmt: skip


def in_any_order(model: Model, rules: list[Rule], choose: random.Random) -> dict[str, int]:
    """Apply ``rules`` in random order, in portions, each portion until none of its rules fires; rewrites by rule."""
    trace = Trace()
    choose.shuffle(rules)
    while rules:
        some = [rules.pop() for _ in range(min(len(rules), choose.randint(1, 20)))]
        apply_rules(model, some, trace=trace)
        infer_types(model)
    return trace.counts()


def check(seed: int) -> dict[str, int]:
    source = Network(seed).model()
    assert len(source.graph) >= OPS
    reference = Reference(source, random_feeds(source, 2, seed))
    model = clone_model(source)
    counts = in_any_order(model, list(RULES), random.Random(seed))
    verify(model)
    assert reference.difference(model) == ""
    assert [value.name for value in model.graph.outputs] == [value.name for value in source.graph.outputs]
    return counts


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_all_rules_in_any_order_keep_the_numbers(seed: int) -> None:
    check(seed)


@pytest.mark.long
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=1500)
def test_all_rules_in_any_order_keep_the_numbers_of_many_graphs(seed: int) -> None:
    check(seed)


def test_the_graphs_give_most_rules_something_to_do() -> None:
    fired: set[str] = set()
    for seed in range(30):
        fired |= check(seed).keys()
    assert len(fired) >= 30, sorted(fired)


def everywhere(self: Pass, model: Model, context: PassContext, rules: Sequence[Rule]) -> int:
    """``Pass.apply`` that does not remember."""
    wanted = [rule for rule in rules if rule.name not in context.disabled]
    return apply_rules(model, wanted, trace=context.trace, permit=context.permit)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_looking_near_what_was_touched_misses_nothing(seed: int) -> None:
    """The same operators are left as when each pass looks at every node each time."""
    source = Network(seed).model()
    left = []
    for apply in (Pass.apply, everywhere):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pass, "apply", apply)
            model, _ = Pipeline([item() for item in LOSSLESS]).run(clone_model(source), PassContext())
        left.append(Counter(node.op_type for node in model.nodes()))
    assert left[0] == left[1]
