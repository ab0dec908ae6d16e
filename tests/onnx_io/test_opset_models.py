"""Whole models of old opsets, raised: the trained ones of the zoo, and those that onnx ships for its backends."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.backend.test
import pytest

from qcompiler.errors import LoweringError
from qcompiler.ir import verify
from qcompiler.onnx_io import from_proto, load, open_session, to_proto
from qcompiler.onnx_io.opset import CANONICAL, upgrade_opset
from qcompiler.runtime import Session

DATA = Path(onnx.backend.test.__file__).parent / "data"
FOLDERS = ("simple", "pytorch-converted", "pytorch-operator", "light")
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "silero-vad": {"input": (1, 576), "state": (2, 1, 128)},
    "ppocrv3-det": {"x": (1, 3, 64, 96)},
}


def identical(expected: Any, found: Any) -> bool:
    """Same type, shape and bits; lists item by item."""
    if isinstance(expected, list):
        return len(expected) == len(found) and all(map(identical, expected, found))
    a, b = np.asarray(expected), np.asarray(found)
    if a.dtype == object:
        return bool((a == b).all())
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


# The zoo

OLD = {
    "squeezenet1.1": 7,
    "squeezenet1.1-fp16": 7,
    "mnist-cntk": 7,
    "ultraface-rfb320": 9,
    "cifar10-cnn": 10,
    "yolox-nano": 11,
    "ppocrv3-det": 11,
    "selfattn-mnist": 13,
    "silero-vad": 15,
    "minilm-l6": 18,
}


@pytest.mark.parametrize("name", OLD)
def test_the_zoo(zoo: Path, name: str) -> None:
    path = zoo / "models" / f"{name}.onnx"
    model = load(path)
    assert model.opset == OLD[name]
    assert upgrade_opset(model) == ""
    assert model.opset == max(CANONICAL, OLD[name])
    if OLD[name] >= CANONICAL:
        return
    verify(model)
    onnx.checker.check_model(to_proto(model), full_check=True)
    before, after = Session(path, optimize=False), open_session(model, optimize=False)
    rng = np.random.default_rng(0)
    feeds = {}
    for spec in before.inputs:
        shape = SIZES.get(name, {}).get(spec.name) or [
            size if isinstance(size, int) else 1 for size in spec.shape or ()
        ]
        integers = spec.dtype.kind == "i"  # the sample rate
        feeds[spec.name] = np.array(16000) if integers else rng.standard_normal(shape).astype(spec.dtype)
    found = after.run(feeds)
    for output, array in before.run(feeds).items():
        if array.dtype == np.float16:
            # From opset 12 on onnxruntime has Dropout in float16; before, it ran in float32 between its neighbours.
            np.testing.assert_array_max_ulp(array, found[output], maxulp=1)
        else:
            assert identical(array, found[output]), output


# The models that onnx ships


def stored(path: Path) -> Any:
    """The tensor or the sequence of tensors in a file."""
    try:
        return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
    except Exception:
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))


def samples(path: Path, session: Session) -> list[tuple[dict[str, Any], list[Any]]]:
    """(feeds, stored outputs) for a model; for a light one random feeds, without outputs."""
    found = []
    for folder in sorted(path.parent.glob("test_data_set_*")):
        inputs, outputs = ([stored(folder / f"{kind}_{i}.pb") for i in range(len(list(folder.glob(f"{kind}_*.pb"))))]
                           for kind in ("input", "output"))  # fmt: skip
        found.append((dict(zip((spec.name for spec in session.inputs), inputs, strict=True)), outputs))
    if not found:
        rng = np.random.default_rng(0)
        found.append(
            ({spec.name: rng.random(cast(tuple[int, ...], spec.shape), np.float32) for spec in session.inputs}, [])
        )
    return found


def open_or_none(data: bytes) -> Session | None:
    try:
        return Session(data, optimize=False)
    except LoweringError:
        return None


@pytest.mark.parametrize(
    ("folder", "runnable", "comparable"),
    [("simple", 17, 17), ("pytorch-converted", 82, 59), ("pytorch-operator", 35, 24), ("light", 9, 9)],
)
def test_the_models_of_the_backend_suite(folder: str, runnable: int, comparable: int) -> None:
    """None is refused, and whatever onnxruntime can run gives the same bits before and after.

    It cannot run everything that onnx ships, and not every form of opset 6; that is held against the stored outputs.
    """
    runs_after = runs_before = 0
    for path in sorted((DATA / folder).rglob("*.onnx")):
        proto = onnx.load(path)
        model = from_proto(proto)
        assert upgrade_opset(model) == "", path
        verify(model)
        raised = to_proto(model)
        onnx.checker.check_model(raised, full_check=True)
        after, before = open_or_none(raised.SerializeToString()), open_or_none(proto.SerializeToString())
        if after is None:
            assert before is None, path
            continue
        runs_after += 1
        runs_before += before is not None
        for feeds, outputs in samples(path, after):
            results = after.run(feeds)
            for found, expected in zip(results.values(), outputs, strict=bool(outputs)):
                if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
                    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6, err_msg=str(path))
                else:
                    assert identical(expected, found), path
            if before is not None:
                assert identical(list(before.run(feeds).values()), list(results.values())), path
    assert runs_after >= runnable and runs_before >= comparable
