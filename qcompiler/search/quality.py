"""How far one model's outputs are from another's, over many samples, in one walk and bounded memory."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcompiler.errors import LoweringError, UsageError

__all__ = ["Accuracy", "Metric", "OutputQuality", "Quality", "compare", "find_metric"]

Array = np.ndarray[Any, np.dtype[Any]]
Outputs = Mapping[str, Any]


@dataclass
class OutputQuality:
    """One output: sums over all elements of all samples, in double precision."""

    signal: float = 0.0
    noise: float = 0.0
    max_abs: float = 0.0
    cosines: float = 0.0
    samples: int = 0
    comparable: bool = True

    def add(self, expected: Any, found: Any) -> None:
        """Count one sample. Lists are counted item by item; what is not a number only has to be equal.

        Where both hold the same infinity, or both NaN, there is no error; any other that is not finite is endless.
        """
        if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
            for a, b in zip(expected, found, strict=True):
                self.add(a, b)
            return
        self.samples += 1
        if expected is None or found is None or isinstance(expected, list) or isinstance(found, list):
            self.comparable &= expected is found
            return
        a, b = np.asarray(expected), np.asarray(found)
        if a.shape != b.shape or a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
            self.comparable &= bool(a.shape == b.shape and np.array_equal(a, b))
            self.cosines += float(self.comparable)
            return
        x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
        alike = (x == y) | (np.isnan(x) & np.isnan(y))
        odd = ~(np.isfinite(x) & np.isfinite(y))
        if (odd & ~alike).any():
            self.noise = self.max_abs = math.inf
        x, y = x[~odd], y[~odd]
        error = x - y
        self.signal += float(x @ x)
        self.noise += float(error @ error)
        self.max_abs = max(self.max_abs, float(np.abs(error).max(initial=0.0)))
        lengths = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
        self.cosines += float(x @ y) / lengths if lengths > 0 else float(np.array_equal(x, y))

    def merge(self, other: OutputQuality) -> None:
        """Count what ``other`` counted."""
        self.signal += other.signal
        self.noise += other.noise
        self.max_abs = max(self.max_abs, other.max_abs)
        self.cosines += other.cosines
        self.samples += other.samples
        self.comparable &= other.comparable

    @property
    def sqnr_db(self) -> float:
        """10 log10 of signal power to error power; infinite when there is no error, -inf when a value is not finite."""
        if not self.comparable or not math.isfinite(self.noise):
            return -math.inf
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf

    @property
    def cosine(self) -> float:
        """Mean over samples of the cosine between the two outputs, each flattened."""
        return self.cosines / self.samples if self.samples else math.nan


@dataclass
class Quality:
    """All outputs over ``samples``. ``agreement`` is the share of answers that are the same.

    An answer is the place of the largest score in a row of class scores, [rows, classes] with any number of unit axes
    behind, or an element of an output of integers or booleans. Without either the agreement is None.
    """

    outputs: dict[str, OutputQuality] = field(default_factory=dict)
    samples: int = 0
    agreed: int = 0
    rows: int = 0

    def add(self, expected: Outputs, found: Outputs) -> None:
        """Count one sample."""
        self.samples += 1
        for name, array in expected.items():
            if name not in found:
                raise LoweringError(f"the compiled model does not give the output '{name}'")
            self.outputs.setdefault(name, OutputQuality()).add(array, found[name])
            if _is_decision(array) and np.shape(array) == np.shape(found[name]):
                self.rows += np.size(array)
                self.agreed += int((np.asarray(array) == np.asarray(found[name])).sum())
            scores = _scores(array)
            others = _scores(found[name]) if scores is not None else None
            if scores is not None and others is not None and scores.shape == others.shape:
                self.rows += len(scores)
                self.agreed += int((scores.argmax(1) == others.argmax(1)).sum())

    def merge(self, other: Quality) -> None:
        """Count what ``other`` counted. Sample by sample that gives the same bits wherever each was counted."""
        for name, item in other.outputs.items():
            self.outputs.setdefault(name, OutputQuality()).merge(item)
        self.samples += other.samples
        self.agreed += other.agreed
        self.rows += other.rows

    @property
    def agreement(self) -> float | None:
        """Share of rows that name the same class."""
        return self.agreed / self.rows if self.rows else None

    @property
    def sqnr_db(self) -> float:
        """The worst output's."""
        return min((item.sqnr_db for item in self.outputs.values()), default=math.inf)

    def record(self) -> dict[str, Any]:
        """The report's ``quality.outputs``; a perfect or senseless ratio is null."""
        return {
            name: {
                "sqnr_db": item.sqnr_db if math.isfinite(item.sqnr_db) else None,
                "cosine": item.cosine,
                "max_abs": item.max_abs,
            }
            for name, item in self.outputs.items()
        }


