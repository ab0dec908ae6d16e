"""Running a program on the processor: the same partition as on a card, with the kernels' numpy references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.errors import LoweringError, UsageError
from qcompiler.kernels import CARDS, KERNELS, Operand
from qcompiler.kernels.interpreting import interpret
from qcompiler.runtime.program import KernelStep, Program, SessionStep
from qcompiler.runtime.session import Session

__all__ = ["Executor"]

Array = np.ndarray[Any, np.dtype[Any]]

_WAYS = ("reference", "interpreter")


class Executor:
    """A program on the processor.

    ``kernels`` is "reference" (numpy) or "interpreter" (Triton's, which is slow); both give the same bits. ``threads``
    are those of the sessions. Raises LoweringError when onnxruntime refuses a part.
    """

    def __init__(self, program: Program, *, threads: int = 1, kernels: str = "reference") -> None:
        if kernels not in _WAYS:
            raise UsageError(f"kernels cannot run by '{kernels}'", hint=f"there are: {', '.join(_WAYS)}")
        self.program, self.threads, self.kernels = program, threads, kernels
        self.inputs, self.outputs = program.inputs, program.outputs
        self._sessions = {
            index: Session(step.model, threads=threads)
            for index, step in enumerate(program.steps)
            if isinstance(step, SessionStep)
        }
        self._last = _last_uses(program)

    def operands(self, feeds: Mapping[str, Array]) -> dict[int, list[Operand | None]]:
        """By step what each kernel is given for ``feeds``: types and shapes, and the constants."""
        found: dict[int, list[Operand | None]] = {}
        self._walk(feeds, lambda index, step, values: found.setdefault(index, self._operands(step, values)))
        return found

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """One inference. ``feeds`` maps input names to arrays. Raises LoweringError when a part fails."""
        values = self._walk(feeds)
        return {name: values[name] for name in (outputs if outputs is not None else self.outputs)}

    def _walk(
        self, feeds: Mapping[str, Array], look: Callable[[int, KernelStep, Mapping[str, Any]], Any] | None = None
    ) -> dict[str, Any]:
        """Every step; ``look`` is shown each kernel before it runs. What is left are outputs and constants."""
        values: dict[str, Any] = {**self.program.constants, **self.program.complete(feeds)}
        for index, step in enumerate(self.program.steps):
            if isinstance(step, SessionStep):
                values.update(self._sessions[index].run({name: values[name] for name in step.inputs}, step.outputs))
            else:
                if look is not None:
                    look(index, step, values)
                values.update(zip(step.outputs, self._kernel(step, values), strict=True))
            for name in self._last[index]:
                values.pop(name, None)
        return values

    def prepared(self, feeds: Mapping[str, Array]) -> Any:
        """A function of no arguments that runs the inference and drops the result, for timing."""
        return lambda: self.run(feeds)

    def _kernel(self, step: KernelStep, values: Mapping[str, Any]) -> list[Array]:
        kernel = KERNELS[step.op]
        arrays = kernel.complete([values[name] if name else None for name in step.inputs])
        if self.kernels == "reference":
            return kernel.reference(arrays, step.attributes)
        operands = self._operands(step, values)
        reason = kernel.refusal(operands, step.attributes)
        if reason:
            raise LoweringError(f"no kernel runs '{step.node}': {reason}")
        results = kernel.results(operands, step.attributes)
        return interpret(kernel.launch(operands, step.attributes, CARDS[90]), arrays, results)

    def _operands(self, step: KernelStep, values: Mapping[str, Any]) -> list[Operand | None]:
        constants = self.program.constants
        given = [Operand.of(values[name], constant=name in constants) if name else None for name in step.inputs]
        return KERNELS[step.op].complete(given)


def _last_uses(program: Program) -> list[tuple[str, ...]]:
    """For each step the values that nobody needs behind it."""
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        last.update(dict.fromkeys([*step.inputs, *step.outputs], index))
    kept = {*program.outputs, *program.constants, ""}
    found: list[list[str]] = [[] for _ in program.steps]
    for name, index in last.items():
        if name not in kept:
            found[index].append(name)
    return [tuple(names) for names in found]
