"""pyproject.toml names what is on disk, and each folder is imported by its one name."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

OUTSIDE = ("kernels", "passes")  # folders at the top of the checkout that are sub-packages of qcompiler


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of Python in ``folder``, with no search path but the interpreter's own and that folder."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_packages_are_the_folders_on_disk(pyproject: dict[str, Any], package_files: list[Path]) -> None:
    on_disk = {".".join(path.parent.parts) for path in package_files if path.suffix == ".py"}
    assert pyproject["tool"]["setuptools"]["packages"] == sorted(on_disk)


def test_every_package_has_an_init(root: Path, package_files: list[Path]) -> None:
    folders = {path.parent for path in package_files if path.suffix == ".py"}
    assert [str(folder) for folder in sorted(folders) if not (root / folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_link_leads_to_the_folder_that_is_packaged(root: Path, pyproject: dict[str, Any], name: str) -> None:
    link = root / "qcompiler" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)
    assert pyproject["tool"]["setuptools"]["package-dir"][f"qcompiler.{name}"] == name


def test_coverage_counts_every_folder(pyproject: dict[str, Any]) -> None:
    assert pyproject["tool"]["coverage"]["run"]["source"] == sorted(["qcompiler", *OUTSIDE])


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_wrong_name_says_which_is_right(root: Path, name: str) -> None:
    done = python(f"import {name}", root)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert done.stderr.endswith(f"write 'import qcompiler.{name}'\n")


def test_the_right_names_import_from_the_checkout(root: Path) -> None:
    done = python("import qcompiler.kernels, qcompiler.passes.lossless", root)
    assert done.returncode == 0, done.stderr


def test_the_right_names_import_from_elsewhere(tmp_path: Path) -> None:
    try:
        version("qcompiler")
    except PackageNotFoundError:
        pytest.skip("qcompiler is not installed")
    done = python("import qcompiler.kernels, qcompiler.passes.lossless", tmp_path)
    assert done.returncode == 0, done.stderr
