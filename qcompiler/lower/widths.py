"""Which widths are fast on this machine: small models of falling width are timed once, and the answer is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from qcompiler.caching import cache_folder, keep
from qcompiler.runtime import Session, interleaved, processor

__all__ = ["fast_multiples"]

_MULTIPLES = (4, 8, 16, 32)
_WIDEST, _NARROWEST, _STEP = 96, 32, 4
_SECONDS = 3.0  # for all widths of one kind
_GAIN = 0.25  # of what is saved by the count of products, that a narrower width has to save at least
_SLACK = 1.02  # between timings of the same thing


def fast_multiples(threads: int = 1) -> Mapping[str, int]:
    """For ``Conv`` and ``MatMul`` the least multiple of which every narrower width is faster in onnxruntime here.

    Measured in some seconds the first time, then read from ``qcompiler/widths.json`` in the user's cache folder
    (``XDG_CACHE_HOME``, or ``~/.cache``), until that file is removed; a cache that cannot be read or written is done
    without.
    """
    path = cache_folder() / "widths.json"
    key = f"{processor()}, onnxruntime {onnxruntime.__version__}, threads {threads}"
    known = _read(path)
    if key not in known:
        known[key] = {kind: _measured(model, feed, threads) for kind, (model, feed) in _KINDS.items()}
        keep(path, json.dumps(known, indent=1) + "\n")
    return known[key]


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: item for key, item in found.items() if _is_answer(item)}


def _is_answer(item: object) -> bool:
    return isinstance(item, dict) and item.keys() == _KINDS.keys() and all(each in _MULTIPLES for each in item.values())


def _measured(
    model: Callable[[int], bytes], feed: np.ndarray[tuple[int, ...], np.dtype[np.float32]], threads: int
) -> int:
    widths = range(_WIDEST, _NARROWEST - 1, -_STEP)
    sessions = [Session(model(width), threads=threads) for width in widths]
    found = interleaved(sessions, {"x": feed}, seconds=_SECONDS)
    return least_multiple({width: timing.least for width, timing in zip(widths, found, strict=True)})


def least_multiple(times: Mapping[int, float]) -> int:
    """The least of 4, 8, 16 and 32 that keeps time falling with every step; 32 when none does.

    ``times`` are by width. A step has to save a quarter of what it saves in products.
    """
    for multiple in _MULTIPLES[:-1]:
        widths = sorted((width for width in times if width % multiple == 0), reverse=True)
        pairs = pairwise(widths)
        if all(times[narrow] <= _SLACK * times[wide] * (1 - _GAIN * (1 - narrow / wide)) for wide, narrow in pairs):
            return multiple
    return _MULTIPLES[-1]


def _convolutions(width: int) -> bytes:
    """Two convolutions joined and read by a third: a width that does not fit the blocks shows in all of them."""
    return _model(
        "float[1,96,14,14] x",
        "a = Conv(x, w0) b = Relu(a) c = Conv<pads=[1,1,1,1]>(x, w1) d = Relu(c) "
        "e = Concat<axis=1>(b, d) y = Conv(e, w2)",
        w0=(width, 96, 1, 1), w1=(width, 96, 3, 3), w2=(96, 2 * width, 1, 1),
    )  # fmt: skip


def _products(width: int) -> bytes:
    return _model(
        "float[64,256] x", "a = MatMul(x, w0) b = Relu(a) y = MatMul(b, w1)", w0=(256, width), w1=(width, 256)
    )


def _model(given: str, body: str, **shapes: tuple[int, ...]) -> bytes:
    rank = given.count(",") + 1
    result = f"float[{','.join('pqrs'[:rank])}] y"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g ({given}) => ({result}) {{ {body} }}')
    draw = np.random.default_rng(0).standard_normal
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(draw(shape).astype(np.float32), name))
    return bytes(model.SerializeToString())


_KINDS = {
    "Conv": (_convolutions, np.ones((1, 96, 14, 14), np.float32)),
    "MatMul": (_products, np.ones((64, 256), np.float32)),
}
