"""A BERT of MiniLM's shape, exported by both of PyTorch's exporters: the same graph after `lossless`.

python -m benchmarks.exporters [LAYERS] [-v]    needs torch and onnxscript
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import qcompiler as qc
from qcompiler.ir import format_graph, graph_difference


def bert(layers: int = 6, width: int = 384, heads: int = 12, inner: int = 1536) -> Any:
    """An encoder as sentence-transformers' MiniLM-L6: embeddings, layers, mean over the words that the mask keeps."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
            self.first, self.second = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)
            self.gelu = nn.GELU()

        def forward(self, x: Any, mask: Any) -> Any:
            def split(y: Any) -> Any:
                return y.view(x.shape[0], x.shape[1], heads, width // heads).transpose(1, 2)

            q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
            scores = q @ k.transpose(-1, -2) / (width // heads) ** 0.5 + mask
            mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape[0], x.shape[1], width)
            x = self.first(self.out(mixed) + x)
            return self.second(self.down(self.gelu(self.up(x))) + x)

    class Bert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(3000, width), nn.Embedding(512, width)
            self.norm = nn.LayerNorm(width, 1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            places = torch.arange(512)[: input_ids.shape[1]]
            x = self.norm(self.words(input_ids) + self.places(places))
            mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
            for layer in self.layers:
                x = layer(x, mask)
            return x

    torch.manual_seed(0)
    return Bert().eval()


def export(model: Any, path: Path, dynamo: bool) -> None:
    """Write ``model`` to ``path`` with batch and sequence dynamic."""
    import torch

    ids = torch.randint(0, 3000, (2, 12))
    mask = torch.ones(2, 12, dtype=torch.int64)
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["hidden"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=512)
            shapes = ({0: batch, 1: sequence}, {0: batch, 1: sequence})
            options = {"external_data": False, "verbose": False, "opset_version": 18}
            torch.onnx.export(model, (ids, mask), str(path), dynamo=True, dynamic_shapes=shapes, **options, **names)
        else:
            axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask", "hidden")}
            torch.onnx.export(model, (ids, mask), str(path), dynamo=False, opset_version=18, dynamic_axes=axes, **names)


def main(layers: int = 6) -> str:
    """Print what each exporter wrote, what became of it, and where the results differ; empty when nowhere."""
    model = bert(layers)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for dynamo in (True, False):
            path = Path(folder) / f"{dynamo}.onnx"
            export(model, path, dynamo)
            result = qc.compile(path, recipe="lossless")
            made.append(result.model)
            counts = Counter(node.op_type for node in result.model.nodes())
            if "-v" in sys.argv:
                print(format_graph(result.model.graph))
            label = "dynamo" if dynamo else "TorchScript"
            print(f"{label:12}{result.report['source']['nodes']:5} -> {sum(counts.values())} nodes: {dict(counts)}")
            for text in result.report["warnings"]:
                print("   ", text)
    why = graph_difference(made[0].graph, made[1].graph, {})
    print(f"different: {why}" if why else "the same graph")
    return why


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:] if word.isdigit()))
