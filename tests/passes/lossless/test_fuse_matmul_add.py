"""A matrix product and a bias."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import FuseMatMulAdd


def product(
    c: str, a: str = "n,2", result: str = "n,3", nodes: str = "t = MatMul(a, b) y = Add(t, c)", inputs: str = ""
) -> str:
    return f"g (float[{a}] a{inputs}) => (float[{result}] y) <float[2,3] b = {{1, 2, 3, 4, 5, 6}}{c}> {{ {nodes} }}"


@pytest.mark.parametrize(
    "c",
    ["float[3] c = {1, 2, 3}", "float[1,3] c = {1, 2, 3}", "float[1] c = {1}", "float c = {1}", "float[1,1] c = {1}"],
)
def test_it_becomes_gemm(rewrite: Callable[..., Any], c: str) -> None:
    done = rewrite(product(", " + c), FuseMatMulAdd())
    assert done.nodes == ["y = Gemm(a, %0, %1)"]
    assert done.counts == {"matmul-add": 1}
    done = rewrite(product(", " + c, nodes="t = MatMul(a, b) y = Add(c, t)"), FuseMatMulAdd())
    assert done.ops == ["Gemm"]


def test_before_and_after_the_optional_bias(rewrite: Callable[..., Any]) -> None:
    """Gemm has broadcast its bias one way since opset 7, and can do without it since 11."""
    for opset in (7, 9, 11, 13, 21):
        done = rewrite(product(", float[3] c = {1, 2, 3}"), FuseMatMulAdd(), opset=opset)
        assert done.ops == ["Gemm"]


@pytest.mark.parametrize("element", ["double", "float16"])
def test_other_types(rewrite: Callable[..., Any], element: str) -> None:
    text = product(", float[3] c = {1, 2, 3}").replace("float", element)
    if element == "float16":
        text = text.replace("1, 2, 3, 4, 5, 6", "0, 0, 0, 0, 0, 0").replace("1, 2, 3", "0, 0, 0")
    assert rewrite(text, FuseMatMulAdd()).ops == ["Gemm"]


REFUSED = [
    ("it is no product of two matrices", product(", float[3] c = {1, 2, 3}", a="1,n,2", result="1,n,3")),
    ("it is no product of two matrices", product(", float[3] c = {1, 2, 3}", a="2", result="3")),
    ("may change the shape by broadcasting", product(", float[2,1] c = {1, 2}", a="1,2", result="2,3")),
    ("may change the shape by broadcasting", product(", float[2,3] c = {1, 2, 3, 4, 5, 6}", result="2,3")),
    ("may change the shape by broadcasting", product(", float[1,1,3] c = {1, 2, 3}", result="1,n,3")),
    ("the summand <Value c> is computed at run time", product("", inputs=", float[3] c")),
    ("Gemm has no form for the element type", product(", float[3] c = {1, 2, 3}").replace("float", "int64")),
]


@pytest.mark.parametrize(("reason", "text"), REFUSED)
def test_refused(rewrite: Callable[..., Any], reason: str, text: str) -> None:
    done = rewrite(text, FuseMatMulAdd(), sizes={"n": 1})
    assert done.changed == 0
    assert len(done.reasons) == 1 and reason in done.reasons[0]


def test_a_bias_for_every_row(rewrite: Callable[..., Any]) -> None:
    done = rewrite(product(", float[2,3] c = {1, 2, 3, 4, 5, 6}", a="2,2", result="2,3"), FuseMatMulAdd())
    assert done.ops == ["Gemm"]


def test_a_bias_that_a_caller_may_override(rewrite: Callable[..., Any]) -> None:
    """Gemm takes it as it comes, so nothing is lost. Two such cannot be added up."""
    done = rewrite(product("", inputs=", float[3] c = {1, 2, 3}"), FuseMatMulAdd())
    assert done.nodes == ["y = Gemm(a, %0, c)"]
    done = rewrite(
        product("", inputs=", float[3] c = {1, 2, 3}", nodes="t = Gemm(a, b, c) y = Add(t, c)"), FuseMatMulAdd()
    )
    assert done.changed == 0 and done.reasons == ["a caller may override the bias <Value c>"]


def test_a_product_that_others_use(rewrite: Callable[..., Any]) -> None:
    nodes = "t = MatMul(a, b) u = Add(t, c) y = Mul(u, t)"
    done = rewrite(product(", float[3] c = {1, 2, 3}", nodes=nodes), FuseMatMulAdd(), explain=True)
    assert done.changed == 0 and any("is also used by" in reason for reason in done.reasons)


@pytest.mark.parametrize(
    ("gemm", "c", "bias"),
    [
        ("Gemm(a, b)", "float[3] c = {1, 2, 3}", [1, 2, 3]),
        ("Gemm<alpha = 2.0, beta = 0.0>(a, b, d)", "float[3] c = {1, 2, 3}", [1, 2, 3]),
        ("Gemm<alpha = 2.0, beta = 3.0>(a, b, d)", "float[1,3] c = {1, 2, 3}", [4, 8, 12]),
        ("Gemm(a, b, d)", "float c = {1}", [2, 3, 4]),
        ("Gemm<transB = 1>(a, f, d)", "float[3] c = {1, 2, 3}", [2, 4, 6]),
    ],
)
def test_gemm_and_a_second_bias(rewrite: Callable[..., Any], gemm: str, c: str, bias: list[float]) -> None:
    constants = f", {c}, float[3] d = {{1, 2, 3}}, float[3,2] f = {{1, 2, 3, 4, 5, 6}}"
    done = rewrite(product(constants, nodes=f"t = {gemm} y = Add(t, c)"), FuseMatMulAdd())
    (node,) = done.model.nodes()
    assert node.op_type == "Gemm" and node.inputs[2].constant.numpy().reshape(-1).tolist() == bias
    assert node.attr("alpha", 1.0) == (2.0 if "alpha" in gemm else 1.0) and node.attr("beta") is None


def test_two_biases_that_together_are_larger(rewrite: Callable[..., Any]) -> None:
    constants = ", float[2,1] c = {1, 2}, float[3] d = {1, 2, 3}"
    done = rewrite(product(constants, a="2,2", result="2,3", nodes="t = Gemm(a, b, d) y = Add(t, c)"), FuseMatMulAdd())
    assert done.changed == 0 and done.reasons == ["the sum of the biases would be larger than both"]


def test_two_biases_that_together_overflow(rewrite: Callable[..., Any]) -> None:
    constants = ", float[3] c = {3e38, 2, 3}"
    done = rewrite(product(constants, nodes="t = Gemm(a, b, c) y = Add(t, c)"), FuseMatMulAdd(), run=False)
    assert done.changed == 0 and "leave the range" in done.reasons[0]


def test_an_empty_batch(rewrite: Callable[..., Any]) -> None:
    done = rewrite(product(", float[3] c = {1, 2, 3}"), FuseMatMulAdd(), sizes={"n": 0})
    assert done.ops == ["Gemm"] and np.array_equal(done.constant(0).shape, [2, 3])
