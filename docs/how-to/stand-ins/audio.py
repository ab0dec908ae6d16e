"""Writes voice.onnx, a small recurrent detector of voice in chunks of 256 samples, and sound.npz, 100 of them."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

TEXT = """
<ir_version: 9, opset_import: ["" : 17]>
voice (float[1, 256] chunk, float[1, 512] state) => (float[1, 1] voiced, float[1, 512] new_state) {
  spectrum = MatMul (chunk, bank)
  power = Abs (spectrum)
  seen = MatMul (power, into)
  kept = MatMul (state, over)
  both = Add (seen, kept)
  new_state = Tanh (both)
  score = MatMul (new_state, out)
  voiced = Sigmoid (score)
}
"""
rng = np.random.default_rng(0)
time, pitch = np.arange(256), np.arange(1, 257)
arrays = {
    "bank": (np.cos(np.outer(time + 0.5, pitch) * np.pi / 256) / 16).astype(np.float32),
    "into": (rng.standard_normal((256, 512)) / 8).astype(np.float32),
    "over": (0.6 * np.linalg.qr(rng.standard_normal((512, 512)))[0]).astype(np.float32),
    "out": (rng.standard_normal((512, 1)) / 8).astype(np.float32),
}
model = parser.parse_model(TEXT)
model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
onnx.save(model, "voice.onnx")

# A tone that comes and goes, in noise; the chunks stand in the order in which they were heard.
samples = np.arange(100 * 256)
loud = np.sin(samples * 2 * np.pi / 6400) > 0
sound = loud * np.sin(samples * 0.13 + 2 * np.sin(samples * 0.001)) * 0.5 + rng.normal(0, 0.02, samples.size)
np.savez("sound.npz", chunk=sound.astype(np.float32).reshape(100, 256))
