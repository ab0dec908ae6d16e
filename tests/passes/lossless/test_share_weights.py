"""Equal constants."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.ir import ExternalTensor, LazyTensor, Model, tensor
from qcompiler.passes.lossless import ShareEqualWeights
from qcompiler.pipeline import PassContext

TWO = """g (float[2] x) => (float[2] y) <float[2] a = {{1, 2}}, {} b = {{{}}}> {{ t = Mul(x, a) y = Add(t, b) }}"""


def used(model: Model) -> list[str]:
    return [value.name for graph in model.graphs() for value in graph.constants if value.uses]


def test_equal_ones_become_one(rewrite: Callable[..., Any]) -> None:
    done = rewrite(TWO.format("float[2]", "1, 2"), ShareEqualWeights())
    assert done.text.splitlines()[1:] == [
        "graph g(x: float[2]) {",
        "  %0: float[2] = [1,2]",
        "  %1 = Mul(x, %0)",
        "  y = Add(%1, %0)",
        "  return y: float[2]",
        "}",
    ]
    assert done.changed == 1 and done.grown == -8


@pytest.mark.parametrize(("kind", "numbers"), [("float[2]", "1, 3"), ("float[1]", "1"), ("float[2]", "1, -2")])
def test_others_do_not(rewrite: Callable[..., Any], kind: str, numbers: str) -> None:
    assert rewrite(TWO.format(kind, numbers), ShareEqualWeights()).changed == 0


def test_bytes_decide(rewrite: Callable[..., Any]) -> None:
    text = TWO.format("float[2]", "1, 2")
    done = rewrite(text, ShareEqualWeights(), a=np.array([0.0, 1], np.float32), b=np.array([-0.0, 1], np.float32))
    assert done.changed == 0
    nan = np.array([np.nan, 1], np.float32)
    assert rewrite(text, ShareEqualWeights(), a=nan, b=nan.copy()).changed == 1


def test_a_difference_behind_the_first_bytes(rewrite: Callable[..., Any]) -> None:
    zeros = ", ".join("0" * 3000)
    text = f"g (float[3000] x) => (float[3000] y) <float[3000] a = {{{zeros}}}, float[3000] b = {{{zeros}}}> {{ t = Mul(x, a) y = Add(t, b) }}"
    assert rewrite(text, ShareEqualWeights()).changed == 1
    other = np.zeros(3000, np.float32)
    other[-1] = 1
    assert rewrite(text, ShareEqualWeights(), b=other).changed == 0


def test_empty_constants_are_equal(rewrite: Callable[..., Any]) -> None:
    text = "g (float[0] x) => (float[0] y) <float[0] a = {}, float[0] b = {}> { t = Mul(x, a) y = Add(t, b) }"
    assert rewrite(text, ShareEqualWeights()).changed == 1


def test_strings(rewrite: Callable[..., Any]) -> None:
    text = """g (string[2] x) => (bool[2] y) <string[1] a = {"u"}, string[1] b = {"u"}, string[1] c = {"v"}> {
        p = Equal(x, a) q = Equal(x, b) r = Equal(x, c) s = Or(p, q) y = And(s, r)
    }"""
    assert used(rewrite(text, ShareEqualWeights(), opset=19, run=False).model) == ["a", "c"]


def test_what_a_caller_may_override_is_left_alone(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2] x, float[2] a = {1, 2}) => (float[2] y) <float[2] b = {1, 2}> { t = Mul(x, a) y = Add(t, b) }"
    assert rewrite(text, ShareEqualWeights()).changed == 0


def test_an_output_is_left_alone(rewrite: Callable[..., Any]) -> None:
    text = "g (float[2] x) => (float[2] y, float[2] b) <float[2] a = {1, 2}, float[2] b = {1, 2}> { y = Mul(x, a) }"
    assert rewrite(text, ShareEqualWeights(), run=False).changed == 0


BRANCHES = """g (bool c, float[2] x) => (float[2] y) {outer} {{
    w = Mul(x, {name})
    y = If(c) <
        then_branch = t () => (float[2] p) <float[2] a = {{1, 2}}> {{ p = Add(w, a) }},
        else_branch = e () => (float[2] q) <float[2] a = {{1, 2}}> {{ q = Sub(w, a) }}
    >
}}"""


def test_a_branch_takes_what_stands_around_it(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BRANCHES.format(outer="<float[2] o = {1, 2}>", name="o"), ShareEqualWeights())
    assert used(done.model) == ["o"] and done.changed == 2


def test_two_branches_share_only_the_tensor(rewrite: Callable[..., Any]) -> None:
    done = rewrite(BRANCHES.format(outer="", name="x"), ShareEqualWeights())
    assert done.changed == 0
    held = [value.const for graph in done.model.graphs() for value in graph.constants]
    assert len(held) == 2 and held[0] is held[1]


def test_values_of_one_tensor(model_of: Callable[..., Any]) -> None:
    """Nothing has to be read to see that they are equal."""
    model = model_of(TWO.format("float[2]", "1, 2"))

    def never() -> Any:
        raise AssertionError("read")

    held = LazyTensor(never, tensor(np.zeros(2, np.float32)).dtype, (2,))
    for value in model.graph.constants:
        value.const = held
    assert ShareEqualWeights().run(model, PassContext()) == 1


def test_only_tensors_that_could_be_equal_are_read(model_of: Callable[..., Any]) -> None:
    model = model_of(TWO.format("float[1]", "1"))
    reads = []

    def make(array: Any) -> Any:
        return lambda: reads.append(1) or array

    for value in model.graph.constants:
        array = value.const.numpy()
        value.const = LazyTensor(make(array), value.const.dtype, value.const.shape)
    assert ShareEqualWeights().run(model, PassContext()) == 0 and reads == []


def test_external_data(rewrite: Callable[..., Any], model_of: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(np.array([1, 2, 1, 2], np.float32).tobytes())
    model = model_of(TWO.format("float[2]", "1, 2"))
    for index, value in enumerate(model.graph.constants):
        value.const = ExternalTensor(path, offset=8 * index, dtype=value.const.dtype, shape=(2,))
    assert rewrite(model, ShareEqualWeights()).changed == 1


def test_each_change_asks(rewrite: Callable[..., Any]) -> None:
    done = rewrite(TWO.format("float[2]", "1, 2"), ShareEqualWeights(), disabled=("share-equal-weights",))
    assert done.changed == 0 and used(done.model) == ["a", "b"]
