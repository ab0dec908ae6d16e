"""Constants as torch parameters, and back: what is learned is written into the model they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qcompiler.dtypes import DType
from qcompiler.ir import Value, tensor
from qcompiler.training.learnable import LEVELS, SCALE, STATISTICS, Learnable, Plan
from qcompiler.training.operators import TORCH_TYPES
from qcompiler.training.quantized import BOUNDS, levels_of, real_of, spread

__all__ = ["Parameters", "as_torch", "holds"]


def holds(array: Any) -> bool:
    """Whether ``array`` is one whose elements torch has a type for."""
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind in "OSUT":
        return False
    return int(DType.of(array.dtype)) in TORCH_TYPES


def as_torch(array: Any) -> Any:
    """A tensor that owns a copy of ``array``, in the type in which its elements are worked on."""
    kind = TORCH_TYPES.get(int(DType.of(array.dtype)))
    if kind is None:
        raise ValueError(f"{array.dtype} is no type of torch")
    if not array.dtype.isnative or array.dtype.kind == "V" or array.dtype.name not in _PLAIN:
        array = array.astype(np.float32 if kind is torch.float32 else np.int16 if kind is not torch.uint8 else np.uint8)
    return torch.from_numpy(np.array(array)).to(kind)


_PLAIN = {"float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool", "uint16", "uint32"}


class Parameters(torch.nn.Module):  # type: ignore[misc]
    """The constants of a plan as parameters, and as the tensors that the model computes with.

    Scales are start * exp(p): they stay positive, and a step changes each by as much of itself, whatever its size
    (as Jain et al., 2019, section 3.2, learn their logarithms). Levels are held as real numbers and rounded in every
    run.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.entries = list(plan.learnable.values())
        self.place = {entry.value: str(number) for number, entry in enumerate(self.entries)}
        self.learned = torch.nn.ParameterDict()
        self.held: dict[Value, Any] = {}
        for entry in sorted(self.entries, key=lambda entry: entry.kind == LEVELS):  # levels need their scales
            self._add(entry, self.place[entry.value])
        self.start()

    def _add(self, entry: Learnable, key: str) -> None:
        start = as_torch(_array(entry.value))
        if entry.kind == STATISTICS:
            self.register_buffer(f"statistics_{key}", start)
        elif entry.kind == SCALE:
            self.register_buffer(f"start_{key}", start, persistent=False)
            self.learned[key] = torch.nn.Parameter(torch.zeros_like(start))
        elif entry.kind == LEVELS:
            scale, zero = self._grid(entry)
            real = real_of(start.double(), scale.double(), zero.double())
            wide = entry.product is not None  # 32 bits are more than a float holds
            self.learned[key] = torch.nn.Parameter(real if wide else real.float())
            if entry.keeps_zeros:
                self.register_buffer(f"mask_{key}", real != 0, persistent=False)
        else:
            self.learned[key] = torch.nn.Parameter(start)
            if entry.keeps_zeros:
                self.register_buffer(f"mask_{key}", start != 0, persistent=False)

    def start(self) -> None:
        """Forget what was computed for the last run."""
        self.held.clear()

    def knows(self, value: Value) -> bool:
        """Whether ``value`` learns, or follows what learns."""
        return value in self.place or value in self.plan.products

    def tensor(self, value: Value) -> Any:
        """What ``value`` is in this run."""
        if value not in self.held:
            self.held[value] = self._made(value)
        return self.held[value]

    def _made(self, value: Value) -> Any:
        if value in self.plan.products:
            one, two = (self._scale(scale) for scale in self.plan.products[value])
            return (one.double() * two.double()).float().reshape(_array(value).shape)
        entry, key = self.plan.learnable[value], self.place[value]
        if entry.kind == STATISTICS:
            return getattr(self, f"statistics_{key}")
        parameter = self.learned[key]
        if entry.kind == SCALE:
            return getattr(self, f"start_{key}") * torch.exp(parameter)
        if entry.kind == LEVELS:
            scale, zero = self._grid(entry)
            return levels_of(parameter, scale.to(parameter.dtype), zero.to(parameter.dtype), self._bounds(entry))
        return parameter

    def _scale(self, value: Value) -> Any:
        if self.knows(value):
            return self.tensor(value)
        return as_torch(_array(value)).to(self._device())

    def _device(self) -> Any:
        return next(iter(self.learned.values())).device if len(self.learned) else torch.device("cpu")

    def _grid(self, entry: Learnable) -> tuple[Any, Any]:
        """Scale and zero point of levels, in shapes that broadcast against them."""
        assert entry.scale is not None
        shape = _array(entry.value).shape
        scale = spread(self._scale(entry.scale), shape, entry.axis, entry.block)
        if entry.zero is None:
            return scale, torch.zeros((), device=scale.device)
        zero = as_torch(_array(entry.zero)).to(scale.device)
        return scale, spread(zero, shape, entry.axis, entry.block)

    def _bounds(self, entry: Learnable) -> tuple[int, int]:
        """The integers in use: what keeps out the most negative one goes on doing so."""
        array, held = _array(entry.value), entry.value.constant
        assert held is not None
        low, high = BOUNDS[int(held.dtype)]
        symmetric = entry.zero is None or not _array(entry.zero).astype(np.int64).any()
        if low < 0 and symmetric and array.size and int(array.astype(np.int64).min()) > low:
            low = -high
        return low, high

    def masks(self) -> list[tuple[Any, Any]]:
        """(parameter, mask): what is False in a mask stays zero."""
        return [
            (self.learned[key], getattr(self, f"mask_{key}"))
            for key in self.learned
            if getattr(self, f"mask_{key}", None) is not None
        ]

    def of_kind(self, *kinds: str) -> list[tuple[Learnable, Any]]:
        """Entries of these kinds with their parameters."""
        return [
            (entry, self.learned[self.place[entry.value]])
            for entry in self.entries
            if entry.kind in kinds and self.place[entry.value] in self.learned
        ]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def write(self) -> int:
        """Put what was learned into the constants; how many changed. Tensors of other users are not touched."""
        self.start()
        arrays = {value: self.tensor(value) for value in (*self.place, *self.plan.products)}
        changed = 0
        for value, made in arrays.items():
            held = value.constant
            assert held is not None
            old = held.numpy()
            new = made.detach().cpu().numpy()
            new = np.rint(new).astype(np.int64) if held.dtype.is_integer else new
            new = new.reshape(old.shape).astype(old.dtype)
            if new.tobytes() != np.ascontiguousarray(old).tobytes():
                value.const = tensor(new, held.dtype)
                for user in value.users():
                    user.touch()
                changed += 1
        self.start()
        return changed


def _array(value: Value) -> Any:
    held = value.constant
    assert held is not None
    return held.numpy()
