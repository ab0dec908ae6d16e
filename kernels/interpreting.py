"""Launches on the processor by Triton's interpreter: slow, and the same numbers as on a card."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.errors import LoweringError
from qcompiler.kernels.registry import Given, Held, Launch, Made, Size, triton_module

__all__ = ["interpret"]

Array = np.ndarray[Any, np.dtype[Any]]


def interpret(
    launch: Launch, given: Sequence[Array | None], results: Sequence[tuple[str, tuple[int, ...]]]
) -> list[Array]:
    """The results of ``launch`` for the operands ``given``.

    Triton decides when its functions are loaded whether it interprets or compiles: the first call settles it for the
    process. Raises LoweringError without Triton and torch, or where Triton was loaded to compile.
    """
    os.environ.setdefault("TRITON_INTERPRET", "1")
    try:
        import torch

        module, _, name = launch.function.partition(":")
        function: Any = getattr(importlib.import_module(triton_module(module)), name)
    except ImportError as error:
        raise LoweringError(f"the interpreter needs {error.name}", hint="pip install 'qcompiler[triton]'") from None
    if type(function).__name__ != "InterpretedFunction":
        raise LoweringError("Triton was loaded to compile", hint="set TRITON_INTERPRET=1 before Python starts")
    made = [torch.empty(shape, dtype=getattr(torch, dtype)) for dtype, shape in results]
    arguments: list[Any] = []
    for item in launch.arguments:
        match item:
            case Given(index):
                arguments.append(torch.from_numpy(np.array(given[index])))
            case Held(array):
                arguments.append(torch.from_numpy(np.array(array)))
            case Size(value):
                arguments.append(value)
            case Made(index):
                arguments.append(made[index])
    if all(launch.grid):
        with np.errstate(all="ignore"):  # a card says nothing of overflows either
            function[launch.grid](*arguments, **launch.constants)
    return [item.numpy() for item in made]
