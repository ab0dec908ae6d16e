"""The state of training on disk, whole or not at all, so that a run that was killed goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from qcompiler.errors import OutputError

__all__ = ["Checkpoint"]


class Checkpoint:
    """One file in ``folder``, named by the ``key`` of the training; without a folder nothing is kept.

    It stays when the training ends: what comes behind it may be interrupted too. Whoever owns the folder removes it.
    Raises OutputError when the disk refuses.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.path = None if folder is None else folder / f"{key[:16]}.pt"
        self.key = key

    def load(self) -> dict[str, Any] | None:
        """What :meth:`save` wrote last; None where there is nothing, or nothing that can be read."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            found = torch.load(self.path, weights_only=True)  # numbers and tensors alone: no code is run
        except Exception:  # a file that is none of ours, or of another version of torch
            return None
        return found if isinstance(found, dict) and found.get("key") == self.key else None

    def save(self, state: dict[str, Any]) -> None:
        """Put ``state`` in the place of what was there."""
        if self.path is None:
            return
        beside = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"key": self.key, **state}, beside)
            os.replace(beside, self.path)
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{self.path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
        finally:
            beside.unlink(missing_ok=True)
