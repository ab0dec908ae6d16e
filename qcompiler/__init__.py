"""A compiler that rewrites ONNX models and proves what it did."""
