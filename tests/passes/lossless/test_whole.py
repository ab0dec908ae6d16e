"""All lossless passes in their order, on small models that hold what exporters write."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir import Model, clone_model, verify
from qcompiler.onnx_io import infer_types, load, weight_bytes
from qcompiler.passes import builtin_passes
from qcompiler.passes.lossless import LOSSLESS, FreezeInitializers
from qcompiler.pipeline import PassContext, Pipeline


def lossless(model: Model, **context: Any) -> tuple[Model, PassContext]:
    given = PassContext(**context)
    model, records = Pipeline([item() for item in LOSSLESS]).run(model, given)
    verify(model)
    assert all(record.status in ("applied", "no-op") for record in records)
    return model, given


def test_every_pass_has_a_name_and_options() -> None:
    passes = builtin_passes()
    assert {item.name for item in LOSSLESS} <= set(passes)
    for name, item in passes.items():
        assert item.name == name and item.configured(item().options()) == item()
        assert item.__doc__
    assert all(item.lossless for item in LOSSLESS)
    names = [rule.name for item in set(LOSSLESS) for rule in item.rules]
    assert {name for name, count in Counter(names).items() if count > 1} == {"conv-batch-norm"}


def test_one_after_the_other(rewrite: Callable[..., Any]) -> None:
    """An exporter of 2019: everything listed as input, a Dropout, batch norms, a flatten that computes its shape."""
    text = """g (float[1,1,6,6] x, float[2,1,3,3] w = {1, 0, 2, 0, 1, 0, 2, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1},
        float[2] s = {1, 2}, float[2] h = {0, 1}, float[2] m = {0, 1}, float[2] v = {1, 2},
        float[32,3] f = {%s}, float[3] b = {1, 2, 3}) => (float[1,3] y)
    {
        p = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1], mode = "constant", value = 0.0>(x)
        c = Conv(p, w) n = BatchNormalization(c, s, h, m, v) r = Relu(n) d = Dropout<ratio = 0.5>(r)
        q = MaxPool<kernel_shape = [2, 2], strides = [1, 1], pads = [0, 0, 0, 0]>(d) k = Identity(q)
        a = Slice<starts = [0, 0], ends = [4, 4], axes = [2, 3]>(k)
        z = Constant<value = int64 {0}>() o = Constant<value = int64 {-1}>()
        sh = Shape(a) e = Gather<axis = 0>(sh, z) u = Unsqueeze<axes = [0]>(e) i = Unsqueeze<axes = [0]>(o)
        j = Concat<axis = 0>(u, i) l = Reshape(a, j) t = MatMul(l, f) y = Add(t, b)
    }"""
    done = rewrite(text % ", ".join(str(n % 5) for n in range(96)), *[item() for item in LOSSLESS], opset=9)
    assert done.nodes == [
        "%5 = Conv(x, %3, %4) {pads=[1,1,1,1]}",
        "%6 = Relu(%5)",
        "%7 = MaxPool(%6) {kernel_shape=[2,2], pads=[0,0,0,0], strides=[1,1]}",
        "%8 = Slice(%7) {axes=[2,3], ends=[4,4], starts=[0,0]}",
        "%9 = Reshape(%8, %2)",
        "y = Gemm(%9, %0, %1)",
    ]


def test_overridable_weights_stop_what_computes_with_them(rewrite: Callable[..., Any]) -> None:
    text = """g (float[1,1,3,3] x, float[1,1,1,1] w = {2}) => (float[1,1,3,3] y) <float[1] s = {2}> {
        t = Conv(x, w) i = Identity(t) n = BatchNormalization(i, s, s, s, s) y = Relu(n)
    }"""
    passes = [FreezeInitializers(mode="never"), *[item() for item in LOSSLESS if item is not FreezeInitializers]]
    assert rewrite(text, *passes).ops == ["Conv", "BatchNormalization", "Relu"]


class Builder:
    """A random network over values of known shape, in the forms of one version of the operator set."""

    def __init__(self, opset: int, seed: int) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape: tuple[int, ...] = (2, 4, 8, 8)
        self.values: list[tuple[str, tuple[int, ...]]] = [("x", self.shape)]
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def constant(self, array: Any) -> str:
        name = self.name()
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def floats(self, *shape: int) -> str:
        return self.constant(self.random.uniform(0.25, 1.5, size=shape).astype(np.float32))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attrs))
        return names[0]

    def with_list(self, op: str, x: str, since: int, **lists: list[int]) -> str:
        """Lists are inputs from version ``since`` on."""
        if self.opset < since:
            return self.add(op, x, **lists)
        return self.add(op, x, *[self.constant(np.array(items, np.int64)) for items in lists.values()])

    def step(self, choice: str, number: int) -> None:
        x, shape = self.values[-1]
        made = getattr(self, choice)(x, shape, number)
        if made is not None:
            self.values.append(made)

    def conv(self, x: str, shape: Any, number: int) -> Any:
        if len(shape) != 4 or min(shape[2:]) < 3:
            return None
        out, group = (4, 2)[number % 2], 2 if number // 2 % 2 and shape[1] % 2 == 0 else 1
        size = 3 if number % 3 else 1
        weight = self.constant(
            (self.random.normal(size=(out, shape[1] // group, size, size)) / size).astype(np.float32)
        )
        bias = [self.floats(out)] if number % 5 else []
        pads = [1, 0, 1, 1] if number % 7 < 3 else [0, 0, 0, 0]
        sides = tuple(shape[2 + i] + pads[i] + pads[2 + i] - size + 1 for i in (0, 1))
        return self.add("Conv", x, weight, *bias, group=group, pads=pads), (shape[0], out, *sides)

    def norm(self, x: str, shape: Any, number: int) -> Any:
        if len(shape) != 4:
            return None
        return self.add("BatchNormalization", x, *[self.floats(shape[1]) for _ in range(4)]), shape

    def affine(self, x: str, shape: Any, number: int) -> Any:
        if len(shape) < 2:
            return None
        kind = ("Mul", "Add", "Sub", "Div")[number % 4]
        sizes = [(), (1,), (shape[1],) + (1,) * (len(shape) - 2), shape[-1:]][number // 4 % 4]
        operand = (
            self.floats(*sizes) if number % 5 else self.constant(np.full(sizes, kind in ("Mul", "Div"), np.float32))
        )
        flip = number % 7 == 0 and kind != "Div"
        return self.add(kind, *((operand, x) if flip else (x, operand))), shape

    def plain(self, x: str, shape: Any, number: int) -> Any:
        kind = ("Relu", "Sigmoid", "Identity", "Dropout", "Abs", "Relu")[number % 6]
        return self.add(kind, x), shape

    def pad(self, x: str, shape: Any, number: int) -> Any:
        if len(shape) != 4 or shape[2] > 12:
            return None
        pads = [0, 0, number % 2, 1, 0, 0, 0, number % 3]
        made = self.with_list("Pad", x, 11, pads=pads)
        return made, tuple(size + pads[i] + pads[4 + i] for i, size in enumerate(shape))

    def pool(self, x: str, shape: Any, number: int) -> Any:
        if len(shape) != 4 or min(shape[2:]) < 3:
            return None
        kind = ("MaxPool", "AveragePool")[number % 2]
        sides = tuple(size - 1 for size in shape[2:])
        return self.add(kind, x, kernel_shape=[2, 2]), (*shape[:2], *sides)

    def flip(self, x: str, shape: Any, number: int) -> Any:
        perm = [int(axis) for axis in np.random.default_rng(number).permutation(len(shape))]
        made = self.add("Transpose", x, perm=perm)
        if number % 3 == 0:
            return made, tuple(shape[axis] for axis in perm)
        back = [int(axis) for axis in np.argsort(perm)]
        return self.add("Transpose", made, perm=back), shape

    def view(self, x: str, shape: Any, number: int) -> Any:
        if number % 4 == 0:
            axis = number % (len(shape) + 1)
            made = self.with_list("Unsqueeze", x, 13, axes=[axis])
            if number % 8:
                return self.with_list("Squeeze", made, 13, axes=[axis]), shape
            return (made, (*shape[:axis], 1, *shape[axis:])) if len(shape) < 5 else None
        if number % 4 == 1:
            sizes = self.add("Shape", x)
            return self.add("Reshape", self.add("Reshape", x, self.constant(np.array([-1], np.int64))), sizes), shape
        if number % 4 == 2:
            wanted = [0, -1, *shape[2:]] if len(shape) > 1 else [-1]
            return self.add("Reshape", x, self.constant(np.array(wanted, np.int64))), shape
        flat = (shape[0], int(np.prod(shape[1:])))
        return self.add("Flatten", x), flat

    def cut(self, x: str, shape: Any, number: int) -> Any:
        end = shape[0] if number % 2 else 2**31 - 1
        return self.with_list("Slice", x, 10, starts=[0], ends=[end]), shape

    def dense(self, x: str, shape: Any, number: int) -> Any:
        if len(shape) != 2:
            return None
        weight = self.constant((self.random.normal(size=(shape[1], 3)) / shape[1]).astype(np.float32))
        if number % 2:
            weight = self.add("Transpose", self.add("Transpose", weight, perm=[1, 0]), perm=[1, 0])
        return self.add("Add", self.add("MatMul", x, weight), self.floats(3)), (shape[0], 3)

    def twin(self, x: str, shape: Any, number: int) -> Any:
        left, right = self.add("Tanh", x), self.add("Tanh", x)
        return self.add("Mul", left, self.add("Neg", right)), shape

    def again(self, x: str, shape: Any, number: int) -> Any:
        """Add an earlier value of the same shape, so that something in the middle has a second user."""
        same = [name for name, other in self.values[:-1] if other == shape]
        return (self.add("Add", x, same[number % len(same)]), shape) if same else None

    def model(self, outputs: list[int], listed: bool, dynamic: bool) -> Model:
        given = dict([self.values[-1], *(self.values[i % len(self.values)] for i in outputs)])
        given.pop("x", None)
        if not given:
            given = {self.add("Relu", "x"): self.values[0][1]}
        shape = ("n", *self.values[0][1][1:]) if dynamic else self.values[0][1]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        if listed:
            inputs += [helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in self.weights]
        graph = helper.make_graph(
            self.nodes,
            "random",
            inputs,
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{axis}" for axis in range(len(shape))])
                for name, shape in given.items()
            ],
            self.weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        model = load(proto)
        infer_types(model)
        return model


STEPS = [
    "conv",
    "conv",
    "norm",
    "affine",
    "affine",
    "plain",
    "pad",
    "pool",
    "flip",
    "view",
    "cut",
    "dense",
    "twin",
    "again",
]


@given(
    opset=st.sampled_from([7, 9, 11, 13, 17, 21]),
    seed=st.integers(0, 2**16),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 200)), min_size=1, max_size=14),
    outputs=st.lists(st.integers(0, 20), max_size=2),
    listed=st.booleans(),
    dynamic=st.booleans(),
)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_networks(
    same_numbers: Callable[..., None],
    feeds_for: Callable[..., Any],
    opset: int,
    seed: int,
    steps: list[tuple[str, int]],
    outputs: list[int],
    listed: bool,
    dynamic: bool,
) -> None:
    """Same numbers, same outputs, never more nodes or bytes of weights worth mentioning, and nothing left to do."""
    builder = Builder(opset, seed)
    for choice, number in steps:
        builder.step(choice, number)
    source = builder.model(outputs, listed, dynamic)
    if listed and not builder.weights:
        listed = False
    feeds = feeds_for(source, {})
    model, context = lossless(clone_model(source), samples=[feeds])
    same_numbers(source, model, feeds)
    assert len(list(model.nodes())) <= len(list(source.nodes()))
    assert weight_bytes(model) <= weight_bytes(source) + 1024 * len(list(source.nodes()))
    assert [value.name for value in model.graph.outputs] == [value.name for value in source.graph.outputs]
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert any("were listed" in text for text in context.warnings) is listed
    again, _ = lossless(clone_model(model))
    assert [node.op_type for node in again.nodes()] == [node.op_type for node in model.nodes()]


@pytest.mark.parametrize("count", [0, 1])
def test_graphs_with_nothing_to_do(rewrite: Callable[..., Any], count: int) -> None:
    nodes = "y = Relu(x)" if count else "y = Identity(x)"
    assert rewrite(f"g (float[2] x) => (float[2] y) {{ {nodes} }}", *[item() for item in LOSSLESS]).changed == 0
