"""A partitioned model: sessions of onnxruntime and launches of kernels, in one order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from qcompiler.data import InputSpec
from qcompiler.errors import LoweringError

__all__ = ["KernelStep", "Program", "Runner", "SessionStep", "Step"]

Array = np.ndarray[Any, np.dtype[Any]]


class Runner(Protocol):
    """What runs a model: a session, or an executor of a program."""

    @property
    def threads(self) -> int:
        """Threads on the processor; 1 has its time measured as the thread's own."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Names, element types and shapes of the inputs."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """One inference."""

    def prepared(self, feeds: Mapping[str, Array]) -> Any:
        """A function of no arguments that runs the inference and drops the result."""


@dataclass(frozen=True, eq=False)
class SessionStep:
    """A part of the model that onnxruntime runs: its file, and the values that it takes and gives."""

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class KernelStep:
    """A node that one of our kernels runs. ``inputs`` are values by name, empty where one is left out.

    ``body`` makes the file of a model of that one node, all of its inputs being inputs: what onnxruntime runs where
    the kernel cannot.
    """

    node: str
    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    body: Callable[[], bytes]


Step: TypeAlias = "SessionStep | KernelStep"


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in order, the constants that kernels read, and what goes in and comes out.

    ``defaults`` are inputs that need not be fed, and what they are then.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, Array]
    defaults: Mapping[str, Array]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]

    def complete(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """``feeds`` and the defaults of what is not among them. Raises LoweringError for one that is
        missing, unknown or of another type."""
        missing = [spec.name for spec in self.inputs if spec.name not in feeds]
        if missing:
            raise LoweringError(f"input '{missing[0]}' is not fed")
        types = {spec.name: spec.dtype for spec in self.inputs}
        types |= {name: array.dtype for name, array in self.defaults.items()}
        for name, array in feeds.items():
            if name not in types:
                raise LoweringError(f"there is no input '{name}'")
            if array.dtype != types[name]:
                raise LoweringError(f"input '{name}' is {types[name]}, not {array.dtype}")
        return {**self.defaults, **feeds}
