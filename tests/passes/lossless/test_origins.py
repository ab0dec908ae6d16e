"""Where sizes come from: through what keeps them, and past what only may."""

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.ir import Model, Value
from qcompiler.passes.lossless.origins import origin, same_size


def value(model: Model, name: str) -> Value:
    return next(value for node in model.graph for value in node.outputs if value.name == name)


def forget(model: Model, *names: str) -> None:
    """What inference does not know of real models."""
    for name in names:
        value(model, name).type = value(model, name).type.__class__(
            value(model, name).dtype, (None,) * value(model, name).rank
        )


def positions(start: int) -> str:
    words, places = ", ".join(["1"] * 360), ", ".join(["1"] * 28)
    return f"""g (int64[b,s] ids) => (float[p,q,r] y)
        <float[90,4] words = {{{words}}}, int64[7] row = {{0, 1, 2, 3, 4, 5, 6}}, float[7,4] places = {{{places}}},
         int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] start = {{{start}}}> {{
        n = Shape <start = 1, end = 2> (ids)  part = Slice(row, start, n, zero, one)  p = Gather(places, part)
        w = Gather(words, ids)  x = Add(w, p)  y = Relu(x)
    }}"""


def test_a_table_cut_to_the_length_of_the_sequence_has_that_length(model_of: Callable[..., Model]) -> None:
    """TorchScript's BERT: Slice of 512 positions to a length nobody declares; a longer sequence fails either way."""
    model = model_of(positions(0))
    forget(model, "part", "p", "x")
    assert same_size(origin(value(model, "x"), 1), origin(model.graph.inputs[0], 1))
    assert not same_size(origin(value(model, "p"), 0), origin(model.graph.inputs[0], 1))  # by itself it may be shorter


def test_one_cut_elsewhere_has_not(model_of: Callable[..., Model]) -> None:
    model = model_of(positions(1))
    forget(model, "part", "p", "x")
    assert not same_size(origin(value(model, "x"), 1), origin(model.graph.inputs[0], 1))


@pytest.mark.parametrize("layers", [3, 60])
def test_residual_sums_are_no_detour(model_of: Callable[..., Model], layers: int) -> None:
    """Of two inputs of one symbolic size the nearer to the front is followed: a deep network is a short way."""
    text, x = "", "x"
    for layer in range(layers):
        text += f"a{layer} = Exp({x})  b{layer} = CumSum(a{layer}, k)  c{layer} = Add(b{layer}, {x})  "
        x = f"c{layer}"
    model = model_of(f"g (float[b,s] x) => (float[p,q] y) <int64 k = {{0}}> {{ {text} y = Relu({x}) }}")
    found: Any = origin(value(model, x), 1)
    assert found == (model.graph.inputs[0], 1)


def test_places_counted_up_to_the_length_of_a_sequence(model_of: Callable[..., Model]) -> None:
    """Llama's positions, as TorchScript writes them: Range, Unsqueeze, Cast, and a product that loses their length."""
    model = model_of("""g (int64[b,s] ids) => (float[p,q,r] y)
        <int64 zero = {0}, int64 step = {1}, int64[1] first = {0}, int64[1] second = {1}, float[1,2,1] f = {1, 0.1}> {
        n = Shape(ids)  count = Gather(n, step)  places = Range(zero, count, step)
        row = Unsqueeze(places, first)  list = Unsqueeze(row, second)  real = Cast <to = 1> (list)
        angles = MatMul(f, real)  y = Transpose <perm = [0, 2, 1]> (angles)
    }""")
    forget(model, "places", "row", "list", "real", "angles")
    assert origin(value(model, "y"), 1) == (model.graph.inputs[0], 1)
    assert origin(value(model, "row"), 0) == (value(model, "row"), 0)  # added by Unsqueeze: what it is its type says


@pytest.mark.parametrize("limits", ["step, count, step", "zero, count, two", "zero, given, step"])
def test_other_ranges_have_lengths_of_their_own(model_of: Callable[..., Model], limits: str) -> None:
    model = model_of(f"""g (int64[b,s] ids, int64 given) => (int64[p] y) <int64 zero = {{0}}, int64 step = {{1}}, int64 two = {{2}}> {{
        n = Shape(ids)  count = Gather(n, step)  places = Range({limits})  y = Neg(places) }}""")
    forget(model, "places")
    assert origin(value(model, "places"), 0) == (value(model, "places"), 0)
