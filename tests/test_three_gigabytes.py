"""A model larger than one protobuf may be: lossless rewriting takes the memory of its largest tensor, not of it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qcompiler.onnx_io import load, open_session, save
from qcompiler.runtime import Session

pytestmark = pytest.mark.long

CHANNELS, WIDTH = 1024, 4096
CONVS, LAYERS = 40, 23  # 1.5 GB each
LOSSLESS = """
import resource, sys
from qcompiler.compiler import find_recipe
from qcompiler.onnx_io import infer_types, load, save, upgrade_opset
from qcompiler.pipeline import PassContext, Pipeline

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

import onnxruntime, onnx  # the interpreter's own memory is that with everything imported
own = peak()
model = load(sys.argv[1])
upgrade_opset(model)
infer_types(model)
model, records = Pipeline(find_recipe("lossless").passes).run(model, PassContext())
save(model, sys.argv[2])
print(peak() - own, ",".join(record.name for record in records if record.status == "applied"))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 GB: convolutions with BatchNormalization, then layers whose weights an exporter wrote transposed."""
    path = tmp_path_factory.mktemp("large") / "large.onnx"
    rng = np.random.default_rng(0)
    nodes, initializers = [], []
    with path.with_name("large.onnx.data").open("wb") as file:

        def weight(name: str, array: np.ndarray) -> str:
            made = TensorProto(name=name, data_type=1, dims=array.shape, data_location=TensorProto.EXTERNAL)
            where = {"location": "large.onnx.data", "offset": str(file.tell()), "length": str(array.nbytes)}
            for key, text in where.items():
                made.external_data.add(key=key, value=text)
            file.write(np.ascontiguousarray(array).data)
            initializers.append(made)
            return name

        def add(kind: str, *inputs: str, **attrs: object) -> str:
            nodes.append(helper.make_node(kind, inputs, [f"v{len(nodes)}"], f"n{len(nodes)}", **attrs))
            return nodes[-1].output[0]

        base = rng.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32) / np.float32(CHANNELS**0.5)
        x = "x"
        for index in range(CONVS):
            kernel = weight(f"kernel{index}", np.roll(base, index))
            parts = (
                np.linspace(0.9, 1.1, CHANNELS) + index / 100,
                np.full(CHANNELS, 0.01),
                np.zeros(CHANNELS),
                np.ones(CHANNELS),
            )
            held = [weight(f"bn{index}.{place}", part.astype(np.float32)) for place, part in enumerate(parts)]
            x = add("Relu", add("BatchNormalization", add("Conv", x, kernel, pads=[1, 1, 1, 1]), *held))
        x = add("Concat", *[add("Flatten", x)] * (WIDTH // CHANNELS), axis=1)
        base = rng.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(WIDTH**0.5)
        for index in range(LAYERS):
            matrix = weight(f"matrix{index}", np.roll(base, index))
            x = add("MatMul", add("Identity", x), add("Transpose", matrix, perm=[1, 0]))
    output = helper.make_tensor_value_info(x, 1, ["n", WIDTH])
    graph = helper.make_graph(
        nodes, "large", [helper.make_tensor_value_info("x", 1, ["n", CHANNELS, 1, 1])], [output], initializers
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_lossless_takes_less_than_a_gigabyte_and_the_result_runs(large: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    done = subprocess.run([sys.executable, "-c", LOSSLESS, large, made], capture_output=True, text=True, check=True)
    memory, applied = done.stdout.split()
    assert int(memory) < 1 << 30, f"{int(memory) / 2**20:.0f} MiB above the interpreter's own"
    assert {"fuse-conv-batch-norm", "fold-constants", "simplify"} <= set(applied.split(","))
    assert made.with_name("made.onnx.data").stat().st_size > 3_000_000_000
    counts = [len(onnx.load(path, load_external_data=False).graph.node) for path in (large, made)]
    assert counts == [3 * CONVS + 2 + 3 * LAYERS, 2 * CONVS + 2 + LAYERS]
    feeds = {"x": np.random.default_rng(1).standard_normal((1, CHANNELS, 1, 1), np.float32)}
    expected, given = (next(iter(Session(path, optimize=False).run(feeds).values())) for path in (large, made))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_what_does_not_fit_into_one_protobuf_gets_external_data_by_itself(large: Path, tmp_path: Path) -> None:
    model = load(large)
    assert [path.name for path in save(model, tmp_path / "again.onnx")] == ["again.onnx", "again.onnx.data"]
    assert open_session(load(tmp_path / "again.onnx"), optimize=False).outputs == Session(large).outputs
