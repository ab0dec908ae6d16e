"""Mul, Div, Add and Sub per channel behind a convolution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import FuseConvAffine

RANDOM = np.random.default_rng(2)


def conv(nodes: str, constants: str, result: str = "1,2,2,2", bias: bool = True, inputs: str = "") -> str:
    """``nodes`` compute y from t, a convolution of x from 1 channel to 2."""
    given = ", b" if bias else ""
    return f"""g (float[1,1,2,2] x{inputs}) => (float[{result}] y) <float[2,1,1,1] w = {{1, 2}}, float[2] b = {{1, 3}}, {constants}>
        {{ t = Conv(x, w{given}) {nodes} }}"""


FUSED = [
    ("y = Mul(t, k)", "float[2,1,1] k = {2, 4}", True, [2, 8], [2, 12]),
    ("y = Mul(k, t)", "float[1,2,1,1] k = {2, 4}", True, [2, 8], [2, 12]),
    ("y = Mul(t, k)", "float k = {2}", False, [2, 4], [0, 0]),
    ("y = Div(t, k)", "float[1] k = {2}", True, [0.5, 1], [0.5, 1.5]),
    ("y = Add(t, k)", "float[2,1,1] k = {2, 4}", True, [1, 2], [3, 7]),
    ("y = Add(k, t)", "float[2,1,1] k = {2, 4}", False, [1, 2], [2, 4]),
    ("y = Add(t, k)", "float[1,1,1,1] k = {2}", True, [1, 2], [3, 5]),
    ("y = Sub(t, k)", "float[2,1,1] k = {2, 4}", True, [1, 2], [-1, -1]),
    ("y = Sub(k, t)", "float[2,1,1] k = {2, 4}", True, [-1, -2], [1, 1]),
    ("u = Mul(t, k) v = Add(u, k) y = Sub(v, k)", "float[2,1,1] k = {2, 4}", True, [2, 8], [2, 12]),
]


@pytest.mark.parametrize(("nodes", "constants", "bias", "weight", "made"), FUSED)
def test_it_becomes_the_weights(
    rewrite: Callable[..., Any], nodes: str, constants: str, bias: bool, weight: list[float], made: list[float]
) -> None:
    done = rewrite(conv(nodes, constants, bias=bias), FuseConvAffine())
    (node,) = done.model.nodes()
    assert node.op_type == "Conv" and node.output.name == "y"
    assert node.inputs[1].constant.numpy().reshape(-1).tolist() == weight
    assert node.inputs[2].constant.numpy().tolist() == made
    assert set(done.counts) <= {"conv-scale", "conv-shift", "shift-minus-conv"}


def test_golden(rewrite: Callable[..., Any]) -> None:
    done = rewrite(conv("y = Mul(t, k)", "float[2,1,1] k = {2, 4}"), FuseConvAffine())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[1,1,2,2]) {",
        "  %0: float[2,1,1,1] = [2,8]",
        "  %1: float[2] = [2,12]",
        "  y = Conv(x, %0, %1)",
        "  return y: float[1,2,2,2]",
        "}",
    ]


REFUSED = [
    ("is not one number per channel", conv("y = Mul(t, k)", "float[2] k = {2, 4}")),
    ("is not one number per channel", conv("y = Mul(t, k)", "float[2,2] k = {1, 2, 3, 4}")),
    ("is not one number per channel", conv("y = Add(t, k)", "float[1,1,1,1,1] k = {1}", "1,1,2,2,2")),
    ("is not one number per channel", conv("y = Add(t, k)", "float[2,1,1,1] k = {1, 2}", "2,2,2,2")),
    ("it divides by zero", conv("y = Div(t, k)", "float[2,1,1] k = {0, 4}")),
    (
        "leave the range of float",
        conv("y = Mul(t, k)", "float[2,1,1] k = {3e38, 4}").replace("w = {1, 2}", "w = {9, 2}"),
    ),
    ("a caller may override the factor", conv("y = Mul(t, k)", "float z = {0}", inputs=", float[2,1,1] k = {2, 4}")),
    ("a caller may override the summand", conv("y = Add(t, k)", "float z = {0}", inputs=", float[2,1,1] k = {2, 4}")),
    ("the summand <Value t> is computed at run time", conv("y = Add(t, t)", "float z = {0}")),
    ("the factor <Value k> is computed at run time", conv("y = Mul(t, k)", "float z = {0}", inputs=", float[2,1,1] k")),
]


@pytest.mark.parametrize(("reason", "text"), REFUSED)
def test_refused(rewrite: Callable[..., Any], reason: str, text: str) -> None:
    run = "zero" not in reason and "range" not in reason
    done = rewrite(text, FuseConvAffine(), run=run)
    assert done.changed == 0
    assert any(reason in found for found in done.reasons), done.reasons


def test_one_channel_would_be_broadcast_to_two(rewrite: Callable[..., Any]) -> None:
    text = """g (float[1,2,2,2] x) => (float[1,2,2,2] y) <float[1,2,1,1] w = {1, 2}, float[2,1,1] k = {2, 4}>
        { t = Conv(x, w) y = Mul(t, k) }"""
    done = rewrite(text, FuseConvAffine())
    assert done.changed == 0 and "is not one number per channel" in done.reasons[0]


def test_a_division_the_other_way_round_is_none(rewrite: Callable[..., Any]) -> None:
    assert rewrite(conv("y = Div(k, t)", "float[2,1,1] k = {2, 4}"), FuseConvAffine()).changed == 0


def test_what_a_caller_may_override(rewrite: Callable[..., Any]) -> None:
    """A sum leaves the weight alone, so the weight need not be a constant; a factor and the bias do."""
    text = "g (float[1,1,2,2] x, float[2,1,1,1] w = {1, 2}) => (float[1,2,2,2] y) <float[2,1,1] k = {2, 4}> "
    done = rewrite(text + "{ t = Conv(x, w) y = Add(t, k) }", FuseConvAffine())
    assert done.nodes == ["y = Conv(x, w, %0)"]
    for nodes in ("y = Mul(t, k)", "y = Sub(k, t)"):
        done = rewrite(text + f"{{ t = Conv(x, w) {nodes} }}", FuseConvAffine())
        assert done.changed == 0 and "a caller may override the weight" in done.reasons[0]
    text = text.replace("w = {1, 2}", "w, float[2] b = {1, 2}")
    done = rewrite(text + "{ t = Conv(x, w, b) y = Add(t, k) }", FuseConvAffine())
    assert done.changed == 0 and "a caller may override the bias" in done.reasons[0]


def test_a_weight_of_unknown_shape(rewrite: Callable[..., Any]) -> None:
    text = """g (float[1,1,2,2] x, float[n,1,1,1] w) => (float[1,n,2,2] y) <float k = {2}> { t = Conv(x, w) y = Add(t, k) }"""
    done = rewrite(text, FuseConvAffine())
    assert done.changed == 0 and done.reasons == ["the number of output channels is not known"]


@pytest.mark.parametrize("op", ["Mul", "Div", "Add", "Sub"])
@pytest.mark.parametrize(
    ("node", "weight", "channels"),
    [("Conv<group = 2>(x, w)", (6, 2, 3, 3), 6), ("ConvTranspose<group = 2, strides = [2, 2]>(x, w)", (4, 3, 2, 2), 6)],
)
def test_groups_and_transposed(
    rewrite: Callable[..., Any], op: str, node: str, weight: tuple[int, ...], channels: int
) -> None:
    shape, fill = ",".join(map(str, weight)), ",".join("1" * int(np.prod(weight)))
    text = f"""g (float[n,4,7,6] x) => (float[n,{channels},p,q] y)
        <float[{shape}] w = {{{fill}}}, float[{channels},1,1] k = {{{",".join("1" * channels)}}}>
        {{ t = {node} y = {op}(t, k) }}"""
    k = RANDOM.uniform(0.5, 2, size=(channels, 1, 1)).astype(np.float32)
    done = rewrite(text, FuseConvAffine(), w=RANDOM.normal(size=weight).astype(np.float32), k=k)
    assert len(done.ops) == 1


def test_a_norm_that_comes_within_reach(rewrite: Callable[..., Any]) -> None:
    nodes = "u = Mul(t, k) v = BatchNormalization(u, b, b, b, b) y = Add(v, k)"
    done = rewrite(conv(nodes, "float[2,1,1] k = {2, 4}"), FuseConvAffine())
    assert done.ops == ["Conv"]
    assert done.counts == {"conv-scale": 1, "conv-batch-norm": 1, "conv-shift": 1}


def test_a_shared_weight_is_left_to_the_others(rewrite: Callable[..., Any]) -> None:
    done = rewrite(conv("v = Mul(t, k) u = Conv(x, w) y = Sub(v, u)", "float[2,1,1] k = {2, 4}"), FuseConvAffine())
    assert done.ops == ["Conv", "Conv", "Sub"]
    weights = [
        node.inputs[1].constant.numpy().reshape(-1).tolist() for node in done.model.nodes() if node.op_type == "Conv"
    ]
    assert weights == [[2, 8], [1, 2]]


def test_float16(rewrite: Callable[..., Any]) -> None:
    text = """g (float16[1,1,2,2] x) => (float16[1,2,2,2] y) <float16[2,1,1,1] w = {1, 1}, float16[2,1,1] k = {1, 1}>
        { t = Conv(x, w) y = Mul(t, k) }"""
    weight = np.array([0.1, 1000], np.float16).reshape(2, 1, 1, 1)
    done = rewrite(text, FuseConvAffine(), w=weight, k=np.array([3, 7], np.float16).reshape(2, 1, 1))
    assert done.constant(0).dtype == np.float16 and done.constant(0).reshape(-1)[1] == 7000
    done = rewrite(text, FuseConvAffine(), w=weight, k=np.array([3, 70], np.float16).reshape(2, 1, 1), run=False)
    assert done.reasons == ["a weight or bias would leave the range of float16"]
