"""Do two models give the same numbers? Run without optimizations, so that the graphs themselves are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import QCompilerError
from qcompiler.ir import Model
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session

__all__ = ["TOLERANCE", "Reference", "deviation", "tolerance"]

TOLERANCE = {DType.DOUBLE: 1e-7, DType.FLOAT: 1e-4, DType.FLOAT16: 1e-2, DType.BFLOAT16: 6e-2}
"""Largest difference that counts as equal, relative to the largest magnitude of the output."""

_FLOOR = 4e-3
"""Magnitude below which an output is not judged by its own size: a sigmoid far out gives 1e-8, of which no digit
is right, and onnxruntime's own fusions change all of them. Times the tolerance it is a few units in the last place
of 1."""

_MOST = 1e-2  # an output that moves by more has a jump there, and the usual tolerance is all there is
_NUDGED = 10
"""So many times the effect of the last bit of the inputs counts as equal, too: every operator rounds, not only the
first, and a deep network on inputs unlike its own may carry roundings further than the tolerance. Measured on a
detector of 84 convolutions and random images: 2.8e-5 for the last bit of the input, 3.4e-5 for onnxruntime's own
optimizations, 1.0e-4 for one convolution at the front whose sums were taken in another order."""


class Reference:
    """The outputs of a model on a few samples, against which others are held."""

    def __init__(self, model: Model, samples: Sequence[dict[str, Any]], threads: int = 1) -> None:
        """Runs ``model`` at once. Raises LoweringError when onnxruntime cannot."""
        self.samples = samples
        self.threads = threads
        session = open_session(model, threads=threads, optimize=False)
        self.outputs = [session.run(sample) for sample in samples]
        least = tolerance(model)
        self.limits: list[dict[str, float]] = []
        for index, (sample, expected) in enumerate(zip(samples, self.outputs, strict=True)):
            moved = _moved(session, sample, expected, index)
            allowed = {name: _NUDGED * by if _NUDGED * by <= _MOST else least for name, by in moved.items()}
            self.limits.append({name: max(least, limit) for name, limit in allowed.items()})

    def difference(self, model: Model) -> str:
        """Empty when ``model`` gives the same numbers, else what differs, in words."""
        try:
            session = open_session(model, threads=self.threads, optimize=False)
            outputs = [session.run(sample) for sample in self.samples]
        except QCompilerError as error:
            return error.what
        for index, (expected, found) in enumerate(zip(self.outputs, outputs, strict=True)):
            if list(expected) != list(found):
                return f"the outputs are {list(found)}, not {list(expected)}"
            for name, array in expected.items():
                worst = deviation(array, found[name], _FLOOR)
                limit = self.limits[index][name]
                if not worst <= limit:
                    return f"output '{name}' is off by {worst:.2g} of its range on sample {index} (allowed {limit:.2g})"
        return ""


def _moved(session: Session, sample: dict[str, Any], expected: dict[str, Any], seed: int) -> dict[str, float]:
    """By how much the last bit of the inputs moves each output; nothing where the model refuses such inputs."""
    try:
        found = session.run(_nudged(sample, seed))
    except QCompilerError:
        return dict.fromkeys(expected, 0.0)
    return {name: deviation(array, found[name], _FLOOR) for name, array in expected.items()}


def _nudged(sample: dict[str, Any], seed: int) -> dict[str, Any]:
    """``sample`` with the last bit of every float of its arrays changed, up or down by chance."""
    rng = np.random.default_rng(seed)
    return {name: _next(np.asarray(array), rng) for name, array in sample.items()}


def _next(array: Any, rng: np.random.Generator) -> Any:
    if array.dtype.kind != "f":
        return array
    ends = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
    return np.nextafter(array, ends)


def tolerance(model: Model) -> float:
    """The tolerance for ``model``: that of the coarsest float type among its values."""
    kinds = {value.dtype for graph in model.graphs() for node in graph for value in node.outputs}
    kinds |= {value.dtype for graph in model.graphs() for value in (*graph.inputs, *graph.constants)}
    return max((TOLERANCE[kind] for kind in kinds if kind in TOLERANCE), default=TOLERANCE[DType.FLOAT])


def deviation(expected: Any, found: Any, floor: float = 0.0) -> float:
    """Largest absolute difference relative to the largest magnitude of ``expected``; infinite when not comparable.

    ``floor`` is the least that counts as that magnitude.

    Arrays of any shape, sequences and None; NaN and infinities must stand at the same places.
    """
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return float("inf")
        return max((deviation(a, b, floor) for a, b in zip(expected, found, strict=True)), default=0.0)
    if expected is None or found is None:
        return 0.0 if expected is found else float("inf")
    a, b = np.asarray(expected), np.asarray(found)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.dtype.kind in "OSUbiu" or a.size == 0:  # an index that is off by one is another answer
        return 0.0 if np.array_equal(a, b) else float("inf")
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    a, b = a.astype(wide), b.astype(wide)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = max(float(np.abs(a[finite]).max()), floor)
    worst = float(np.abs(a[finite] - b[finite]).max())
    return worst / largest if largest > 0 else worst
