"""One process, or several that torchrun launched and that average their gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from qcompiler.errors import UsageError

__all__ = ["Workers", "workers"]


@dataclass(frozen=True)
class Workers:
    """``rank`` of ``count`` processes. The first one writes and speaks."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def wrapped(self, module: Any) -> Any:
        """``module``, averaging gradients over all processes when there are several."""
        if self.count == 1:
            return module
        # What the batch does not reach (a branch that was not taken) has no gradient here but may elsewhere.
        return torch.nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)

    def device(self, asked: str) -> Any:
        """The device of this process. With ``auto`` CUDA where there is one."""
        if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        if not torch.cuda.is_available():
            raise UsageError("there is no CUDA device for torch here", hint="leave device = auto")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def agree(self, state: dict[str, Any]) -> None:
        """Make the tensors of ``state`` those of the first process."""
        if self.count > 1:
            for name in sorted(state):
                torch.distributed.broadcast(state[name], 0)

    def mean(self, number: float) -> float:
        """The mean of ``number`` over all processes, the same in each."""
        if self.count == 1:
            return number
        held = torch.tensor([number], dtype=torch.float64)
        held = held.cuda() if torch.distributed.get_backend() == "nccl" else held
        torch.distributed.all_reduce(held)
        return float(held.item()) / self.count


@contextmanager
def workers(asked: str) -> Iterator[Workers]:
    """The processes of this run, by the environment that torchrun sets; they meet here and part at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "MASTER_ADDR" not in os.environ:
        yield Workers()
        return
    own = not torch.distributed.is_initialized()
    if own:
        cuda = asked != "cpu" and torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Workers(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        if own:
            torch.distributed.destroy_process_group()
