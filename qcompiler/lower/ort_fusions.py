"""What onnxruntime makes of a model when it loads it, without its weights: fusions are a matter of structure."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from qcompiler.ir import Model
from qcompiler.onnx_io import without_weights
from qcompiler.runtime import Session

__all__ = ["optimized_kinds"]


def optimized_kinds(model: Model) -> Counter[str] | None:
    """Nodes by operator type of the optimized graph, subgraphs included; None where onnxruntime does not load it.

    Constants above a kilobyte become inputs, so that it takes milliseconds whatever the size of the model. Layouts of
    one processor (NCHWc) are left out: the count is the same on all of them.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
            path = Path(folder) / "optimized.onnx"
            Session(without_weights(model).SerializeToString(), optimized_to=path, level="extended")
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
