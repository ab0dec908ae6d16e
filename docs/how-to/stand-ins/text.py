"""Writes embed.onnx, a small sentence encoder with a mask, and calib.npz, padded rows."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

WORDS, WIDTH, HIDDEN = 2000, 128, 512
LAYER = """
  q{i} = MatMul (x{i}, wq{i})
  k{i} = MatMul (x{i}, wk{i})
  v{i} = MatMul (x{i}, wv{i})
  kt{i} = Transpose <perm = [0, 2, 1]> (k{i})
  raw{i} = MatMul (q{i}, kt{i})
  scaled{i} = Mul (raw{i}, scale)
  masked{i} = Add (scaled{i}, far)
  p{i} = Softmax <axis = -1> (masked{i})
  mixed{i} = MatMul (p{i}, v{i})
  y{i} = Add (x{i}, mixed{i})
  n{i} = LayerNormalization (y{i}, ones, zeros)
  up{i} = MatMul (n{i}, wu{i})
  r{i} = Relu (up{i})
  down{i} = MatMul (r{i}, wd{i})
  z{i} = Add (n{i}, down{i})
  x{j} = LayerNormalization (z{i}, ones, zeros)
"""
TEXT = (
    '<ir_version: 9, opset_import: ["" : 17]>\n'
    "encoder (int64[batch, seq] input_ids, int64[batch, seq] attention_mask) => (float[batch, 128] embedding) {\n"
    "  x0 = Gather (table, input_ids)\n"
    "  mask = Cast <to = 1> (attention_mask)\n"
    "  hidden = Sub (one, mask)\n"
    "  wide = Unsqueeze (hidden, axis1)\n"
    "  far = Mul (wide, low)\n"
    + "".join(LAYER.format(i=i, j=i + 1) for i in range(2))
    + "  column = Unsqueeze (mask, axis2)\n"
    "  kept = Mul (x2, column)\n"
    "  sum = ReduceSum <keepdims = 0> (kept, axis1)\n"
    "  count = ReduceSum <keepdims = 1> (mask, axis1)\n"
    "  embedding = Div (sum, count)\n"
    "}\n"
)
rng = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


arrays = {
    "table": rng.standard_normal((WORDS, WIDTH)).astype(np.float32),
    "one": np.array(1, np.float32),
    "low": np.array(-1e4, np.float32),
    "scale": np.array(WIDTH**-0.5, np.float32),
    "ones": np.ones(WIDTH, np.float32),
    "zeros": np.zeros(WIDTH, np.float32),
    "axis1": np.array([1]),
    "axis2": np.array([2]),
}
for layer in range(2):
    arrays |= {f"w{kind}{layer}": random(WIDTH, WIDTH) for kind in "qkv"}
    arrays |= {f"wu{layer}": random(WIDTH, HIDDEN), f"wd{layer}": random(HIDDEN, WIDTH)}
model = parser.parse_model(TEXT)
model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
onnx.save(model, "embed.onnx")

# 32 sentences of 6 to 32 words: padded to one length, with a mask that is 0 on the padding.
lengths = rng.integers(6, 33, 32)
ids = np.zeros((32, 32), np.int64)
mask = np.zeros((32, 32), np.int64)
for row, length in enumerate(lengths):
    ids[row, :length] = rng.integers(1, WORDS, length)
    mask[row, :length] = 1
np.savez("calib.npz", input_ids=ids, attention_mask=mask)
