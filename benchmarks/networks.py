"""Networks that the benchmarks train themselves: ONNX files with weights drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A graph from front to back; weights by He et al. (2015)."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], **attrs: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def weights(self, name: str, shape: tuple[int, ...], inner: int) -> str:
        return self.constant(name, self.random.standard_normal(shape) * np.sqrt(2 / inner))

    def conv(self, x: str, ins: int, outs: int, kernel: int, stride: int = 1) -> str:
        """A convolution without bias and its batch normalization."""
        at = len(self.nodes)
        w = self.weights(f"w{at}", (outs, ins, kernel, kernel), ins * kernel * kernel)
        pads = [kernel // 2] * 4
        made = self.node("Conv", [x, w], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        parts = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}
        held = [self.constant(f"{part}{at}", np.full(outs, value)) for part, value in parts.items()]
        return self.node("BatchNormalization", [made, *held])

    def dense(self, x: str, ins: int, outs: int) -> str:
        at = len(self.nodes)
        w = self.weights(f"w{at}", (outs, ins), ins)
        return self.node("Gemm", [x, w, self.constant(f"b{at}", np.zeros(outs))], transB=1)

    def model(self, output: str, shape: list[Any], classes: int) -> bytes:
        self.nodes[-1].output[0] = "y"
        assert self.nodes[-1].name == output
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])
        graph = helper.make_graph(self.nodes, "network", [x], [y], self.constants)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def resnet18(width: int, seed: int = 0) -> bytes:
    """ResNet-18 (He et al., 2016) for images of 32 x 32: it begins with 3 x 3, and with ``width`` channels."""
    made = Builder(seed)
    x = made.node("Relu", [made.conv("x", 3, width, 3)])
    ins = width
    for stage in range(4):
        outs = width * 2**stage
        for block in range(2):
            stride = 2 if stage and not block else 1
            inner = made.node("Relu", [made.conv(x, ins, outs, 3, stride)])
            branch = made.conv(inner, outs, outs, 3)
            short = x if stride == 1 and ins == outs else made.conv(x, ins, outs, 1, stride)
            x = made.node("Relu", [made.node("Add", [branch, short])])
            ins = outs
    flat = made.node("Flatten", [made.node("GlobalAveragePool", [x])])
    return made.model(made.dense(flat, ins, 10), ["n", 3, 32, 32], 10)


def lenet_300_100(seed: int = 0) -> bytes:
    """LeNet-300-100 (LeCun et al., 1998): three dense layers."""
    made = Builder(seed)
    x = made.node("Flatten", ["x"])
    x = made.node("Relu", [made.dense(x, 784, 300)])
    x = made.node("Relu", [made.dense(x, 300, 100)])
    return made.model(made.dense(x, 100, 10), ["n", 1, 28, 28], 10)


def lenet_5(seed: int = 0) -> bytes:
    """LeNet-5 as Caffe and Han et al. (2015) have it: two convolutions, two dense layers, 431,080 parameters."""
    made = Builder(seed)
    x = "x"
    for ins, outs in ((1, 20), (20, 50)):
        w = made.weights(f"c{ins}", (outs, ins, 5, 5), ins * 25)
        x = made.node("Conv", [x, w, made.constant(f"cb{ins}", np.zeros(outs))], kernel_shape=[5, 5])
        x = made.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = made.node("Flatten", [x])
    x = made.node("Relu", [made.dense(x, 800, 500)])
    return made.model(made.dense(x, 500, 10), ["n", 1, 28, 28], 10)
