"""What a target is: which ops it has in integers, of which type, and how a quantized model is written for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.ir import Model, Node, QuantSpec, Value, quantize_weight
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Runner

__all__ = ["DYNAMIC", "HALVES", "STATIC", "WEIGHTS", "Artifacts", "Form", "Group", "Plan", "StoredWeight", "Target"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

HALVES = frozenset({DType.FLOAT16, DType.BFLOAT16})
"""Types of weights that are no integers: floats of half the size, without a scale."""

STATIC, DYNAMIC, WEIGHTS = "static", "dynamic", "weights"
"""Kinds of :class:`Form`: activations quantized by calibrated ranges, by ranges found in every run, or not at all."""


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that run in integers together or not at all: one that multiplies, and the activation it absorbs.

    ``data`` are the activations it reads, ``weight`` its constant weights, ``output`` the value after bias and
    activation. ``requantizes`` is true where the static form exists only with an integer output.
    """

    name: str
    anchor: Node
    nodes: tuple[Node, ...]
    data: tuple[Value, ...]
    weight: Value | None
    bias: Value | None
    weight_axis: int
    output: Value
    requantizes: bool


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """Integers that a pass chose for a weight instead of the nearest ones.

    ``levels`` have the weight's shape, ``scale`` (float32) and ``zero_point`` are [channels] or, in blocks, as
    :func:`qcompiler.ir.quantize_weight` gives them. ``bias`` (float32 [channels]) stands for the group's own.
    """

    levels: Array
    scale: Array
    zero_point: Array
    bias: Array | None = None


@dataclass(frozen=True)
class Form:
    """One way in which a group may be quantized.

    ``kind`` is ``static``, ``dynamic`` or ``weights``, ``weight`` how its weights are stored. ``portable`` asks for
    operators of the standard alone. ``integer_products`` lets a weight-only product round its activations to 8 bits,
    row by row, where the runtime can multiply faster so. ``stored`` are the integers; None: the nearest ones.
    """

    kind: str
    weight: QuantSpec
    portable: bool = False
    integer_products: bool = False
    stored: StoredWeight | None = None

    def levels(self, array: Array) -> tuple[Array, Array, Array]:
        """Levels, scale and zero point of ``array``, the weights in float32."""
        if self.stored is not None:
            return self.stored.levels, self.stored.scale, self.stored.zero_point
        return quantize_weight(array, self.weight, search=self.kind == WEIGHTS)


Plan: TypeAlias = "Mapping[Group, Form]"
"""The groups that are quantized, each with its form; every other one stays float."""


class Artifacts(Protocol):
    """Files beside a model: what the target needs to run it, made ahead of time."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be made, and what the user ought to know, in words."""
        ...

    def record(self) -> dict[str, Any]:
        """What the report says of them, by its keys."""
        ...

    def write(self, folder: Path) -> None:
        """Write them into ``folder``, beside ``model.onnx``."""
        ...


class Target(ABC):
    """A runtime on a kind of machine. Instances hold no state.

    Those that are dataclasses name in ``options`` the fields that a user may set.
    """

    name: ClassVar[str]
    """What ``--target`` calls it."""

    description: ClassVar[str]
    """What it is, in a few words, for lists."""

    options: ClassVar[tuple[str, ...]] = ()
    slow_fusions: ClassVar[frozenset[str]] = frozenset()
    """Operators that the runtime makes of several although those are faster."""

    on_card: ClassVar[bool] = False
    """Whether it is a card that runs the models, and takes the energy."""

    estimated_for: ClassVar[str] = ""
    """The machine of which :meth:`estimated` is a model."""

    @property
    def own_operators(self) -> frozenset[str]:
        """Operators that the runtime has kernels for beyond the usual, as ``domain:name``: of a domain of its own, or
        so new in the standard (``ai.onnx``) that not every runtime has them."""
        return frozenset()

    @abstractmethod
    def unavailable(self) -> str:
        """Why this machine cannot run the target's models; empty when it can."""

    def stand_in(self) -> str:
        """What runs the target's models here in its place, and why; empty where it can run them itself."""
        return ""

    def optimized_kinds(self, model: Model) -> Mapping[str, int] | None:
        """Nodes by operator type that the runtime makes of ``model`` when it loads it; None where it cannot tell."""
        return None

    def fast_multiples(self, threads: int) -> Mapping[str, int]:
        """Of how many channels widths had better be multiples with so many ``threads``, by ``Conv`` and ``MatMul``;
        without an entry any is as good."""
        return {}

    def open(self, model: Model, threads: int) -> Runner:
        """``model``, lowered or not, ready to run as the target runs it. Raises LoweringError."""
        return open_session(model, threads=threads)

    @property
    def timed_here(self) -> bool:
        """True when what :meth:`open` gives runs as the target will, so that its time can be measured."""
        return True

    def estimated(self, model: Model) -> Mapping[str, float] | None:
        """Seconds of nodes by their names, dynamic axes counted as 1, for a target whose nodes are not timed one by
        one; None where they are."""
        return None

    def runs_as(self, node: Node) -> str:
        """What ``node`` of a lowered model is called in :data:`qcompiler.lower.INTEGER_OPS`, where it is in there."""
        return node.op_type

    def refuses(self, spec: QuantSpec) -> str:
        """Why values cannot be quantized so; empty where they can."""
        return ""

    def check(self, model: Model, has_data: bool) -> None:  # noqa: B027
        """Raises UsageError for what has to be known of the source ``model`` before the work starts."""

    def accepts(self, model: Model) -> None:  # noqa: B027
        """Raises LoweringError for a float ``model`` that the target will not take in any form."""

    def artifacts(
        self, model: Model, samples: Iterable[Mapping[str, Array]], progress: Callable[[str], None]
    ) -> Artifacts | None:
        """What goes beside a finished ``model`` for inputs like ``samples``; None for a target without such.

        Raises LoweringError where nothing can be made here."""
        return None

    def safer(self) -> Target | None:
        """The same target without what trades digits for time; None where there is no such trade."""
        return None

    def runs_on(self, model: Model) -> list[dict[str, Any]]:
        """What runs each node of a lowered model, and why (``node``, ``op``, ``runs_on``, ``why``); empty where one
        runtime runs them all."""
        return []

    @abstractmethod
    def activation_spec(self) -> QuantSpec:
        """How activations are quantized: integer type and symmetry, one scale for each (ONNX QuantizeLinear)."""

    @abstractmethod
    def weight_spec(self, axis: int) -> QuantSpec:
        """How weights with output channels along ``axis``, counted from 0, are quantized."""

    @abstractmethod
    def groups(self, model: Model) -> tuple[list[Group], dict[Node, str]]:
        """What may run in integers, and for each other node that multiplies, why not."""

    @abstractmethod
    def kinds(self, group: Group) -> frozenset[str]:
        """The kinds of form that the target has for ``group``."""

    @abstractmethod
    def observed(self, model: Model, groups: Collection[Group]) -> list[Value]:
        """The values of ``model`` whose ranges lowering may need when ``groups`` are the candidates."""

    @abstractmethod
    def lower(self, model: Model, plan: Plan) -> Model:
        """A new model in which the groups of ``plan`` are quantized and everything else is as before.

        Ranges of static forms are read from ``Value.quant``. Raises LoweringError for what cannot be expressed.
        """
