"""Gradients of what is rounded: straight through to the numbers, and to scales and centroids by their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qcompiler as qc
from qcompiler.ir import Model, tensor
from qcompiler.onnx_io import infer_types
from tests.lower.models import model_of
from tests.training.models import images, net

torch = pytest.importorskip("torch", reason="the extra recover is not installed")

from qcompiler.training.module import GraphModule  # noqa: E402
from qcompiler.training.quantized import levels_of, quantized, real_of  # noqa: E402

BOUNDS = (-128, 127)


def test_integers_are_those_of_quantize_linear_and_halves_go_to_even() -> None:
    x = torch.tensor([0.25, 0.75, 1.25, -0.25, 100.0, -100.0])
    found = levels_of(x, torch.tensor(0.5), torch.tensor(3.0), BOUNDS)
    assert found.tolist() == [3.0, 5.0, 5.0, 3.0, 127.0, -128.0]
    assert real_of(found, torch.tensor(0.5), torch.tensor(3.0)).tolist() == [0.0, 1.0, 1.0, 0.0, 62.0, -65.5]


def test_the_gradient_of_numbers_is_one_inside_and_nothing_outside() -> None:
    x = torch.tensor([0.3, -7.4, 80.0, -80.0], requires_grad=True)
    quantized(x, torch.tensor(0.5), torch.tensor(0.0), BOUNDS).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("zero", [0.0, 5.0, -100.0])
def test_the_gradient_of_the_scale_is_lsq_s(zero: float) -> None:
    """Esser et al. (2020), equation 3: round(v) - v inside of the range, the bound outside of it."""
    x = torch.linspace(-100, 100, 997, dtype=torch.float64)
    scale = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    offset = torch.tensor(zero, dtype=torch.float64)
    for place in range(0, 997, 13):
        scale.grad = None
        quantized(x[place], scale, offset, BOUNDS).backward()
        v = float(x[place]) / 0.6
        low, high = BOUNDS[0] - zero, BOUNDS[1] - zero
        expected = low if v <= low else high if v >= high else float(np.rint(v)) - v
        if min(abs(v - low), abs(v - high)) > 1:  # at the bounds both hold
            assert float(scale.grad) == pytest.approx(expected, abs=1e-9)


def test_the_gradient_of_the_scale_is_that_of_the_error_where_nothing_is_rounded_anew() -> None:
    """Levels held, the derivative of (s q - t)^2 by s is 2 q (s q - t): what finite differences say."""
    q, target = torch.arange(-8.0, 8.0, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda s: (real_of(q, s, torch.tensor(0.0)) - target).square().sum(),
        torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
    )


def clustered() -> Model:
    """A product whose weights are two bits of index, with a scale for each column."""
    model = model_of(
        """g (float[n,6] x) => (float[n,5] y) <float[4] book, float[1,5] scale> {
            places = Cast<to = 6>(indices) w = Gather<axis = 0>(book, places) v = Mul(w, scale) y = MatMul(x, v) }
        """.replace("<float[4] book", "<uint8[6,5] indices, float[4] book"),
        book=(4,), scale=(1, 5), indices=(6, 5),
    )  # fmt: skip
    random = np.random.default_rng(0)
    for value in model.graph.constants:
        if value.name == "indices":
            value.const = tensor(random.integers(0, 4, (6, 5)).astype(np.uint8))
        if value.name == "scale":
            value.const = tensor(random.uniform(0.5, 2, (1, 5)).astype(np.float32))
        if value.name == "book":
            value.const = tensor(np.array([-0.5, 0.0, 0.25, 1.0], np.float32))
    infer_types(model)
    return model


def test_gradients_of_weights_are_summed_for_each_centroid() -> None:
    """Han et al. (2015), section 3.3; against finite differences as well."""
    model = clustered()
    arrays = {value.name: value.constant.numpy().copy() for value in model.graph.constants}
    module = GraphModule(model)
    kinds = {entry.value.name: entry.kind for entry in module.plan.learnable.values()}
    assert kinds == {"book": "codebook", "scale": "scale"}
    x = np.random.default_rng(1).standard_normal((7, 6)).astype(np.float32)
    outputs, _ = module({"x": x})
    outputs["y"].square().sum().backward()
    weights = arrays["book"][arrays["indices"]] * arrays["scale"]
    of_weights = 2 * x.T @ (x @ weights) * arrays["scale"]
    expected = np.bincount(arrays["indices"].reshape(-1), of_weights.reshape(-1), 4)
    book = module.parameters_of.learned[module.parameters_of.place[_named(model, "book")]]
    np.testing.assert_allclose(book.grad.numpy(), expected, rtol=1e-4)

    def loss(levels: Any) -> Any:
        made = levels[torch.as_tensor(arrays["indices"]).long()] * torch.as_tensor(arrays["scale"]).double()
        return (torch.as_tensor(x).double() @ made).square().sum()

    levels = torch.tensor(arrays["book"], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(loss, levels)
    loss(levels).backward()
    np.testing.assert_allclose(book.grad.numpy(), levels.grad.numpy(), rtol=1e-4)


def _named(model: Model, name: str) -> Any:
    return next(value for value in model.graph.constants if value.name == name)


def int8(**options: Any) -> Model:
    model = net()
    made = qc.compile(_bytes(model), recipe="int8", data=_arrays(model), min_sqnr=-99.0, min_speedup=0.0)
    assert "QuantizeLinear" in made.report["compiled"]["ops"]
    infer_types(made.model)
    return made.model


def _bytes(model: Model) -> bytes:
    from qcompiler.onnx_io import to_bytes

    return to_bytes(model)


def _arrays(model: Model) -> dict[str, Any]:
    return {"x": np.concatenate([sample["x"] for sample in images(model, 32)])}


def test_the_scale_of_a_bias_follows_those_of_input_and_weights() -> None:
    model = int8()
    module = GraphModule(model)
    assert module.plan.products
    with torch.no_grad():
        for entry, parameter in module.parameters_of.of_kind("scale"):
            parameter.add_(0.1 if entry.value.constant.size == 1 else -0.05)
    assert module.write()
    for bias, (one, two) in module.plan.products.items():
        expected = np.float64(one.constant.numpy()) * two.constant.numpy()
        np.testing.assert_array_equal(bias.constant.numpy(), expected.astype(np.float32).reshape(bias.constant.shape))


def test_int8_weights_learn_and_come_back_as_integers() -> None:
    model = int8()
    module = GraphModule(model)
    x = next(iter(images(model, 1)))
    outputs, _ = module(x)
    outputs["y"].square().sum().backward()
    levels = module.parameters_of.of_kind("levels")
    assert levels and all(parameter.grad is not None for _, parameter in levels)
    with torch.no_grad():
        for _, parameter in levels:
            parameter.add_(0.02 * torch.randn_like(parameter))
    module.write()
    for entry, _ in levels:
        held = entry.value.constant
        assert held.dtype.is_integer
        if held.dtype.bits == 8:
            assert held.numpy().min() >= -127  # the most negative one stays out of use
    from qcompiler.onnx_io import open_session

    fresh = GraphModule(model).eval()
    with torch.no_grad():
        again = fresh(x)[0]["y"].numpy()
    np.testing.assert_allclose(again, open_session(model, optimize=False).run(x)["y"], rtol=0.05, atol=0.05)


def test_scales_that_a_target_wants_equal_do_not_learn_apart() -> None:
    from qcompiler.training.learnable import plan

    model = model_of(
        """g (float[n,2,4,4] x) => (float[n,2,2,2] y) <float s1, float s2, float s3, uint8 z> {
            a = QuantizeLinear(x, s1, z) b = DequantizeLinear(a, s1, z) c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
            d = QuantizeLinear(c, s2, z) e = DequantizeLinear(d, s2, z) r = Relu(e)
            f = QuantizeLinear(r, s3, z) y = DequantizeLinear(f, s3, z) }""",
        s1=(), s2=(), s3=(), z=(),
    )  # fmt: skip
    for value in model.graph.constants:
        value.const = tensor(
            np.array(7, np.uint8) if value.name == "z" else np.float32(0.3 if value.name == "s3" else 0.2)
        )
    assert {value.name for value in plan(model).learnable} == {"s3"}
