"""What is built holds the whole package and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

INGREDIENTS = ("LICENSE", "README.md", "kernels", "passes", "pyproject.toml", "qcompiler")


@pytest.fixture(scope="module")
def dist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution, and the wheel that was built from it rather than from the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in INGREDIENTS:
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif (root / name).is_file():
            shutil.copy(root / name, copy)
    command = [sys.executable, "-m", "build", "--no-isolation", str(copy)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.Path:
    (path,) = dist.glob("*.whl")
    return zipfile.Path(path)


@pytest.fixture(scope="module")
def wheel_files(dist: Path) -> list[PurePosixPath]:
    (path,) = dist.glob("*.whl")
    return [PurePosixPath(name) for name in zipfile.ZipFile(path).namelist()]


def test_the_only_top_level_is_qcompiler(wheel_files: list[PurePosixPath]) -> None:
    tops = {path.parts[0] for path in wheel_files}
    assert sorted(top for top in tops if not top.endswith(".dist-info")) == ["qcompiler"]
    assert len(tops) == 2


def test_the_wheel_holds_every_file_of_the_package(wheel_files: list[PurePosixPath], package_files: list[Path]) -> None:
    in_wheel = {str(path) for path in wheel_files if path.parts[0] == "qcompiler"}
    assert in_wheel == {path.as_posix() for path in package_files}


def test_the_wheel_carries_the_licence_and_the_command(wheel: zipfile.Path) -> None:
    (info,) = (entry for entry in wheel.iterdir() if entry.name.endswith(".dist-info"))
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text("utf-8")
    assert "qcompiler = qcompiler.cli:main" in (info / "entry_points.txt").read_text("utf-8")


def test_the_source_distribution_keeps_the_layout(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "passes/__init__.py", "kernels/__init__.py", "qcompiler/py.typed"} <= names
