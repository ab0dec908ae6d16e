"""Models lowered for TensorRT, and engines of them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from qcompiler.calibrate import collect
from qcompiler.compiler import name_all
from qcompiler.ir import Model, Quantization, affine_parameters
from qcompiler.lower import STATIC, Form, Target, TensorRt
from qcompiler.lower.tensorrt import Layer, build_engines, package
from qcompiler.lower.tensorrt.deployment import build_settings, write_settings
from qcompiler.onnx_io import open_session, save
from qcompiler.search import Quality

CONV = (
    "agraph (float[1,8,8,8] x) => (float[1,8,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w1)  r = Relu(a)  y = Conv(r, w2) }"
)
WEIGHT = {"w1": (8, 8, 3, 3), "w2": (8, 8, 1, 1)}
needs_builder = pytest.mark.skipif(not package().startswith("tensorrt_rtx"), reason="TensorRT for RTX is not installed")


def samples_of(model: Model, count: int = 4) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [
        {
            spec.name: random.standard_normal([size if isinstance(size, int) else 2 for size in spec.shape]).astype(
                np.float32
            )
            for spec in open_session(model).inputs
        }
        for _ in range(count)
    ]


def observe(model: Model, target: Target) -> None:
    """Ranges for everything that the target asks for."""
    name_all(model)
    groups, _ = target.groups(model)
    spec = target.activation_spec()
    for value, seen in collect(model, target.observed(model, groups), samples_of(model)).items():
        low, high = seen.minmax()
        bounds = np.asarray(low, np.float32), np.asarray(high, np.float32)
        parameters = affine_parameters(low, high, spec)
        value.quant = Quantization(spec, *parameters, *bounds, observed=(float(low), float(high)))


def lowered(model: Model, target: TensorRt | None = None) -> Model:
    """``model`` with every group in int8."""
    target = target or TensorRt()
    observe(model, target)
    groups, _ = target.groups(model)
    return target.lower(model, {group: Form(STATIC, target.weight_spec(group.weight_axis)) for group in groups})


def noise(model: Model, made: Model) -> float:
    """Power of the worst output's error over the output's own."""
    quality = Quality()
    source, session = open_session(model, optimize=False), TensorRt().open(made, 1)
    for sample in samples_of(model, 2):
        quality.add(source.run(sample), session.run(sample))
    return float(10 ** (-quality.sqnr_db / 10))


def engine_of(model: Model, capability: int = 86, profile: Any = None) -> tuple[Layer, ...]:
    """The layers of the engine that TensorRT builds of a lowered model."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        save(model, folder / "model.onnx")
        write_settings(folder, build_settings(profile or {}, (capability,), False, "model.onnx"))
        built = build_engines(folder)
        assert not built.problems
        return built.engines[0].layers
