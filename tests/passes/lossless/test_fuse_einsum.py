"""Einsum that is a product of matrices, in the equations of attention and dense layers that exporters write."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.passes.lossless import FoldConstants, FuseEinsum

SIZES = dict(zip("abcdefghijklmnopqrstuvwxyz", [2, 3, 4, 5, 2, 3, 4, 5] * 4, strict=False))


def text(equation: str, a: str, b: str = "", sizes: dict[str, Any] | None = None) -> str:
    def shape(term: str) -> str:
        return ",".join(str((sizes or SIZES)[letter]) for letter in term)

    inputs = ", ".join(f"float[{shape(term)}] {name}" for name, term in zip("ab", [a, b], strict=True) if term)
    names = "a, b" if b else "a"
    return f'g ({inputs}) => (float y) {{ y = Einsum <equation = "{equation}"> ({names}) }}'


@pytest.mark.parametrize(
    ("equation", "ops"),
    [
        ("ij,jk->ik", ["MatMul"]),
        ("ij,kj->ik", ["Transpose", "MatMul"]),
        ("ij,jk->ki", ["MatMul", "Transpose"]),
        ("bij,bjk->bik", ["MatMul"]),
        ("bhid,bhjd->bhij", ["Transpose", "MatMul"]),  # PyTorch: queries and keys
        ("bhij,bhjd->bhid", ["MatMul"]),  # PyTorch: weights and values
        ("bqhd,bkhd->bhqk", ["Transpose", "Transpose", "MatMul"]),  # Keras and JAX: queries and keys
        ("bhqk,bkhd->bqhd", ["Transpose", "MatMul", "Transpose"]),  # Keras and JAX: weights and values
        ("bsd,df->bsf", ["MatMul"]),
        ("bsd,dhk->bshk", ["Reshape", "MatMul", "Reshape"]),  # Keras: projection to heads
        ("bshk,hkd->bsd", ["Reshape", "Reshape", "MatMul"]),  # Keras: and back
        ("abc,cde->bade", None),
        ("dc, bsd -> bsc", ["MatMul"]),
    ],
)  # fmt: skip
def test_products(rewrite: Callable[..., Any], equation: str, ops: list[str] | None) -> None:
    a, b = equation.replace(" ", "").partition("->")[0].split(",")
    done = rewrite(text(equation, a, b), FuseEinsum())
    assert "Einsum" not in done.ops
    assert ops is None or done.ops == ops


def test_weights_are_put_in_order_once_and_for_all(rewrite: Callable[..., Any]) -> None:
    weight = ", ".join(map(str, range(36)))
    source = f"""g (float[n,4,6] x) => (float[n,4,2,3] y) <float[2,3,6] w = {{{weight}}}> {{
        y = Einsum <equation = "bsd,hkd->bshk"> (x, w) }}"""
    assert rewrite(source, FuseEinsum(), FoldConstants(), sizes={"n": 3}).ops == ["MatMul", "Reshape"]


@pytest.mark.parametrize(
    ("equation", "a", "b", "ops"),
    [
        ("...ij,...jk->...ik", "abij", "abjk", ["MatMul"]),
        ("...ij,jk->...ik", "abij", "jk", ["MatMul"]),
        ("i...,j...->ij...", "iab", "jab", ["Einsum"]),
        ("ij,jk", "ij", "jk", ["MatMul"]),
        ("ba,ac", "ba", "ac", ["MatMul"]),
        ("ba", "ba", "", ["Transpose"]),
        ("ijk->kij", "ijk", "", ["Transpose"]),
        ("...ij->...ji", "abij", "", ["Transpose"]),
    ],
)  # fmt: skip
def test_ellipsis_and_results_that_are_not_written(
    rewrite: Callable[..., Any], equation: str, a: str, b: str, ops: list[str]
) -> None:
    assert rewrite(text(equation, a, b), FuseEinsum()).ops == ops


@pytest.mark.parametrize(
    ("equation", "why"),
    [
        ("ii,ij->j", "diagonal"),
        ("ij,jk->i", "sums over an axis of one input alone"),
        ("ij,j->i", "no rows, no columns"),
        ("bi,bi->b", "no rows, no columns"),
        ("i,j->ij", "nothing to sum over"),
        ("bacj,bjk->back", "several axes of rows"),
    ],
)  # fmt: skip
def test_what_is_none_stays(rewrite: Callable[..., Any], equation: str, why: str) -> None:
    a, b = equation.partition("->")[0].split(",")
    done = rewrite(text(equation, a, b), FuseEinsum(), explain=True)
    assert done.ops == ["Einsum"]
    assert any(why in reason for reason in done.reasons)


@pytest.mark.parametrize("equation", ["ii->i", "ij->i", "ij->"])
def test_of_one_tensor_more_than_an_order(rewrite: Callable[..., Any], equation: str) -> None:
    assert rewrite(text(equation, equation.partition("->")[0]), FuseEinsum()).changed == 0


def test_sizes_that_may_differ(rewrite: Callable[..., Any]) -> None:
    """Einsum takes 1 for any size, MatMul does not."""
    stays = text("ij,jk->ik", "ij", "jk", {"i": 2, "j": "n", "k": 3}).replace("float[n,3] b", "float[m,3] b")
    assert rewrite(stays, FuseEinsum(), sizes={"n": 4, "m": 1}).changed == 0
    one = text("ij,jk->ik", "ij", "jk", {"i": 2, "j": 4, "k": 3}).replace("float[4,3] b", "float[1,3] b")
    assert rewrite(one, FuseEinsum()).changed == 0
    named = text("ij,jk->ik", "ij", "jk", {"i": "m", "j": "n", "k": 3})
    assert rewrite(named, FuseEinsum(), sizes={"n": 4}).ops == ["MatMul"]
    heads = text("bsd,dhk->bshk", "bsd", "dhk", SIZES | {"h": "heads", "b": "n"})
    assert rewrite(heads, FuseEinsum(), sizes={"heads": 2, "n": 2}).changed == 0


def test_no_rows_at_all(rewrite: Callable[..., Any]) -> None:
    done = rewrite(text("bshk,hkd->bsd", "bshk", "hkd", SIZES | {"b": "n"}), FuseEinsum(), sizes={"n": 0})
    assert done.ops == ["Reshape", "Reshape", "MatMul"]


def test_another_type(rewrite: Callable[..., Any]) -> None:
    done = rewrite(text("ij,jk->ik", "ij", "jk").replace("float", "double"), FuseEinsum())
    assert done.ops == ["MatMul"]
    half = rewrite(text("ij,jk->ik", "ij", "jk").replace("float", "bfloat16"), FuseEinsum(), run=False)
    assert half.ops == ["Einsum"]  # onnxruntime has a kernel for it, and none for MatMul


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_equation_of_two_tensors(rewrite: Callable[..., Any], data: st.DataObject) -> None:
    letters = data.draw(st.permutations("abcdef"))
    groups = [letters[:1], letters[1:2], letters[2:4], letters[4:6]]
    shared, inner, rows, columns = (group[: data.draw(st.integers(0, len(group)))] for group in groups)
    one = "".join(data.draw(st.permutations([*shared, *inner, *rows])))
    other = "".join(data.draw(st.permutations([*shared, *inner, *columns])))
    result = "".join(data.draw(st.permutations([*shared, *rows, *columns])))
    if not one or not other:
        return
    done = rewrite(text(f"{one},{other}->{result}", one, other), FuseEinsum())
    assert len(done.ops) <= 7
