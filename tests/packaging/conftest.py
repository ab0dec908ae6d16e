"""The package as it stands on disk."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def package_files() -> list[Path]:
    """Every file of the package, relative to the checkout; links are followed, so passes/ and kernels/ are in it."""
    found = [
        Path(folder, name).relative_to(ROOT)
        for folder, _, names in os.walk(ROOT / "qcompiler", followlinks=True)
        for name in names
        if Path(folder).name != "__pycache__"
    ]
    return sorted(found)


@pytest.fixture(scope="session")
def modules(package_files: list[Path]) -> dict[str, Path]:
    """Dotted name and path, relative to the checkout, of every module of the package."""
    named = {}
    for path in package_files:
        if path.suffix == ".py":
            parts = path.with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named
