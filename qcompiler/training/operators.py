"""The table of operators that a model is trained through: ONNX semantics (operator sets 17 to 26) in torch.

An operator is a function of its node and of its inputs, None where one is left out, that returns a tensor or a tuple
of them. float16 and bfloat16 are worked on in float32. What :func:`qcompiler.training.quantized` gives are integers in
float tensors, through which gradients go straight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from qcompiler.ir import Node

__all__ = ["OPERATORS", "TORCH_TYPES", "Unsupported", "operator"]

Operator = Callable[..., Any]

OPERATORS: dict[str, Operator] = {}
"""By operator type; of another domain than the standard one as ``domain:type``."""

TORCH_TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float32, 11: torch.float64, 16: torch.float32, 4: torch.int32, 12: torch.int64, 21: torch.uint8,
    22: torch.int8, 25: torch.uint8, 26: torch.int8,
}  # fmt: skip
"""What holds the elements of an ONNX type; narrower integers are held in wider ones."""


class Unsupported(Exception):
    """Says which form of an operator cannot be trained through, so that onnxruntime runs the node instead."""


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Enter a function into the table."""

    def enter(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
        return function

    return enter


def integers(tensor: Any) -> list[int]:
    """The elements of a tensor of sizes, axes or repeats."""
    return [int(item) for item in tensor.reshape(-1).tolist()]


def axes_of(node: Node, given: Any, rank: int) -> list[int] | None:
    """Axes by the second input or by the attribute, none of them negative; None where there are none."""
    axes = integers(given) if given is not None else node.attr("axes")
    return None if axes is None else [int(axis) % max(rank, 1) for axis in axes]
