"""Sizes that are known to be equal, whatever number they are."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.passes.lossless import Simplify, SimplifySizes

HEADS = """g (float[n,s,8] x) => (float[a,b,c,d] y) <float[8,8] w = {ONES}, float[8] k = {1, 2, 3, 4, 5, 6, 7, 8},
    int64[1] two = {2}, int64[1] four = {4}, int64 i = {0}, int64 j = {1}, int64[1] front = {0}> {
    m = MatMul(x, w) q = Add(m, k) %s y = Reshape(q, c) }""".replace("ONES", ", ".join("1" * 64))
SPELLINGS = {
    "TorchScript": "h = Shape(x) e = Gather(h, i) f = Gather(h, j) e1 = Unsqueeze(e, front) f1 = Unsqueeze(f, front)"
    " c = Concat<axis = 0>(e1, f1, two, four)",
    "dynamo": "e = Shape<start = 0, end = 1>(x) f = Shape<start = 1, end = 2>(x) c = Concat<axis = 0>(e, f, two, four)",
    "of the sum": "h = Shape(q) e = Gather(h, i) e1 = Unsqueeze(e, front) f = Shape<start = 1, end = 2>(m)"
    " c = Concat<axis = 0>(e1, f, two, four)",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_reshape_copies_sizes(rewrite: Callable[..., Any], spelling: str) -> None:
    done = rewrite(HEADS % SPELLINGS[spelling], SimplifySizes())
    assert done.ops == ["MatMul", "Add", "Reshape"]
    assert done.constant(2).tolist() == [0, 0, 2, 4]


def test_sizes_in_another_order_are_not_copied(rewrite: Callable[..., Any]) -> None:
    text = (
        HEADS
        % "e = Shape<start = 0, end = 1>(x) f = Shape<start = 1, end = 2>(x) c = Concat<axis = 0>(f, e, two, four)"
    )
    done = rewrite(text, SimplifySizes(), explain=True)
    assert "Concat" in done.ops and any("at the same place" in reason for reason in done.reasons)


def test_sizes_of_something_else_are_not_copied(rewrite: Callable[..., Any]) -> None:
    """x and z may be broadcast, so the sum has sizes of its own."""
    text = """g (float[n,8] x, float[m,8] z) => (float[a,b,c] y) <int64[1] two = {2}, int64[1] four = {4}> {
        q = Add(x, z) e = Shape<start = 0, end = 1>(x) c = Concat<axis = 0>(e, two, four) y = Reshape(q, c) }""".replace(
        "ONES", ", ".join("1" * 64)
    )
    assert "Concat" in rewrite(text, SimplifySizes(), sizes={"n": 3, "m": 3}).ops


def test_through_transpose_and_attention(rewrite: Callable[..., Any]) -> None:
    text = """g (float[n,2,s,4] q, float[n,2,4,s] k, float[n,2,s,4] v) => (float[a,b,c] y) <int64[1] last = {8}> {
        r = MatMul(q, k) p = Softmax(r) o = MatMul(p, v) t = Transpose<perm = [0, 2, 1, 3]>(o)
        e = Shape<start = 0, end = 1>(q) f = Shape<start = 2, end = 3>(q) c = Concat<axis = 0>(e, f, last) y = Reshape(t, c)
    }"""
    assert rewrite(text, SimplifySizes(), sizes={"n": 2, "s": 3}).ops == [
        "MatMul",
        "Softmax",
        "MatMul",
        "Transpose",
        "Reshape",
    ]


@pytest.mark.parametrize("name", ["None", "unk", "h w"])
def test_what_is_no_name_tells_nothing(model_of: Callable[..., Any], rewrite: Callable[..., Any], name: str) -> None:
    """Some exporters call every unknown size the same."""
    model = model_of("""g (float[n,4] x, float[n,4] z) => (float[a,b,c] y) <int64[1] two = {2}> {
        e = Shape<start = 0, end = 1>(z) c = Concat<axis = 0>(e, two, two) y = Reshape(x, c) }""")
    from qcompiler.dtypes import DType
    from qcompiler.ir import TensorType

    for value in model.graph.inputs:
        value.type = TensorType(DType.FLOAT, (name, 4))
    assert "Concat" in rewrite(model, SimplifySizes(), sizes={name: 3}).ops


def test_a_size_is_taken_from_the_first_input_that_has_it(rewrite: Callable[..., Any]) -> None:
    text = """g (float[n,4] x, float[n,4] z) => (int64[1] y) { r = Relu(z) y = Shape<start = 0, end = 1>(r) }"""
    assert rewrite(text, SimplifySizes()).nodes[-1] == "y = Shape(x) {end=1, start=0}"


@pytest.mark.parametrize(
    ("taken", "made"),
    [
        ("y = Gather(h, k)", "y = Shape(x) {end=2, start=1}"),
        ("y = Gather(h, last)", "y = Shape(x) {end=3, start=2}"),
        ("y = Slice(h, k, two)", "y = Shape(x) {end=2, start=1}"),
        ("y = Slice(h, k, end)", "y = Shape(x) {start=1}"),
    ],
)
def test_parts_of_a_shape(rewrite: Callable[..., Any], taken: str, made: str) -> None:
    text = f"""g (float[n,p,q] x) => (int64[m] y) <int64[1] k = {{1}}, int64[1] two = {{2}}, int64[1] last = {{-1}},
        int64[1] end = {{9223372036854775807}}> {{ h = Shape(x) {taken} }}"""
    assert rewrite(text, SimplifySizes()).nodes == [made]
    assert rewrite(text, SimplifySizes(), opset=13).changed == 0


def test_with_simplify_nothing_of_the_arithmetic_is_left(rewrite: Callable[..., Any]) -> None:
    assert rewrite(HEADS % SPELLINGS["TorchScript"], SimplifySizes(), Simplify()).counts.keys() == {
        "gather-with-its-axis", "reshape-to-own-sizes",
    }  # fmt: skip
