"""Small models for the tests of training, in text."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.compiler import input_specs
from qcompiler.data import Dataset, open_dataset
from qcompiler.ir import Model, tensor
from tests.lower.models import model_of

NET = """net (float[n,3,8,8] x) => (float[n,4] y)
    <float[8,3,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2, float[4,8] w3, float[4] b3> {
        a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
        r = Relu(a)
        c = Conv<pads = [1, 1, 1, 1]>(r, w2, b2)
        s = Add(c, r)
        q = Relu(s)
        g = GlobalAveragePool(q)
        f = Flatten(g)
        y = Gemm<transB = 1>(f, w3, b3)
    }
"""
"""A convolutional network with one residual branch."""


SHAPES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (4, 8), "b3": (4,)}


def net(noise: float = 0.0) -> Model:
    """:data:`NET` with random weights, to which ``noise`` times their size is added."""
    model = model_of(NET, **SHAPES)
    random = np.random.default_rng(7)
    for value in model.graph.constants:
        assert value.constant is not None
        array = value.constant.numpy()
        value.const = tensor(array * (1 + noise * random.standard_normal(array.shape).astype(np.float32)))
    return model


def images(model: Model, count: int = 48, *, labels: bool = False, seed: int = 1) -> Dataset:
    """Random images for the model's input ``x``, with labels from 0 to 3 or without."""
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {"x": random.standard_normal((count, 3, 8, 8)).astype(np.float32)}
    if labels:
        arrays["label"] = random.integers(0, 4, count)
    return open_dataset(arrays, input_specs(model))
