"""What a command may be given where it wants a model: a file, or a folder that ``compile`` made."""

from __future__ import annotations

from pathlib import Path

__all__ = ["model_file"]


def model_file(path: Path) -> Path:
    """``path``, or the model in it when it is a folder."""
    return path / "model.onnx" if path.is_dir() else path
