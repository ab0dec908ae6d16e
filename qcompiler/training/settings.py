"""How a model is trained. Nothing here needs torch."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

from qcompiler.errors import UsageError

__all__ = ["Settings", "has_torch", "need_torch"]

_CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "linear", "constant"),
    "loss": ("auto", "kl", "mse"),
    "batch_norm": ("auto", "frozen", "train", "restore"),
    "precision": ("float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}


@dataclass(frozen=True)
class Settings:
    """Options of training; the pass ``recover`` and the command ``distill`` have the same.

    Loss: ``loss`` is ``kl`` (answers softened by ``temperature``, times its square: Hinton et al., 2015, section 2),
    ``mse`` (squared error over the teacher's power) or ``auto``: kl for outputs of a Softmax, and for class scores
    where there are labels. ``labels`` is the part of the loss that the labels have, if the data has any, 0 to 1.
    ``features`` are inner tensors to imitate, with the weight ``feature_weight``: names, ``TEACHER=STUDENT``, or
    ``auto``. Penalties, per step of the optimizer and by soft thresholds, so that what dies is zero: ``l1`` of weights,
    ``group_lasso`` of output channels (Yuan and Lin, 2006), ``scale_l1`` of batch normalization's scales (Liu et al.,
    2017). ``sparsity`` is the share of weights that are zero in the end, the smallest going first (Zhu and Gupta,
    2017: a cubic ramp).

    The loop: ``epochs`` over the samples in batches of ``batch``, one part of them, ``hold_out``, kept for judging;
    ``patience`` epochs without anything better end it, and so do ``seconds``. ``learning_rate`` warms up and then
    follows ``schedule``. Images are mirrored (``flip``), shifted by up to ``crop`` pixels and mixed (``mixup``: Zhang
    et al., 2018), before the teacher sees them too. ``batch_norm``: ``train`` normalizes by the batch, ``frozen`` does
    not, ``restore`` puts a normalization behind each convolution that has none and trains with it (it is folded away
    in the end), ``auto`` trains where the model has any and batches are of 8 at least. ``optimizer`` is adamw or sgd,
    with ``weight_decay``; ``precision`` is float32 or bfloat16, ``device`` auto, cpu or cuda. ``exclude`` is a regular
    expression on names of constants and nodes, and on operator types, that do not learn. ``threads`` 0: all.
    """

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 3e-4
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    loss: str = "auto"
    temperature: float = 2.0
    labels: float = 0.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    l1: float = 0.0
    group_lasso: float = 0.0
    scale_l1: float = 0.0
    sparsity: float = 0.0
    hold_out: float = 0.125
    patience: int = 0
    seconds: float | None = None
    flip: bool = False
    crop: int = 0
    mixup: bool = False
    batch_norm: str = "auto"
    precision: str = "float32"
    device: str = "auto"
    threads: int = 0
    exclude: str = ""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, not '{getattr(self, name)}'")
        for name, least in {"epochs": 1, "batch": 1, "patience": 0, "crop": 0, "threads": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} has to be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} has to be above 0, not {getattr(self, name):g}")
        for name in ("weight_decay", "feature_weight", "l1", "group_lasso", "scale_l1"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} has to be 0 or more, not {getattr(self, name):g}")
        if not 0 <= self.labels <= 1:
            raise ValueError(f"labels is a part of the loss, 0 to 1, not {self.labels:g}")
        for name in ("sparsity", "hold_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share below 1, not {getattr(self, name):g}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds have to be above 0, not {self.seconds:g}")

    @property
    def reshapes_weights(self) -> bool:
        """Whether the weights are to become something else than what answers best: zeros."""
        return any((self.l1, self.group_lasso, self.scale_l1, self.sparsity))


def has_torch() -> bool:
    """Whether the extra that trains is installed."""
    return importlib.util.find_spec("torch") is not None


def need_torch() -> None:
    """Raises UsageError with the extra to install when torch is not there."""
    if not has_torch():
        raise UsageError("training needs torch, which is not installed", hint="pip install 'qcompiler[recover]'")
