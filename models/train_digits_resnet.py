"""Train the small residual network that ships with the project, and export it.

The data are scikit-learn's ``digits`` (1797 grey images of 8x8), enlarged to 32x32.
They are cut once, by a fixed seed, into three disjoint parts:

* train: what the weights are fitted on (not written out);
* calib: ``digits-calib.npz``, for choosing the ranges of a quantised model;
* test: ``digits-test.npz``, for scoring a model.

The network goes to ``digits-resnet.onnx`` with its BatchNormalization nodes left in
place, because folding them is the compiler's work and not the exporter's.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

SIDE = 32  # height and width of the network's input
WIDTHS = (32, 64, 96)  # channels of the three stages, two residual blocks in each
CALIB, TEST = 200, 400  # images held out; the rest of the 1797 are for training
BATCH, RATE, DECAY, SMOOTHING = 32, 4e-3, 0.02, 0.05  # RATE is the peak of the cycle
Split = tuple[NDArray[np.float32], NDArray[np.int64]]  # ([N,1,32,32] in 0..1, [N])


def enlarge(images: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """Enlarge float64 [N,h,h] to float32 [N,1,side,side], bilinear, half-pixel centres.

    Every weight is a multiple of 1/8 and every input a multiple of 1/16, so the result
    is exact in float32 and the same on every machine.
    """
    size = images.shape[1]
    centre = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    low = np.minimum(centre.astype(np.int64), size - 2)
    matrix = np.zeros((side, size))  # output row <- input rows
    matrix[np.arange(side), low] = 1 - (centre - low)
    matrix[np.arange(side), low + 1] = centre - low
    return (matrix @ images @ matrix.T).astype(np.float32)[:, None]


def load_splits(seed: int) -> list[Split]:
    """Return the splits train, calib and test: disjoint and stratified by class."""
    digits = load_digits()
    images = enlarge(digits.images / 16.0, SIDE)  # the source counts ink from 0 to 16
    labels = digits.target.astype(np.int64)

    def cut(rows: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
        kept = labels[rows]
        return train_test_split(rows, test_size=count, random_state=seed, stratify=kept)

    rest, test = cut(np.arange(len(labels)), TEST)
    first, calib = cut(rest, CALIB)
    return [(images[rows], labels[rows]) for rows in (first, calib, test)]


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """Make a convolution without bias followed by a BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, stride)
        self.second = conv_bn(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [B,i,H,W] to float32 [B,o,H/stride,W/stride]."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class DigitsResNet(nn.Module):
    """A stem, three stages of residual blocks, a global average and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(1, WIDTHS[0], 3, 1)
        self.blocks, inputs = nn.Sequential(), WIDTHS[0]
        for width, stride in zip(WIDTHS, (1, 2, 2), strict=True):
            self.blocks.extend([Block(inputs, width, stride), Block(width, width, 1)])
            inputs = width
        self.head = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images float32 [B,1,32,32] in 0..1 to logits float32 [B,10]."""
        x = self.blocks(F.relu(self.stem(x)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def augment(x: Tensor) -> Tensor:
    """Turn, scale, shift and add noise to each of float32 [B,1,32,32], kept in 0..1."""

    def uniform(bound: float, *shape: int) -> Tensor:
        return (torch.rand(len(x), *shape) * 2 - 1) * bound

    angle, scale = uniform(0.2), 1 + uniform(0.12)  # 0.2 rad is about 11 degrees
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    shift = uniform(0.2, 2, 1)  # 1.0 is half a side: at most 3.2 of the 32 pixels
    grid = F.affine_grid(torch.cat([turn, shift], 2), list(x.shape), False)
    x = F.grid_sample(x, grid, align_corners=False)
    return (x + torch.randn_like(x) * 0.05 * torch.rand(len(x), 1, 1, 1)).clamp(0, 1)


def train(model: nn.Module, data: Split, epochs: int) -> None:
    """Fit the model in place: AdamW, one cycle of the rate, smoothed labels."""
    images, labels = map(torch.from_numpy, data)
    steps = len(labels) // BATCH  # the incomplete last batch of an epoch is dropped
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = OneCycleLR(optimiser, RATE, total_steps=steps * epochs, pct_start=0.2)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(labels))[: steps * BATCH].split(BATCH):
            logits = model(augment(images[chosen]))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d}  loss {total / steps:.4f}", flush=True)


def export(model: nn.Module, path: Path) -> None:
    """Write the model as one ONNX file with BatchNormalization kept, and check it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # "legacy exporter"
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, 1, SIDE, SIDE),),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        # PRESERVE with eval(): inference mode, and no fusing of Conv and BatchNorm.
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )
    proto = onnx.load(path)
    graph = proto.graph
    graph.name = "digits_resnet"
    # Two biases that meet in one Add train alike, and the exporter stores equal tensors
    # once and reads them through an Identity: give each its own copy again.
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Identity"]:
        copy = graph.initializer.add()
        copy.CopyFrom(tensors[node.input[0]])
        copy.name = node.output[0]
        graph.node.remove(node)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def accuracy(path: Path, data: Split) -> float:
    """Return the share of images that onnxruntime puts in the right class."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": data[0]})
    return float(np.mean(np.argmax(logits, axis=1) == data[1]))


def main() -> None:
    """Read the command line, train, write the three files and print the accuracy."""
    parser = argparse.ArgumentParser(description="Train and export the digits network.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    for flag, value in (("--epochs", 30), ("--seed", 0), ("--threads", 1)):
        parser.add_argument(flag, type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    train_data, calib_data, test_data = load_splits(args.seed)
    model = DigitsResNet()
    train(model, train_data, args.epochs)
    export(model, args.out / "digits-resnet.onnx")
    for name, (images, labels) in (("calib", calib_data), ("test", test_data)):
        np.savez_compressed(args.out / f"digits-{name}.npz", image=images, label=labels)
        score = accuracy(args.out / "digits-resnet.onnx", (images, labels))
        print(f"{name}: {len(labels)} images held out, accuracy {score:.4f}")


if __name__ == "__main__":
    main()
