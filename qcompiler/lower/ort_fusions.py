"""What onnxruntime makes of a model when it loads it, without its weights: fusions are a matter of structure."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from pathlib import Path

import onnx
from onnx import parser

from qcompiler.ir import Model
from qcompiler.onnx_io import without_weights
from qcompiler.runtime import Session

__all__ = ["has_attention", "optimized_kinds"]

_ATTENTION = """<ir_version: 11, opset_import: ["" : 23]>
g (float[1,2,4] x) => (float[1,2,4] y) { y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x) }"""


def optimized_kinds(model: Model) -> Counter[str] | None:
    """Nodes by operator type of the optimized graph, subgraphs included; None where onnxruntime does not load it.

    Constants above a kilobyte become inputs, so that it takes milliseconds whatever the size of the model. Layouts of
    one processor (NCHWc) are left out: the count is the same on all of them.
    """
    return _kinds(without_weights(model).SerializeToString())


@functools.cache
def has_attention() -> bool:
    """True when onnxruntime here has a kernel for Attention of operator set 23, and does not run it in pieces."""
    return "Attention" in (_kinds(parser.parse_model(_ATTENTION).SerializeToString()) or ())


def _kinds(model: bytes) -> Counter[str] | None:
    try:
        with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
            path = Path(folder) / "optimized.onnx"
            Session(model, optimized_to=path, level="extended")
            proto = onnx.load(str(path), load_external_data=False)
    except Exception:  # a full disk among others, which onnxruntime does not notice
        return None
    kinds: Counter[str] = Counter()
    graphs = [proto.graph]
    while graphs:
        for node in graphs.pop().node:
            kinds[node.op_type] += 1
            for attribute in node.attribute:
                graphs.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
    return kinds