def compare(expected: Iterable[Outputs], found: Iterable[Outputs]) -> Quality:
    """The quality of ``found`` against ``expected``, sample by sample."""
    quality = Quality()
    for a, b in zip(expected, found, strict=True):
        quality.add(a, b)
    return quality


class Metric:
    """A number that tells how good outputs are, higher is better."""

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, outputs: Iterable[Outputs], labels: Array | None) -> float:
        """The score of one model's ``outputs``, one mapping a sample, with ``labels`` [samples] or [samples, batch]."""
        raise NotImplementedError


class Accuracy(Metric):
    """Share of rows whose largest score in the first class-like output is the label's."""

    def score(self, outputs: Iterable[Outputs], labels: Array | None) -> float:
        if labels is None:
            raise UsageError("--metric top1 needs labels", hint="put an array named 'label' into the data")
        if np.asarray(labels).dtype.kind not in "iu":
            raise UsageError("--metric top1: labels are not integers", hint="give the index of the class for each row")
        right = total = 0
        for item, label in zip(outputs, labels, strict=True):
            scores = next((found for array in item.values() if (found := _scores(array)) is not None), None)
            if scores is None:
                raise UsageError("--metric top1 needs an output of class scores", hint="give --metric MODULE:CALLABLE")
            wanted = np.asarray(label).reshape(-1)
            if len(wanted) != len(scores):
                raise UsageError(
                    f"--metric top1: {len(wanted)} labels for {len(scores)} rows of scores",
                    hint="give the index of one class for each row",
                )
            right += int((scores.argmax(1) == wanted).sum())
            total += len(wanted)
        return right / total if total else math.nan


class _Custom(Metric):
    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name)
        self.function = function

    def score(self, outputs: Iterable[Outputs], labels: Array | None) -> float:
        try:
            value = float(self.function([dict(item) for item in outputs], labels))
        except Exception as error:  # the user's code: whatever it raises is told, not passed on as a traceback
            raise UsageError(f"metric {self.name} raised {type(error).__name__}: {error}") from None
        if not math.isfinite(value):
            raise UsageError(f"metric {self.name} returned {value}", hint="it has to return one finite number")
        return value


def find_metric(spec: str | Callable[..., Any]) -> Metric:
    """``top1``, or MODULE:CALLABLE, or a callable of (outputs: list of dicts, labels) returning one number.

    Raises UsageError when there is no such metric.
    """
    if callable(spec):
        return _Custom(getattr(spec, "__name__", "metric"), spec)
    if spec == "top1":
        return Accuracy("top1")
    module, colon, name = spec.partition(":")
    if not colon:
        raise UsageError(f"there is no metric '{spec}'", hint="use top1 or MODULE:CALLABLE")
    import sys

    sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"metric {spec} cannot be imported: {error}") from None
    finally:
        sys.path.remove("")
    return _Custom(spec, function)


def _is_decision(array: Any) -> bool:
    """True for an output of integers or booleans: a class, an index, a mask, which is right or wrong."""
    return isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "iub"


def _scores(array: Any) -> Array | None:
    """``array`` as [rows, classes], when it looks like class scores."""
    if array is None or isinstance(array, list):
        return None
    found = np.asarray(array)
    if found.dtype.kind != "f" or found.ndim < 2 or any(size != 1 for size in found.shape[2:]) or found.shape[1] < 2:
        return None
    return found.reshape(found.shape[0], found.shape[1])
