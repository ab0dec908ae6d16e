"""What may follow an accumulation in one kernel: bias, activation, residual, requantization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.kernels.arithmetic import ACTIVATIONS, activate, dequantize, to_int8
from qcompiler.kernels.configurations import HEAVY, LARGEST, READING
from qcompiler.kernels.operands import NO_FLOATS, known, number
from qcompiler.kernels.registry import Argument, Attributes, Given, Held, Operand, Port

__all__ = ["EPILOGUE_ATTRIBUTES", "Epilogue", "epilogue_ports"]

Array = np.ndarray[Any, np.dtype[Any]]

EPILOGUE_ATTRIBUTES: Mapping[str, Any] = {"activation": "none", "low": 0.0, "high": 0.0, "residual": "none", "half": 0}
"""``activation`` with its parameters ``low`` and ``high``; ``residual`` none, before the activation or after it;
``half`` 1 gives float16 instead of float32 where there is no output scale."""

_RESIDUAL = {"none": 0, "before": 1, "after": 2}
_EXPONENTIAL = frozenset({"silu", "gelu", "gelu_tanh", "sigmoid", "tanh"})


def epilogue_ports(channels: str) -> tuple[Port, ...]:
    """The inputs of an epilogue, behind those of the product."""
    return (
        Port("bias", ("float32",), f"[{channels}], added to the product", optional=True),
        Port("residual", ("int8", "float32", "float16"), "of the output's shape, added too", optional=True),
        Port("residual_scale", ("float32",), "of an int8 residual", optional=True),
        Port("residual_zero_point", ("int8",), "of an int8 residual", optional=True),
        Port("y_scale", ("float32",), "of an int8 output; without it the output is float", optional=True),
        Port("y_zero_point", ("int8",), "of an int8 output", optional=True),
    )


@dataclass(frozen=True)
class Epilogue:
    """The epilogue of one call. ``first`` is the place of the bias among its inputs."""

    first: int
    attributes: Attributes

    def parts(self, given: Sequence[Any]) -> list[Any]:
        """Bias, residual with scale and zero point, output scale and zero point."""
        return list(given[self.first : self.first + 6])

    def room(self, given: Sequence[Any]) -> int:
        """Results that a tile may have with it; see :mod:`qcompiler.kernels.configurations`."""
        if self.attributes["activation"] in _EXPONENTIAL:
            return HEAVY
        return LARGEST if given[self.first + 1] is None else READING

    def dtype(self, given: Sequence[Any]) -> str:
        """Element type of the output."""
        if given[self.first + 4] is not None:
            return "int8"
        return "float16" if self.attributes["half"] else "float32"

    def reference(self, real: Array, arrays: Sequence[Array | None]) -> Array:
        """What becomes of ``real`` float32 [..., channels]."""
        bias, residual, residual_scale, residual_zero, scale, zero = self.parts(arrays)
        names = self.attributes
        if bias is not None:
            real = real + bias
        other = None
        if residual is not None and names["residual"] != "none":
            other = (
                dequantize(residual, residual_scale, residual_zero)
                if residual.dtype == np.int8
                else residual.astype(np.float32)
            )
        if other is not None and names["residual"] == "before":
            real = real + other
        real = activate(real, names["activation"], names["low"], names["high"])
        if other is not None and names["residual"] == "after":
            real = real + other
        if scale is not None:
            return to_int8(real, scale, zero)
        with np.errstate(over="ignore"):  # what is too large for float16 is infinite there too
            return real.astype(np.float16) if names["half"] else real

    def objection(self, operands: Sequence[Operand | None]) -> str:
        """Why a kernel cannot do it."""
        if self.attributes["activation"] not in ACTIVATIONS:
            return f"there is no activation '{self.attributes['activation']}'"
        return "" if known(*self.parts(operands)[2:]) else "its scales are computed at run time"

    def constants(self, operands: Sequence[Operand | None]) -> dict[str, int]:
        """The constants of compilation that it decides."""
        bias, residual, *_ = self.parts(operands)
        mode = _RESIDUAL[self.attributes["residual"]] if residual is not None else 0
        return {
            "BIAS": int(bias is not None),
            "RESIDUAL": mode,
            "RESIDUAL_INT8": int(mode > 0 and residual is not None and residual.dtype == "int8"),
            "ACTIVATION": ACTIVATIONS[self.attributes["activation"]],
            "OUTPUT_INT8": int(self.dtype(operands) == "int8"),
        }

    def arguments(self, operands: Sequence[Operand | None]) -> tuple[Argument, Argument, Argument]:
        """Bias, residual and scalars."""
        bias, residual, *scalars = self.parts(operands)
        residual_scale, residual_zero, scale, zero = map(number, scalars)
        named = self.attributes
        held = np.asarray(
            [scale, zero, residual_scale, residual_zero, named["low"], named["high"]], np.float32
        )  # in the order of qcompiler.kernels.triton.epilogue
        return (
            Given(self.first) if bias is not None else NO_FLOATS,
            Given(self.first + 1) if residual is not None else NO_FLOATS,
            Held(held),
        )
