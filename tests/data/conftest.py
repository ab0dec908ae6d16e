"""A folder of small images and the TOML file beside it, which the tests of images share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., np.ndarray[Any, Any]]:
    """photo("cats/1.png", h, w): write random pixels there, below ``photos``, and return them, uint8 [h, w, 3]."""

    def write(name: str, height: int = 6, width: int = 8) -> np.ndarray[Any, Any]:
        generator = np.random.default_rng([*name.encode(), height, width])
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """table(crop=[4, 4], ...): write the [images] table with these keys, and ``folder``, and return the file."""

    def write(**keys: Any) -> Path:
        path = tmp_path / "images.toml"
        path.write_text(tomli_w.dumps({"images": {"folder": "photos"} | keys}))
        return path

    return write
