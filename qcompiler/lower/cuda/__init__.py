"""Target ``ort-cuda``: int8 kernels of our own between sessions of onnxruntime."""
