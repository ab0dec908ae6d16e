"""What every test can use: the trained models, and how property tests draw their examples."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Triton decides when its functions are loaded whether it interprets them, and some test loads every module. What is
# compiled is compiled in another process.
os.environ.setdefault("TRITON_INTERPRET", "1")
# What is tested is what is computed; tests of the cache have one of their own.
os.environ["QCOMPILER_CACHE"] = "off"

ROOT = Path(__file__).resolve().parents[1]

# No deadline: a slow machine is not a bug. In CI every run draws the same examples, so a failure there can be repeated.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the zoo is a zoo test; it need not be marked as one."""
    for item in items:
        if "zoo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.zoo)


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The folder of trained models and real data: ``$QCOMPILER_ZOO``, else ``../shared/zoo``; skips without it."""
    named = os.environ.get("QCOMPILER_ZOO")
    folder = Path(named) if named else ROOT.parent / "shared" / "zoo"
    if not (folder / "models").is_dir():
        pytest.skip(f"no trained models at {folder}; QCOMPILER_ZOO names another place")
    return folder.resolve()
