"""A model in torch computes what onnxruntime computes, comes back as it was, and what it cannot train it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler as qc
from benchmarks.zoo import samples
from qcompiler.compiler import input_specs
from qcompiler.data import open_dataset
from qcompiler.errors import TrainingError
from qcompiler.ir import Model, clone_model, difference, tensor
from qcompiler.onnx_io import infer_types, open_session, upgrade_opset
from tests.lower.models import model_of
from tests.training.models import images, net

torch = pytest.importorskip("torch", reason="the extra recover is not installed")

from qcompiler.training.module import GraphModule  # noqa: E402

ZOO = (
    "cifar10-cnn", "mnist-cntk", "squeezenet1.1", "squeezenet1.1-fp16", "ultraface-rfb320", "ppocrv3-det", "yolox-nano",
    "selfattn-mnist", "silero-vad", "minilm-l6",
)  # fmt: skip


def decibels(model: Model, data: Any, module: Any = None) -> float:
    """The worst output of all samples in torch against onnxruntime with optimizations off."""
    module = GraphModule(model).eval() if module is None else module.eval()
    session = open_session(model, optimize=False)
    worst = np.inf
    for sample in data:
        with torch.no_grad():
            found, _ = module(sample)
        for name, array in session.run(sample).items():
            made = found[name].numpy()
            assert made.shape == array.shape
            if np.abs(array - made.astype(np.float64)).max(initial=0.0) <= 1e-6:  # of an output of next to nothing too
                continue
            error, power = np.square(array - made.astype(np.float64)).sum(), np.square(array.astype(np.float64)).sum()
            worst = min(worst, 10 * np.log10(power / error) if error and power else np.inf if not error else -np.inf)
    return float(worst)


def check(model: Model, data: Any, least: float) -> Any:
    """The module computes the same, gives back the same bits, and learns everywhere that it says."""
    before = clone_model(model)
    module = GraphModule(model)
    assert decibels(model, data, module) >= least
    assert module.write() == 0
    assert difference(before, model) == ""
    module.train()
    outputs, _ = module(next(iter(data)))
    sum(item.square().mean() for item in outputs.values() if item.requires_grad).backward()
    assert sum(item.grad is not None for item in module.parameters()) >= 0.9 * len(list(module.parameters()))
    return module


def zoo_model(zoo: Path, name: str, recipe: str, **options: Any) -> tuple[Model, Any]:
    data = samples(name, 8)
    made = qc.compile(zoo / "models" / f"{name}.onnx", recipe=recipe, data=data, explain=False, **options)
    infer_types(made.model)
    return made.model, open_dataset(data, input_specs(made.model), limit=2)


@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_zoo_comes_back_bit_for_bit(zoo: Path, name: str) -> None:
    model, data = zoo_model(zoo, name, "lossless")
    half = name.endswith("fp16")
    assert check(model, data, 60.0 if half else 90.0).elsewhere == {}


def test_a_source_of_an_old_operator_set_needs_no_fusion(zoo: Path) -> None:
    model = qc.load(zoo / "models" / "squeezenet1.1.onnx")
    upgrade_opset(model)
    infer_types(model)
    check(model, open_dataset(samples("squeezenet1.1", 1), input_specs(model)), 90.0)


@pytest.mark.parametrize(
    ("name", "recipe", "kinds"),
    [
        ("cifar10-cnn", "int8", {"scale", "levels"}),
        ("cifar10-cnn", "int8-dynamic", {"scale", "weight"}),
        ("selfattn-mnist", "int8-weights", {"scale", "levels", "weight"}),
        ("cifar10-cnn", "cluster", {"codebook", "scale", "weight"}),
        ("minilm-l6", "int4-weights", {"weight"}),
    ],
)
def test_forms_come_back_bit_for_bit(zoo: Path, name: str, recipe: str, kinds: set[str]) -> None:
    model, data = zoo_model(zoo, name, recipe, min_sqnr=-99.0, min_speedup=0.0)
    # An element that lies between two integers may fall to the other side by the order of additions.
    module = check(model, data, 30.0 if recipe.startswith("int8") else 60.0)
    assert kinds <= {entry.kind for entry in module.plan.learnable.values()}


def test_an_operator_without_gradients_runs_elsewhere_and_is_listed() -> None:
    model = model_of(
        """g (float[n,4] x) => (float[n,4] y) <float[4,4] w> {
            h = MatMul(x, w) n = Constant<value_ints = [2, 2, 2, 2]>() d = ReverseSequence(h, n) y = Add(h, d) }""",
        w=(4, 4),
    )
    next(node for node in model.graph if node.op_type == "ReverseSequence").name = "reversing"
    module = GraphModule(model)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    outputs, _ = module({"x": x})
    assert module.elsewhere == {"reversing": "ReverseSequence: no gradient is known of such an operator"}
    expected = open_session(model, optimize=False).run({"x": x})["y"]
    np.testing.assert_allclose(outputs["y"].detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    outputs["y"].sum().backward()  # past it, through the Add
    assert next(module.parameters()).grad is not None


def test_branches_run_as_their_condition_says() -> None:
    model = model_of(
        """g (float[n,4] x, bool c) => (float[n,4] y) <float[4,4] w, float[4,4] v> {
            y = If(c) <then_branch = t () => (float[n,4] a) { a = MatMul(x, w) },
                       else_branch = e () => (float[n,4] b) { b = MatMul(x, v) }> }""",
        w=(4, 4), v=(4, 4),
    )  # fmt: skip
    module, session = GraphModule(model), open_session(model, optimize=False)
    x = np.ones((2, 4), np.float32)
    for condition in (True, False):
        feeds = {"x": x, "c": np.array(condition)}
        outputs, _ = module(feeds)
        np.testing.assert_allclose(outputs["y"].detach().numpy(), session.run(feeds)["y"], rtol=1e-5)


def test_a_shared_weight_is_one_parameter_and_other_models_keep_theirs() -> None:
    model = net()
    twin = clone_model(model)  # shares its tensors
    module = GraphModule(model)
    assert len(list(module.parameters())) == 6
    with torch.no_grad():
        for item in module.parameters():
            item.add_(1.0)
    assert module.write() == 6
    original = net()
    for value, other in zip(twin.graph.constants, original.graph.constants, strict=True):
        np.testing.assert_array_equal(value.constant.numpy(), other.constant.numpy())


def test_what_shall_not_learn_is_named_and_stays() -> None:
    import re

    model = net()
    module = GraphModule(model, exclude=re.compile("w1|Gemm"))
    assert module.plan.frozen == {"w1": "excluded", "w3": "excluded", "b3": "excluded"}
    assert {entry.value.name for entry in module.plan.learnable.values()} == {"b1", "w2", "b2"}


def test_several_batches_of_a_model_with_a_fixed_one() -> None:
    model = model_of(
        """g (float[1,2,3] x) => (float[1,6] y) <int64[2] s, float[6,6] w> { r = Reshape(x, s) y = MatMul(r, w) }""",
        s=(2,), w=(6, 6),
    )  # fmt: skip
    next(value for value in model.graph.constants if value.name == "s").const = tensor(np.array([1, 6], np.int64))
    x = np.random.default_rng(0).standard_normal((3, 1, 2, 3)).astype(np.float32)
    module = GraphModule(model).eval()
    joined = module({"x": x.reshape(3, 2, 3)})[0]["y"]
    alone = torch.cat([module({"x": each})[0]["y"] for each in x])
    torch.testing.assert_close(joined, alone)


def test_a_missing_input_and_functions_are_told() -> None:
    with pytest.raises(TrainingError, match="input 'x' is not fed"):
        GraphModule(net())({})
    model = net()
    model.functions["a", "b", ""] = None  # type: ignore[assignment]
    with pytest.raises(TrainingError, match="functions"):
        GraphModule(model)


def test_a_node_that_runs_nowhere_is_named() -> None:
    model = model_of("g (float[n,4] x) => (float[n,4] y) <float[5,4] w> { y = MatMul(x, w) }", w=(5, 4))
    with pytest.raises(TrainingError, match="MatMul"):
        GraphModule(model)({"x": np.ones((2, 4), np.float32)})


def test_images_of_the_test_model_agree() -> None:
    model = net()
    check(model, list(images(model, 3)), 100.0)
