"""What a kernel is: an operator of domain ``qcompiler`` with typed ports, a numpy reference and a Triton launch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from qcompiler.kernels.cards import Card

__all__ = [
    "DOMAIN",
    "MOST_PROGRAMS",
    "Argument",
    "Attributes",
    "Given",
    "Held",
    "Kernel",
    "Launch",
    "Made",
    "Operand",
    "Port",
    "Size",
    "triton_module",
]

Array = np.ndarray[Any, np.dtype[Any]]

DOMAIN = "qcompiler"
"""The domain of the operators."""

MOST_PROGRAMS = 65_535
"""Programs along the second axis of a launch (CUDA's limit); along the first there may be 2**31 - 1."""

Attributes: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True)
class Port:
    """An input or output: its name, the element types that it may have (numpy's names) and what it is."""

    name: str
    types: tuple[str, ...]
    about: str
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Operand:
    """An input of one call: element type, shape, and its elements where they never change."""

    dtype: str
    shape: tuple[int, ...]
    array: Array | None = None

    @classmethod
    def of(cls, array: Array, *, constant: bool = False) -> Operand:
        """The operand that is ``array``."""
        return cls(array.dtype.name, tuple(array.shape), array if constant else None)


@dataclass(frozen=True)
class Given:
    """An argument of a launch: the operand at ``index``."""

    index: int


@dataclass(frozen=True, eq=False)
class Held:
    """An argument of a launch: a small array that was worked out beforehand."""

    array: Array


@dataclass(frozen=True)
class Size:
    """An argument of a launch: an int32."""

    value: int


@dataclass(frozen=True)
class Made:
    """An argument of a launch: the result at ``index``."""

    index: int


Argument: TypeAlias = "Given | Held | Size | Made"


@dataclass(frozen=True, eq=False)
class Launch:
    """One launch of the Triton function ``MODULE:NAME`` of :mod:`qcompiler.kernels.triton`, or of any module whose
    name has a dot.

    ``arguments`` are in the function's order, ``constants`` its constants of compilation.
    """

    function: str
    arguments: tuple[Argument, ...]
    constants: Mapping[str, int]
    grid: tuple[int, int, int]
    warps: int
    stages: int


def triton_module(module: str) -> str:
    """The full name of the module that a launch calls ``module``."""
    return module if "." in module else f"qcompiler.kernels.triton.{module}"


class Kernel(ABC):
    """An operator. Its one instance holds no state."""

    name: ClassVar[str]
    about: ClassVar[str]
    inputs: ClassVar[tuple[Port, ...]]
    outputs: ClassVar[tuple[Port, ...]]
    attributes: ClassVar[Mapping[str, Any]]
    """Attributes and their defaults; None where there is none."""

    def settled(self, attributes: Attributes) -> dict[str, Any]:
        """``attributes`` with the defaults of those that are not there. Raises ValueError for one unheard of."""
        unknown = set(attributes) - set(self.attributes)
        if unknown:
            raise ValueError(f"{self.name} has no attribute '{min(unknown)}'")
        return {**self.attributes, **attributes}

    def complete(self, given: Sequence[Any]) -> list[Any]:
        """``given`` with None for the optional inputs behind them."""
        return [*given, *[None] * (len(self.inputs) - len(given))]

    @abstractmethod
    def results(self, operands: Sequence[Operand | None], attributes: Attributes) -> list[tuple[str, tuple[int, ...]]]:
        """Element type and shape of each output."""

    @abstractmethod
    def reference(self, arrays: Sequence[Array | None], attributes: Attributes) -> list[Array]:
        """The outputs, exactly."""

    def refusal(self, operands: Sequence[Operand | None], attributes: Attributes) -> str:
        """Why the Triton kernel cannot take this call: an input that its port does not allow, or its objection; empty
        where it can."""
        for port, operand in zip(self.inputs, operands, strict=True):
            if operand is None and not port.optional:
                return f"its input '{port.name}' is left out"
            if operand is not None and operand.dtype not in port.types:
                return f"its input '{port.name}' is {operand.dtype}, not {' or '.join(port.types)}"
        return self.objection(operands, attributes)

    def objection(self, operands: Sequence[Operand | None], attributes: Attributes) -> str:
        """Why it cannot take this call although its inputs are of the right types; empty where it can."""
        return ""

    def body(self, writer: Any) -> None:
        """Write the operator as nodes of the standard, for runtimes that lack it, with what
        :mod:`qcompiler.lower.cuda.bodies` gives: ``writer("Abs", "x", give="y")`` is a node, ports are names."""
        raise NotImplementedError(f"{self.name} has no body")

    @abstractmethod
    def launch(self, operands: Sequence[Operand | None], attributes: Attributes, card: Card) -> Launch:
        """How the Triton kernel is called for ``operands`` on ``card``."""
