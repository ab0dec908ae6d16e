"""Compiling ahead of time what a model launches: for the shapes of one run, once for each architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qcompiler.errors import LoweringError
from qcompiler.ir import Model
from qcompiler.kernels import CARDS, KERNELS
from qcompiler.kernels.building import Built, Specialization, build, specialization
from qcompiler.kernels.storing import KernelSet
from qcompiler.lower.cuda.partition import program_of
from qcompiler.runtime import Executor, KernelStep

__all__ = ["build_kernels"]


def build_kernels(
    model: Model, feeds: Mapping[str, Any], architectures: Sequence[int], progress: Callable[[str], None]
) -> KernelSet | None:
    """The cubins that ``model`` launches for inputs of the shapes of ``feeds``; None where it launches none.

    Raises LoweringError where Triton is not installed. One to three seconds a specialization and architecture, the
    first time.
    """
    program = program_of(model)
    calls = Executor(program).operands(feeds) if any(isinstance(step, KernelStep) for step in program.steps) else {}
    if not calls:
        return None
    built: dict[Specialization, dict[int, Built]] = {}
    problems: dict[str, None] = {}
    for capability in architectures:
        wanted: dict[Specialization, str] = {}
        for index, operands in calls.items():
            step = program.steps[index]
            assert isinstance(step, KernelStep)
            kernel = KERNELS[step.op]
            reason = kernel.refusal(operands, step.attributes)
            if reason:
                problems[f"{step.node} runs as its function body: {reason}"] = None
                continue
            launch = kernel.launch(operands, step.attributes, CARDS[capability])
            try:
                wanted[specialization(launch, operands, kernel.results(operands, step.attributes))] = step.node
            except LoweringError as error:
                problems[f"{step.node} runs as its function body: {error.what}"] = None
        progress(f"compiling {len(wanted)} kernels for sm_{capability}")
        for (item, node), made in zip(wanted.items(), build(list(wanted), capability), strict=True):
            if isinstance(made, Built):
                built.setdefault(item, {})[capability] = made
            else:
                problems[f"{node} has no kernel for sm_{capability}: {made}"] = None
    return KernelSet(tuple(architectures), built, tuple(problems))
