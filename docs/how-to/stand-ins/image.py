"""Writes stripes.onnx, a small convolutional network, photos/ (8 PNGs of two classes), photos.toml and photos.npz."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser
from PIL import Image

TEXT = """
<ir_version: 9, opset_import: ["" : 17]>
stripes (float[batch, 3, 64, 64] image) => (float[batch, 2] scores) {
  a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (image, w1)
  b = Relu (a)
  c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, w2)
  d = Relu (c)
  e = Conv <pads = [1, 1, 1, 1]> (d, w3)
  f = Relu (e)
  pooled = GlobalAveragePool (f)
  features = Flatten (pooled)
  scores = Gemm (features, readout, bias)
}
"""
rng = np.random.default_rng(0)


def pixels(upright: bool) -> np.ndarray:
    """64 x 64 stripes, upright or level, of random width and colour, with noise: uint8."""
    wave = 0.5 + 0.5 * np.sin(np.arange(64) * rng.uniform(0.4, 1.2) + rng.uniform(0, 6))
    plane = np.broadcast_to(wave if upright else wave[:, None], (64, 64))
    colour = rng.uniform(0.5, 1, 3)
    return ((plane[..., None] * colour + rng.normal(0, 0.05, (64, 64, 3))).clip(0, 1) * 255).astype(np.uint8)


def prepared(image: np.ndarray) -> np.ndarray:
    """What photos.toml says: RGB, NCHW, (x - 127) / 128, float32."""
    return ((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1)


def he(out: int, into: int) -> np.ndarray:
    return rng.normal(0, np.sqrt(2 / (into * 9)), (out, into, 3, 3)).astype(np.float32)


weights = {"w1": he(32, 3), "w2": he(64, 32), "w3": he(64, 64)}
edges = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
weights["w1"][:8] = edges
weights["w1"][8:16] = edges.T


def with_weights(**arrays: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


# The last layer is fitted by least squares to what the random ones see.
import onnxruntime as ort  # noqa: E402

seen = with_weights(**weights, readout=np.eye(64, dtype=np.float32), bias=np.zeros(64, np.float32))
seen.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 64
train = [pixels(index % 2 == 0) for index in range(200)]
features = ort.InferenceSession(seen.SerializeToString()).run(None, {"image": np.stack([*map(prepared, train)])})[0]
target = np.eye(2)[[1 - index % 2 for index in range(200)]]
centre = features.mean(0)
spread = (features - centre).T @ (features - centre)
fit = np.linalg.solve(spread + 0.01 * np.trace(spread) * np.eye(64), (features - centre).T @ (target - 0.5))
readout = fit.astype(np.float32)
bias = (0.5 - centre @ fit).astype(np.float32)
onnx.save(with_weights(**weights, readout=readout, bias=bias), "stripes.onnx")

images, labels = [], []
for label, kind in enumerate(["level", "upright"]):
    folder = Path("photos", kind)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(4):
        images.append(pixels(kind == "upright"))
        labels.append(label)
        Image.fromarray(images[-1]).save(folder / f"{index}.png")
Path("photos.toml").write_text("""\
[images]
folder = "photos"
labels = "folder"
mean = [127, 127, 127]
std = [128, 128, 128]
""")
np.savez("photos.npz", image=np.stack([*map(prepared, images)]), label=np.array(labels))
