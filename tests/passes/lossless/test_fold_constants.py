"""What is computed from constants, and what is better left to run time."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor
from qcompiler.onnx_io import infer_types
from qcompiler.passes.lossless import FoldConstants, ShareEqualWeights, Simplify
from qcompiler.pipeline import PassContext


def of(nodes: str, constants: str, shape: str = "2", result: str = "2", element: str = "float") -> str:
    return f"g ({element}[{shape}] x) => ({element}[{result}] y) <{constants}> {{ {nodes} }}"


def zeros(*shape: int) -> str:
    return ", ".join("0" * int(np.prod(shape)))


def test_a_chain_becomes_one_constant(rewrite: Callable[..., Any]) -> None:
    done = rewrite(of("a = Neg(w) b = Mul(a, a) c = Add(b, w) y = Mul(x, c)", "float[2] w = {1, 2}"), FoldConstants())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[2]) {",
        "  %0: float[2] = [2,6]",
        "  y = Mul(x, %0)",
        "  return y: float[2]",
        "}",
    ]
    assert done.counts == {"fold-constants": 1} and done.grown == 0


def test_only_what_is_used_outside_of_the_chain_is_kept(rewrite: Callable[..., Any]) -> None:
    nodes = "a = Neg(w) b = Exp(a) c = Abs(a) d = Mul(x, a) e = Mul(d, b) y = Add(e, c)"
    done = rewrite(of(nodes, "float[2] w = {1, 2}"), FoldConstants())
    assert done.ops == ["Mul", "Mul", "Add"] and done.changed == 3


def test_an_output_that_is_constant(rewrite: Callable[..., Any]) -> None:
    """An Identity gives it its name, and that is the end of it."""
    text = "g (float[2] x) => (float[2] y, float[2] z) <float[2] w = {1, 2}> { z = Neg(w) y = Mul(x, z) }"
    done = rewrite(text, FoldConstants(), FoldConstants())
    assert sorted(done.ops) == ["Identity", "Mul"] and done.changed == 1


def test_several_outputs(rewrite: Callable[..., Any]) -> None:
    text = of("a, b = Split<axis = 0>(w) c = Mul(x, a) y = Add(c, b)", "float[4] w = {1, 2, 3, 4}")
    done = rewrite(text, FoldConstants(), opset=11)
    assert done.ops == ["Mul", "Add"] and done.grown == 0


def test_one_of_several_outputs(rewrite: Callable[..., Any]) -> None:
    text = of("v, i = TopK(w, k) y = Mul(x, v)", "float[4] w = {1, 2, 3, 4}, int64[1] k = {2}")
    assert rewrite(text, FoldConstants()).ops == ["Mul"]


SHAPES = [
    ("s = Shape(x) y = Cast<to = 1>(s)", "2,3,4", [2, 3, 4]),
    ("s = Shape<start = 1>(x) y = Cast<to = 1>(s)", "n,3,4", [3, 4]),
    ("s = Shape<start = -2, end = -1>(x) y = Cast<to = 1>(s)", "n,3,4", [3]),
    ("s = Shape<start = -9, end = 9>(x) y = Cast<to = 1>(s)", "2,3,4", [2, 3, 4]),
    ("s = Size(x) y = Cast<to = 1>(s)", "2,3,4", 24),
    ("s = Size(x) y = Cast<to = 1>(s)", "n,0", 0),
    ("s = Shape(x) t = Gather(s, i) y = Cast<to = 1>(t)", "n,3,4", [4, 3]),
    ("s = Shape(x) t = Gather(s, j) y = Cast<to = 1>(t)", "n,3,4", 4),
    ("s = Shape(x) t = Slice(s, a, b) y = Cast<to = 1>(t)", "n,3,4", [3]),
    ("s = Shape(x) t = Slice(s, a, b) u = Gather(t, z) y = Cast<to = 1>(u)", "n,3,m", 3),
]


@pytest.mark.parametrize(("nodes", "shape", "numbers"), SHAPES)
def test_sizes_that_are_known(rewrite: Callable[..., Any], nodes: str, shape: str, numbers: Any) -> None:
    constants = "int64[2] i = {-1, 1}, int64 j = {2}, int64[1] a = {1}, int64[1] b = {-1}, int64 z = {0}"
    text = of(nodes, constants, shape, str(np.size(numbers)))
    done = rewrite(text if isinstance(numbers, list) else text.replace("float[1] y", "float y"), FoldConstants())
    assert done.ops == ["Identity"]
    (value,) = [v for v in done.model.graph.constants if v.uses]
    assert value.constant.numpy().tolist() == numbers


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ("s = Shape(x) y = Cast<to = 1>(s)", "n,3"),
        ("s = Size(x) t = Unsqueeze(s, a) y = Cast<to = 1>(t)", "n,3"),
        ("s = Shape(x) t = Gather(s, i) y = Cast<to = 1>(t)", "n,3"),
        ("s = Shape(x) t = Slice(s, a, b, , c) y = Cast<to = 1>(t)", "n,3,4"),
        (
            "s = Shape(x) m = Size(s) u = Unsqueeze(m, a) d = Sub(u, u) r = Shape(x) q = ReduceSum(r, a) e = Mul(d, q) "
            "t = Slice(s, e, b) v = Gather(s, e) w = Add(t, v) y = Cast<to = 1>(w)",
            "n,3,4",
        ),
        ("s = Shape(x) t = Gather(s, j) u = Reshape(t, o) y = Cast<to = 1>(u)", "2,3"),
    ],
)
def test_sizes_that_are_not(rewrite: Callable[..., Any], nodes: str, shape: str) -> None:
    """The last one asks for an axis that is not there; it fails at run time as it did before."""
    constants = (
        "int64[2] i = {0, 1}, int64[1] a = {0}, int64[1] b = {2}, int64[1] c = {2}, int64 j = {7}, int64[1] o = {1}"
    )
    done = rewrite(of(nodes, constants, shape, "k"), FoldConstants(), run="j" not in nodes)
    assert "Identity" not in done.ops and "Cast" in done.ops


def test_a_reshape_of_the_old_exporters(rewrite: Callable[..., Any]) -> None:
    """Shape, Gather, Unsqueeze, Concat, Reshape: with a known batch nothing is left but the Reshape."""
    text = of(
        "s = Shape(x) b = Gather<axis = 0>(s, z) u = Unsqueeze<axes = [0]>(b) m = Unsqueeze<axes = [0]>(r) "
        "c = Concat<axis = 0>(u, m) y = Reshape(x, c)",
        "int64 z = {0}, int64 r = {-1}", "2,3,4", "2,12",
    )  # fmt: skip
    assert rewrite(text, FoldConstants(), opset=9).nodes == ["y = Reshape(x, %0)"]


def test_what_one_wave_teaches_the_next_uses(rewrite: Callable[..., Any]) -> None:
    """The second Shape is known only when the sizes of the first Reshape are, which inference cannot follow by itself."""
    text = of(
        "f = Cast<to = 1>(k) g = Sqrt(f) h = Floor(g) i = Cast<to = 7>(h) r = Reshape(x, i) s = Shape(r) "
        "t = Slice(s, a, b) u = Expand(o, t) y = Mul(r, u)",
        "int64[2] k = {16, 9}, int64[1] a = {0}, int64[1] b = {2}, float o = {2}", "12", "4,3",
    )  # fmt: skip
    done = rewrite(text, FoldConstants())
    assert done.ops == ["Reshape", "Mul"]


def test_the_model_never_grows(rewrite: Callable[..., Any]) -> None:
    big = of(
        "b = Expand(o, s) c = Mul(b, b) y = Add(x, c)", "float o = {2}, int64[2] s = {100, 100}", "100,100", "100,100"
    )
    done = rewrite(big, FoldConstants())
    assert done.ops == ["Expand", "Mul", "Add"] and done.grown == 0
    assert "the model would grow by 39980 bytes" in done.reasons
    small = big.replace("100", "10")
    done = rewrite(small, FoldConstants())
    assert done.ops == ["Add"] and done.grown <= 1024
    assert rewrite(small, FoldConstants(allowance=64)).ops == ["Expand", "Mul", "Add"]


def test_what_grows_and_shrinks_again_is_folded(rewrite: Callable[..., Any]) -> None:
    text = of("b = Expand(o, s) c = ReduceSum<keepdims = 0>(b) y = Mul(x, c)", "float o = {2}, int64[2] s = {100, 100}")
    done = rewrite(text, FoldConstants())
    assert done.ops == ["Mul"] and done.grown < 0


def test_a_long_way_to_a_large_result_does_not_excuse_it(rewrite: Callable[..., Any]) -> None:
    steps = " ".join(f"b{i + 1} = Exp(b{i})" for i in range(60))
    text = of(
        f"b0 = Expand(o, s) {steps} y = Add(x, b60)", "float o = {-9}, int64[2] s = {100, 100}", "100,100", "100,100"
    )
    done = rewrite(text, FoldConstants(), run=False)
    assert done.changed == 0 and done.grown == 0


def test_a_weight_in_another_form(rewrite: Callable[..., Any]) -> None:
    """A transposed weight takes the place of the weight, unless somebody else needs that too."""
    weight = f"float[40,30] w = {{{zeros(40, 30)}}}"
    drawn = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    done = rewrite(of("t = Transpose(w) y = MatMul(x, t)", weight, "2,30", "2,40"), FoldConstants(), w=drawn)
    assert done.ops == ["MatMul"] and done.grown == 0
    text = of("t = Transpose(w) u = MatMul(x, t) y = MatMul(u, w)", weight, "2,30", "2,30")
    done = rewrite(text, FoldConstants(), w=drawn)
    assert done.ops == ["Transpose", "MatMul", "MatMul"]
    assert done.reasons == ["the model would grow by 4800 bytes"]


def test_a_weight_in_pieces(rewrite: Callable[..., Any]) -> None:
    """Together the pieces are no larger than the whole, so they are judged together."""
    text = of(
        "a = Slice(w, z, h) b = Slice(w, h, e) c = Concat<axis = 0>(b, a) y = MatMul(x, c)",
        f"float[40,30] w = {{{zeros(40, 30)}}}, int64[1] z = {{0}}, int64[1] h = {{20}}, int64[1] e = {{40}}", "2,40", "2,30",
    )  # fmt: skip
    done = rewrite(text, FoldConstants(), w=np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32))
    assert done.ops == ["MatMul"] and done.grown == -24


def test_small_nodes_are_not_held_back_by_large_ones(rewrite: Callable[..., Any]) -> None:
    """The sizes are computed; the Expand to them stays."""
    text = of(
        "a = Add(s, s) b = Expand(o, a) y = Add(x, b)", "float o = {2}, int64[2] s = {50, 50}", "100,100", "100,100",
    )  # fmt: skip
    done = rewrite(text, FoldConstants())
    assert done.ops == ["Expand", "Add"]


LEFT = [
    ("over the limit", of("t = Transpose(w) y = MatMul(x, t)", f"float[40,30] w = {{{zeros(40, 30)}}}", "2,30", "2,40"),
     {"max_bytes": 1000}),
    ("too much work", of("t = MatMul(w, w) y = Add(x, t)", f"float[30,30] w = {{{zeros(30, 30)}}}", "30,30", "30,30"),
     {"max_work": 20000}),
    ("too much work", of("t = Conv(v, w) y = Add(x, t)", f"float[1,4,9,9] v = {{{zeros(4, 9, 9)}}}, float[4,4,3,3] w = "
                         f"{{{zeros(4, 4, 3, 3)}}}", "1,4,7,7", "1,4,7,7"), {"max_work": 7000}),
    ("too much work", of("t = ConvTranspose(v, w) y = Add(x, t)", f"float[1,4,5,5] v = {{{zeros(4, 5, 5)}}}, float[4,1,3,3] w = "
                         f"{{{zeros(4, 1, 3, 3)}}}", "1,1,7,7", "1,1,7,7"), {"max_work": 1700}),
    ("too much work", of("t = Gemm<transA = 1>(w, w) y = Add(x, t)", f"float[30,30] w = {{{zeros(30, 30)}}}", "30,30", "30,30"),
     {"max_work": 20000}),
    ("too much work", of("t = MaxPool<kernel_shape = [9, 9]>(v) y = Add(x, t)", f"float[1,1,20,20] v = {{{zeros(20, 20)}}}",
                         "1,1,12,12", "1,1,12,12"), {"max_work": 9000}),
    ("cannot be told", of('t = Einsum<equation = "ij,jk->ik">(w, w) y = Add(x, t)', f"float[90,90] w = {{{zeros(90, 90)}}}",
                          "90,90", "90,90"), {}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "text", "options"), LEFT)
def test_what_is_too_much(rewrite: Callable[..., Any], reason: str, text: str, options: dict[str, int]) -> None:
    done = rewrite(text, FoldConstants(**options))
    assert done.changed == 0 and any(reason in found for found in done.reasons), done.reasons
    if options:
        assert len(rewrite(text, FoldConstants()).ops) == 1


NEVER = [
    "q = QuantizeLinear(w, s) d = DequantizeLinear(q, s) y = Mul(x, d)",
    "r = RandomNormalLike(w) y = Mul(x, r)",
    "r = Dropout(w, s, t) y = Mul(x, r)",
    "q, u, v = DynamicQuantizeLinear(w) c = Cast<to = 1>(q) y = Mul(x, c)",
    "b = Cast<to = 16>(w) n = Neg(b) c = Cast<to = 1>(n) y = Mul(x, c)",
    "r = If(t) <then_branch = a () => (float[2] p) { p = Identity(w) }, else_branch = b () => (float[2] q) { q = Identity(w) }> y = Mul(x, r)",
]  # fmt: skip


@pytest.mark.parametrize("nodes", NEVER)
def test_what_is_never_touched(rewrite: Callable[..., Any], nodes: str) -> None:
    done = rewrite(of(nodes, "float[2] w = {1, 2}, float s = {0.5}, bool t = {1}"), FoldConstants(), run=False)
    assert done.changed == 0


def test_sequences_are_left_alone(rewrite: Callable[..., Any]) -> None:
    text = of("s = SequenceConstruct(w, w) a = SequenceAt(s, i) y = Mul(x, a)", "float[2] w = {1, 2}, int64 i = {0}")
    assert rewrite(text, FoldConstants()).changed == 0


def test_what_fails_stays_and_spoils_nothing(rewrite: Callable[..., Any]) -> None:
    """A Gather beyond the end, among others that work."""
    good = " ".join(f"g{i} = Add(w, w) x{i} = Mul({f'x{i - 1}' if i else 'x'}, g{i})" for i in range(9))
    text = of(
        f"{good} b = Gather(w, i) c = Neg(b) d = Neg(w) e = Mul(d, c) y = Add(x8, e)",
        "float[2] w = {1, 2}, int64 i = {5}",
    )
    done = rewrite(text, FoldConstants(), run=False)
    assert done.ops == ["Mul"] * 9 + ["Gather", "Neg", "Neg", "Mul", "Add"]
    assert done.reasons == ["onnxruntime cannot compute it"] and done.changed == 9


def test_what_a_caller_may_override_is_no_constant(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { n = Neg(w) y = Mul(x, n) }"
    assert rewrite(text, FoldConstants()).changed == 0


def test_empty_tensors(rewrite: Callable[..., Any]) -> None:
    text = of("n = Neg(e) c = Concat<axis = 0>(n, w) y = Mul(x, c)", "float[0] e = {}, float[2] w = {1, 2}")
    assert rewrite(text, FoldConstants()).ops == ["Mul"]


def test_indices_of_what_is_not_zero(rewrite: Callable[..., Any]) -> None:
    """How many there are is not known before, but how many there can be is."""
    text = of("i = NonZero(w) t = Transpose(i) s = Squeeze(t, a) y = Gather(x, s)",
              "float[3] w = {1, 0, 2}, int64[1] a = {1}", "3", "k")  # fmt: skip
    assert rewrite(text, FoldConstants()).ops == ["Gather"]


def test_inside_of_branches(rewrite: Callable[..., Any]) -> None:
    """From constants outside and inside; what the branch gives keeps its name."""
    text = """g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
        y = If(c) <
            then_branch = t () => (float[2] p) { a = Neg(w) p = Mul(x, a) },
            else_branch = e () => (float[2] q) <float[2] v = {3, 4}> { b = Mul(v, w) q = Neg(b) }
        >
    }"""
    done = rewrite(text, FoldConstants())
    assert sorted(done.ops) == ["Identity", "If", "Mul"]


def test_two_branches_that_take_one_weight(rewrite: Callable[..., Any]) -> None:
    """Each would get a copy of its own, so neither does."""
    text = f"""g (bool c, float[2,30] x) => (float[2,40] y) <float[40,30] w = {{{zeros(40, 30)}}}> {{
        y = If(c) <
            then_branch = t () => (float[2,40] p) {{ a = Transpose(w) p = MatMul(x, a) }},
            else_branch = e () => (float[2,40] q) {{ b = Transpose(w) n = Neg(x) q = MatMul(n, b) }}
        >
    }}"""
    done = rewrite(text, FoldConstants())
    assert done.changed == 0 and done.reasons == ["the model would grow by 4800 bytes"] * 2


def test_functions_have_no_types_to_go_by(rewrite: Callable[..., Any]) -> None:
    text = """g (float[2] x) => (float[2] y) { y = local.f(x) } <domain: "local", opset_import: ["": 17]> f (x) => (y) {
        w = Constant<value = float[2] {1, 2}>() n = Neg(w) y = Mul(x, n)
    }"""
    assert rewrite(text, FoldConstants()).ops == ["f", "Neg", "Mul"]


def test_float16(rewrite: Callable[..., Any]) -> None:
    text = of("n = Neg(w) y = Mul(x, n)", "float16[2] w = {15360, 16384}", element="float16")
    done = rewrite(text, FoldConstants())
    assert done.ops == ["Mul"] and done.constant(0).dtype == np.float16


def test_each_value_asks(rewrite: Callable[..., Any]) -> None:
    text = of("n = Neg(w) y = Mul(x, n)", "float[2] w = {1, 2}")
    assert rewrite(text, FoldConstants(), disabled=("fold-constants",)).changed == 0


def test_a_second_time_there_is_nothing_to_do(rewrite: Callable[..., Any]) -> None:
    text = of("s = Shape(x) e = ConstantOfShape(s) n = Add(w, e) y = Mul(x, n)", "float[2] w = {1, 2}", "2", "2")
    done = rewrite(text, ShareEqualWeights(), FoldConstants(), Simplify())
    assert done.ops == ["Mul"]
    assert FoldConstants().run(done.model, PassContext()) == 0


def chain(length: int) -> Model:
    """``length`` nodes on constants, each result used once, in a row with as many on x."""
    graph = Graph("chain")
    kind = TensorType(tensor(np.zeros(2, np.float32)).dtype, (2,))
    last = graph.add_input(Value("x", kind))
    constant = graph.add_constant(tensor(np.ones(2, np.float32)), "w")
    for _ in range(length):
        constant = graph.append(Node("Neg", [constant])).output
        last = graph.append(Node("Mul", [last, constant])).output
        constant.type = last.type = kind
    last.name = "y"
    graph.add_output(last)
    return Model(graph, {"": 17})


def test_time_grows_with_the_nodes() -> None:
    """Twenty times the nodes would take four hundred times as long if each result were computed from the start."""
    model = chain(5000)
    infer_types(model)
    start = time.perf_counter()
    assert FoldConstants().run(model, PassContext()) == 5000
    assert time.perf_counter() - start < 20
    assert [node.op_type for node in model.nodes()] == ["Mul"] * 5000


def test_outputs_that_are_constant_cost_a_node_each(rewrite: Callable[..., Any]) -> None:
    """So a node that gives two of them is cheaper."""
    text = "g (float[2] x) => (float[2] y, float[2] z) <float[4] w = {1, 2, 3, 4}> { y, z = Split<axis = 0>(w) }"
    done = rewrite(text, FoldConstants(), opset=11)
    assert done.ops == ["Split"] and "would need a node to name it" in done.reasons[0]
