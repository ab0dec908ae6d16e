"""What is minimized: the distance from the teacher's answers, from its inner tensors, and from labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from qcompiler.errors import TrainingError, UsageError
from qcompiler.ir import Model, Value
from qcompiler.training.settings import Settings

__all__ = ["LOGITS", "LOG_PROBABILITIES", "PROBABILITIES", "REGRESSION", "Losses", "feature_loss", "softened"]

PROBABILITIES, LOG_PROBABILITIES, LOGITS, REGRESSION = "probabilities", "log probabilities", "logits", "regression"

_TINY = 1e-12
_PASSING = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


def softened(student: Any, teacher: Any, temperature: float, axis: int = -1) -> Any:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over all but ``axis`` (Hinton et al., 2015)."""
    there = functional.log_softmax(teacher / temperature, axis)
    here = functional.log_softmax(student / temperature, axis)
    divergence = (there.exp() * (there - here)).sum(axis).mean()
    return divergence * temperature**2


def relative(student: Any, teacher: Any) -> Any:
    """Squared error over the teacher's squares; infinities and NaN of the teacher do not count."""
    there = torch.isfinite(teacher)
    error = torch.where(there, student - teacher, torch.zeros_like(student)).square().mean()
    power = torch.where(there, teacher, torch.zeros_like(teacher)).square().mean()
    return error / power.clamp_min(_TINY)


def feature_loss(student: Any, teacher: Any) -> Any:
    """:func:`relative` for tensors of one shape; where only channels differ, of the maps of their energy.

    A map is the sum of squares over the channels, divided by its norm (Zagoruyko and Komodakis, 2017, equation 2).
    """
    if student.shape == teacher.shape:
        return relative(student, teacher)
    if student.dim() < 3 or student.dim() != teacher.dim():
        raise TrainingError(
            f"inner tensors of shapes {list(student.shape)} and {list(teacher.shape)} cannot be compared"
        )
    axis = -1 if student.dim() == 3 else 1  # [rows, positions, channels] or [rows, channels, ...]
    ours, theirs = (functional.normalize(item.square().sum(axis).flatten(1), dim=1) for item in (student, teacher))
    if ours.shape != theirs.shape:
        raise TrainingError(
            f"inner tensors of shapes {list(student.shape)} and {list(teacher.shape)} cannot be compared"
        )
    return relative(ours, theirs)


class Losses:
    """The loss of a batch, by the settings.

    ``kinds`` says for each output by name what it holds. Outputs that are no floats have no part in it.
    """

    def __init__(
        self, settings: Settings, teacher: Model | None, student: Model, labels: Any, features: Sequence[Any] = ()
    ) -> None:
        """``labels`` are the data's, or None. Raises UsageError where there is nothing to learn from."""
        self.settings = settings
        self.share = settings.labels if labels is not None else 0.0
        if settings.labels and labels is None:
            raise UsageError("the data has no labels to learn from", hint="give labels, or leave labels = 0")
        if teacher is None and not self.share:
            raise UsageError("without a teacher there are only labels to learn from", hint="give labels above 0")
        if teacher is None:
            self.share = 1.0
        integral = labels is not None and labels.dtype.kind in "iu"
        self.kinds: dict[str, tuple[str, int]] = {}
        self.scored: tuple[str, str, int] | None = None  # the first output of class scores: name, kind, axis
        for value in student.graph.outputs:  # of a current operator set, which the teacher's may not be
            if value.dtype is None or value.dtype.is_float:
                self.kinds[value.name] = _kind(value, settings.loss, integral)
                kind, axis = _kind(value, "auto", integral)
                if self.scored is None and kind != REGRESSION:
                    self.scored = value.name, kind, axis
        if not self.kinds:
            raise TrainingError("the model gives no real numbers, so that there is nothing to learn from")
        self.features = list(features)
        if self.share and (self.scored is None or not integral):
            raise UsageError("labels are learned as classes", hint="they are integers, for an output of class scores")

    def of(
        self,
        outputs: Mapping[str, Any],
        expected: Mapping[str, Any],
        inner: Sequence[Any] = (),
        theirs: Sequence[Any] = (),
        labels: Any = None,
        mixed: Any = None,
    ) -> Any:
        """The loss: ``expected`` and ``theirs`` are the teacher's, ``labels`` [N], or with ``mixed`` two columns.

        ``mixed`` [N] is how much of the first label each sample has.
        """
        total: Any = 0.0
        if self.share < 1:
            for name, (kind, axis) in self.kinds.items():
                if name in expected and isinstance(outputs[name], torch.Tensor):
                    total = total + (1 - self.share) * self._output(outputs[name], expected[name], kind, axis)
        if self.share and labels is not None:
            total = total + self.share * self._label(outputs, labels, mixed)
        if self.features and len(theirs):
            weight = self.settings.feature_weight / len(theirs)
            for ours, other in zip(inner, theirs, strict=True):
                total = total + weight * feature_loss(ours, other)
        return total

    def _output(self, ours: Any, theirs: Any, kind: str, axis: int) -> Any:
        if ours.shape != theirs.shape:
            raise TrainingError(f"student and teacher give shapes {list(ours.shape)} and {list(theirs.shape)}")
        if kind == REGRESSION:
            return relative(ours, theirs)
        return softened(_scores(ours, kind), _scores(theirs, kind), self.settings.temperature, axis)

    def _label(self, outputs: Mapping[str, Any], labels: Any, mixed: Any) -> Any:
        scores = self._rows(outputs)
        if len(labels) != len(scores) or not bool((labels < scores.shape[1]).all() & (labels >= 0).all()):
            raise UsageError(
                f"{len(labels)} labels up to {int(labels.max())} do not go with {len(scores)} answers of "
                f"{scores.shape[1]} classes", hint="give one label for each answer, or leave labels = 0",
            )  # fmt: skip
        if mixed is None:
            return functional.cross_entropy(scores, labels)
        first, second = (functional.cross_entropy(scores, labels[:, place], reduction="none") for place in (0, 1))
        return (mixed * first + (1 - mixed) * second).mean()

    def _rows(self, outputs: Mapping[str, Any]) -> Any:
        assert self.scored is not None
        name, kind, axis = self.scored
        scores = _scores(outputs[name], kind)
        return scores.movedim(axis, -1).reshape(-1, scores.shape[axis])

    def right(self, outputs: Mapping[str, Any], labels: Any) -> int:
        """How many answers are the label."""
        return int((self._rows(outputs).argmax(-1) == labels).sum())


def _scores(item: Any, kind: str) -> Any:
    return item.clamp_min(_TINY).log() if kind == PROBABILITIES else item


def _kind(value: Value, loss: str, labelled: bool) -> tuple[str, int]:
    """What an output holds, and along which axis its classes are."""
    if loss == "mse":
        return REGRESSION, -1
    rank = value.rank
    classes = 1 if rank in (2, 4) else -1
    maker, moved = value.producer, False
    while maker is not None and maker.is_op(*_PASSING):
        moved = moved or not maker.is_op("Identity", "Cast", "QuantizeLinear", "DequantizeLinear")
        source = maker.input(0)
        maker = source.producer if source is not None else None
    if maker is not None and maker.is_op("Softmax", "LogSoftmax") and not (moved and rank not in (2, 4)):
        kind = PROBABILITIES if maker.is_op("Softmax") else LOG_PROBABILITIES
        return kind, classes if moved else int(maker.attr("axis", -1))
    scores = rank is not None and rank >= 2 and all(size == 1 for size in (value.shape or ())[2:])
    if loss == "kl" or (labelled and scores):
        return LOGITS, classes
    return REGRESSION, -1
