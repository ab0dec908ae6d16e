"""BatchNormalization behind a convolution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompiler.passes.lossless import FuseConvBatchNorm

RANDOM = np.random.default_rng(1)


def statistics(channels: int, dtype: Any = np.float32) -> dict[str, Any]:
    """Random scale, shift, mean and variance."""
    drawn = RANDOM.normal(size=(4, channels)).astype(dtype)
    return {"s": drawn[0], "h": drawn[1], "m": drawn[2], "v": np.abs(drawn[3]) + np.asarray(0.5, dtype)}


def norm(channels: int, element: str = "float") -> str:
    return ", ".join(f"{element}[{channels}] {name} = {{{','.join('1' * channels)}}}" for name in "shmv")


GOLDEN = """g (float[1,1,2,2] x) => (float[1,2,2,2] y) <float[2,1,1,1] w = {1, 2}, float[2] b = {1, 0},
    float[2] s = {4, 3}, float[2] h = {0.5, 1}, float[2] m = {1, 2}, float[2] v = {4, 1}>
    { t = Conv(x, w, b) y = BatchNormalization<epsilon = 0.0>(t, s, h, m, v) }"""


def test_it_becomes_the_weights(rewrite: Callable[..., Any]) -> None:
    """k = s / sqrt(v) is [2, 3]; the weight times k, and (b - m) * k + h."""
    done = rewrite(GOLDEN, FuseConvBatchNorm())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[1,1,2,2]) {",
        "  %0: float[2,1,1,1] = [2,6]",
        "  %1: float[2] = [0.5,-5]",
        "  y = Conv(x, %0, %1)",
        "  return y: float[1,2,2,2]",
        "}",
    ]
    assert done.counts == {"conv-batch-norm": 1}


@pytest.mark.parametrize(
    ("node", "weight", "channels"),
    [
        ("Conv(x, w)", (6, 4, 3, 3), 6),
        ("Conv<group = 2, strides = [2, 2], pads = [1, 1, 0, 0]>(x, w)", (6, 2, 3, 3), 6),
        ("Conv<group = 4>(x, w)", (4, 1, 1, 1), 4),
        ("ConvTranspose(x, w)", (4, 6, 3, 3), 6),
        ("ConvTranspose<group = 2, strides = [2, 2]>(x, w)", (4, 3, 2, 2), 6),
        ("ConvTranspose<group = 4>(x, w)", (4, 2, 3, 3), 8),
    ],
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_groups_and_transposed(
    rewrite: Callable[..., Any], node: str, weight: tuple[int, ...], channels: int, with_bias: bool
) -> None:
    shape = ",".join(map(str, weight))
    fill = ",".join("1" * int(np.prod(weight)))
    bias = f", float[{channels}] b = {{{','.join('1' * channels)}}}" if with_bias else ""
    node = node.replace("(x, w)", "(x, w, b)") if with_bias else node
    text = f"""g (float[n,4,7,6] x) => (float[n,{channels},p,q] y) <float[{shape}] w = {{{fill}}}{bias}, {norm(channels)}>
        {{ t = {node} y = BatchNormalization(t, s, h, m, v) }}"""
    arrays = statistics(channels) | {"w": RANDOM.normal(size=weight).astype(np.float32)}
    if with_bias:
        arrays["b"] = RANDOM.normal(size=channels).astype(np.float32)
    done = rewrite(text, FuseConvBatchNorm(), **arrays)
    assert done.ops == [node.split("<")[0].split("(")[0]]
    assert done.model.graph.constants and len(next(iter(done.model.nodes())).inputs) == 3


def test_one_and_three_axes(rewrite: Callable[..., Any]) -> None:
    for weight, shape in (((2, 3, 3), "1,3,8"), ((2, 3, 2, 2, 2), "1,3,4,4,4")):
        sizes, fill = ",".join(map(str, weight)), ",".join("1" * int(np.prod(weight)))
        result = ",".join("pqr"[: len(weight) - 2])
        text = f"""g (float[{shape}] x) => (float[1,2,{result}] y) <float[{sizes}] w = {{{fill}}}, {norm(2)}>
            {{ t = Conv(x, w) y = BatchNormalization(t, s, h, m, v) }}"""
        done = rewrite(text, FuseConvBatchNorm(), w=RANDOM.normal(size=weight).astype(np.float32), **statistics(2))
        assert done.ops == ["Conv"]


def test_a_shared_weight_is_left_to_the_others(rewrite: Callable[..., Any]) -> None:
    text = f"""g (float[1,2,3,3] x) => (float[1,2,3,3] y, float[1,2,3,3] z, float[2,2,1,1] u)
        <float[2,2,1,1] w = {{1, 2, 3, 4}}, {norm(2)}> {{
        t = Conv(x, w) y = BatchNormalization(t, s, h, m, v) z = Conv(x, w) u = Neg(w)
    }}"""
    done = rewrite(text, FuseConvBatchNorm(), **statistics(2))
    assert done.ops == ["Conv", "Conv", "Neg"]
    first, second, _ = done.model.nodes()
    assert first.inputs[1] is not second.inputs[1]
    assert second.inputs[1].constant.numpy().reshape(-1).tolist() == [1, 2, 3, 4]


def test_two_norms_on_one_weight(rewrite: Callable[..., Any]) -> None:
    text = f"""g (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {{1, 2, 3, 4}}, {norm(2)}> {{
        a = Conv(x, w) b = BatchNormalization(a, s, h, m, v) c = Conv(b, w) y = BatchNormalization(c, h, s, m, v)
    }}"""
    done = rewrite(text, FuseConvBatchNorm(), **statistics(2))
    assert done.ops == ["Conv", "Conv"]
    assert len(done.model.graph.constants) == 4


REFUSED = {
    "a caller may override the weight": GOLDEN.replace("x)", "x, float[2,1,1,1] w = {1, 2})", 1)
                                              .replace("<float[2,1,1,1] w = {1, 2}, ", "<"),
    "a caller may override the bias": GOLDEN.replace("x)", "x, float[2] b = {1, 2})", 1).replace("float[2] b = {1, 0},", ""),
    "a caller may override the scale": GOLDEN.replace("x)", "x, float[2] s = {1, 2})", 1).replace("float[2] s = {4, 3},", ""),
    "a caller may override the mean": GOLDEN.replace("x)", "x, float[2] m = {1, 2})", 1).replace("float[2] m = {1, 2},", ""),
    "is computed at run time": GOLDEN.replace("x)", "x, float[2,1,1,1] w)", 1).replace("<float[2,1,1,1] w = {1, 2}, ", "<"),
    "a variance is negative, or zero": GOLDEN.replace("v = {4, 1}", "v = {0, 1}"),
    "leave the range of float": GOLDEN.replace("s = {4, 3}", "s = {3e38, 3}").replace("w = {1, 2}", "w = {3, 2}"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(rewrite: Callable[..., Any], reason: str) -> None:
    done = rewrite(REFUSED[reason], FuseConvBatchNorm(), run="range" not in reason and "variance" not in reason)
    assert done.changed == 0 and done.ops == ["Conv", "BatchNormalization"]
    assert len(done.reasons) == 1 and reason in done.reasons[0]


@pytest.mark.parametrize(
    ("old", "new", "opset", "reason"),
    [
        ("<epsilon = 0.0>", "<spatial = 0>", 7, "spatial is 0"),
        ("<epsilon = 0.0>", "<training_mode = 1>", 17, "by the statistics of the batch"),
        ("y = BatchNormalization<epsilon = 0.0>(t, s, h, m, v)",
         "y, rm, rv = BatchNormalization<training_mode = 1>(t, s, h, m, v) q = Neg(rm)", 17, "by the statistics of the batch"),
        ("y = BatchNormalization<epsilon = 0.0>(t, s, h, m, v)",
         "y, rm, rv, sm, sv = BatchNormalization(t, s, h, m, v) q = Neg(rm)", 9, "its statistics are used"),
    ],
)  # fmt: skip
def test_training_and_other_forms(rewrite: Callable[..., Any], old: str, new: str, opset: int, reason: str) -> None:
    done = rewrite(GOLDEN.replace(old, new), FuseConvBatchNorm(), opset=opset, run=False)
    assert done.changed == 0
    assert [reason in found for found in done.reasons] == [True]


def test_a_result_in_between_that_others_see(rewrite: Callable[..., Any]) -> None:
    for text in (GOLDEN.replace("y)", "y, float[1,2,2,2] t)", 1), GOLDEN.replace("y)", "y, float[1,2,2,2] z)", 1)
                 .replace("{ t", "{ z = Neg(t) t")):  # fmt: skip
        done = rewrite(text, FuseConvBatchNorm(), explain=True)
        assert done.changed == 0
        assert any("is an output of the graph" in reason or "is also used by" in reason for reason in done.reasons)


def test_a_norm_alone_stays(rewrite: Callable[..., Any]) -> None:
    text = f"g (float[1,2,3,3] x) => (float[1,2,3,3] y) <{norm(2)}> {{ y = BatchNormalization(x, s, h, m, v) }}"
    assert rewrite(text, FuseConvBatchNorm(), **statistics(2)).changed == 0


def half(x: float) -> str:
    return str(int(np.float16(x).view(np.uint16)))


def test_float16(rewrite: Callable[..., Any]) -> None:
    """Computed wide and rounded once; what float16 cannot hold is refused."""
    text = f"""g (float16[1,2,3,3] x) => (float16[1,2,3,3] y) <float16[2,2,1,1] w = {{1, 1, 1, 1}}, {norm(2, "float16")}>
        {{ t = Conv(x, w) y = BatchNormalization(t, s, h, m, v) }}"""
    weight = RANDOM.normal(size=(2, 2, 1, 1)).astype(np.float16)
    given = statistics(2, np.float16)
    done = rewrite(text, FuseConvBatchNorm(), w=weight, **given)
    assert done.ops == ["Conv"] and done.constant(0).dtype == np.float16
    factor = given["s"].astype(np.float64) / np.sqrt(given["v"].astype(np.float64) + 1e-5)
    np.testing.assert_array_equal(done.constant(0), (weight * factor[:, None, None, None]).astype(np.float16))
    tiny = given | {"s": np.full(2, 6e4, np.float16), "v": np.zeros(2, np.float16)}
    done = rewrite(text, FuseConvBatchNorm(), w=weight, run=False, **tiny)
    assert done.reasons == ["a weight or bias would leave the range of float16"]


def test_inside_of_a_branch(rewrite: Callable[..., Any]) -> None:
    text = f"""g (bool c, float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {{1, 2, 3, 4}}, {norm(2)}> {{
        y = If(c) <
            then_branch = a () => (float[1,2,3,3] p) {{ t = Conv(x, w) p = BatchNormalization(t, s, h, m, v) }},
            else_branch = b () => (float[1,2,3,3] q) {{ q = Conv(x, w) }}
        >
    }}"""
    done = rewrite(text, FuseConvBatchNorm(), **statistics(2))
    assert sorted(done.ops) == ["Conv", "Conv", "If"]


def test_a_convolution_outside_of_the_branch_stays_there(rewrite: Callable[..., Any]) -> None:
    text = f"""g (bool c, float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {{1, 2, 3, 4}}, {norm(2)}> {{
        t = Conv(x, w)
        y = If(c) <
            then_branch = a () => (float[1,2,3,3] p) {{ p = BatchNormalization(t, s, h, m, v) }},
            else_branch = b () => (float[1,2,3,3] q) {{ q = Neg(x) }}
        >
    }}"""
    assert rewrite(text, FuseConvBatchNorm(), **statistics(2)).changed == 0
