"""The whole lossless recipe, without numeric checks, over models of 10,000, 100,000 and 1,000,000 nodes.

    python -m benchmarks.scale [NODES ...]

The model is rows of blocks as exporters write them: layer normalization and GELU in pieces, a hard swish, a residual
sum, a Reshape to sizes taken from a Shape, Identity and Cast that do nothing, transposes that cancel.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from qcompiler.compiler import find_recipe
from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, tensor
from qcompiler.onnx_io import infer_types
from qcompiler.passes.lossless import LOSSLESS
from qcompiler.pipeline import PassContext, Pipeline

WIDTH = 8


def exported(nodes: int) -> Model:
    """About ``nodes`` nodes over one input of [batch, 4, 8]."""
    graph = Graph("exported")
    x = graph.add_input(Value("x", TensorType(DType.FLOAT, ("batch", 4, WIDTH))))
    numbers = {name: graph.add_constant(tensor(np.float32(number)), name)
               for name, number in (("two", 2), ("eps", 1e-5), ("root", 2**0.5), ("one", 1), ("half", 0.5),
                                    ("three", 3), ("six", 6), ("zero", 0))}  # fmt: skip
    zero_index = graph.add_constant(tensor(np.int64(0)), "index0")
    axes = graph.add_constant(tensor(np.array([0])), "axes0")
    flat = graph.add_constant(tensor(np.array([4 * WIDTH])), "flat")
    weight = graph.add_constant(tensor(np.eye(WIDTH, dtype=np.float32)), "weight")
    bias = graph.add_constant(tensor(np.full(WIDTH, 0.1, np.float32)), "bias")
    count = 0

    def add(kind: str, *inputs: Value, **attrs: object) -> Value:
        nonlocal count
        count += 1
        return graph.append(Node(kind, list(inputs), attrs, outputs=1)).output

    while count < nodes:
        mean = add("ReduceMean", x, axes=[-1])
        centred = add("Sub", x, mean)
        variance = add("ReduceMean", add("Pow", centred, numbers["two"]), axes=[-1])
        spread = add("Sqrt", add("Add", variance, numbers["eps"]))
        normed = add("Add", add("Mul", add("Div", centred, spread), bias), bias)
        product = add("Add", add("MatMul", add("Identity", normed), weight), bias)
        gate = add("Add", add("Erf", add("Div", product, numbers["root"])), numbers["one"])
        gelu = add("Mul", add("Mul", product, gate), numbers["half"])
        turned = add("Transpose", add("Transpose", gelu, perm=[0, 2, 1]), perm=[0, 2, 1])
        swish = add("Clip", add("Add", turned, numbers["three"]), numbers["zero"], numbers["six"])
        swish = add("Div", add("Mul", turned, swish), numbers["six"])
        size = add("Unsqueeze", add("Gather", add("Shape", swish), zero_index), axes)
        flatter = add("Reshape", add("Cast", swish, to=1), add("Concat", size, flat, axis=0))
        x = add("Add", x, add("Reshape", flatter, graph.add_constant(tensor(np.array([0, 4, WIDTH])), f"back{count}")))
    x.name = "y"
    graph.add_output(x)
    return Model(graph, {"": 17})


def run(nodes: int) -> tuple[float, int, int]:
    """Seconds of processor time, and the nodes before and after."""
    model = exported(nodes)
    infer_types(model)
    before = len(model.graph)
    start = time.process_time()
    made, _ = Pipeline(find_recipe("lossless").passes).run(model, PassContext())
    return time.process_time() - start, before, len(made.graph)


def main(sizes: list[int]) -> None:
    assert [type(item) for item in find_recipe("lossless").passes] == list(LOSSLESS)
    first = None
    for nodes in sizes:
        seconds, before, after = min(run(nodes) for _ in range(3 if nodes <= 100_000 else 1))
        first = first or seconds
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        times = f"{seconds:7.2f} s, {seconds / first:6.1f} x"
        print(f"{before:8} nodes to {after:7}: {times}, peak {peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
