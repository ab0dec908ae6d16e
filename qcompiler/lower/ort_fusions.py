"""What onnxruntime makes of a model when it loads it, without its weights: fusions are a matter of structure."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from pathlib import Path

import onnx
from onnx import parser

from qcompiler.ir import Model
from qcompiler.onnx_io import nested_graphs, without_weights
from qcompiler.runtime import Session

__all__ = ["newer_operators", "optimized_kinds"]

_NEWER = {
    "Attention": "y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x)",
    "RotaryEmbedding": "y = RotaryEmbedding <num_heads = 2> (x, c, c)",
}
"""Operators of operator set 23, each as a node that a runtime without a kernel would run in pieces."""


def optimized_kinds(model: Model) -> Counter[str] | None:
    """Nodes by operator type of the optimized graph, subgraphs included; None where onnxruntime does not load it.

    Constants above a kilobyte become inputs, so that it takes milliseconds whatever the size of the model. Layouts of
    one processor (NCHWc) are left out: the count is the same on all of them.
    """
    return _kinds(without_weights(model).SerializeToString())


@functools.cache
def newer_operators() -> frozenset[str]:
    """The operators of operator set 23 for which onnxruntime here has a kernel, as ``ai.onnx:name``."""
    head = '<ir_version: 11, opset_import: ["" : 23]> g (float[1,2,4] x, float[1,2,1] c) => (float[1,2,4] y)'
    models = {name: parser.parse_model(f"{head} {{ {node} }}").SerializeToString() for name, node in _NEWER.items()}
    return frozenset(f"ai.onnx:{name}" for name, model in models.items() if name in (_kinds(model) or ()))


def _kinds(model: bytes) -> Counter[str] | None:
    try:
        with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
            path = Path(folder) / "optimized.onnx"
            Session(model, optimized_to=path, level="extended")
            proto = onnx.load(str(path), load_external_data=False)
    except Exception:  # a full disk among others, which onnxruntime does not notice
        return None
    kinds: Counter[str] = Counter()
    for graph in nested_graphs(proto.graph):
        kinds.update(node.op_type for node in graph.node)
    return kinds
