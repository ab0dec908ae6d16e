"""The one door: what a text, a path or an object is taken for, and which requests make no sense."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.data import InputSpec, open_dataset
from qcompiler.errors import DataError, UsageError

X = InputSpec("x", np.dtype(np.float32), ("N", 3))


def test_text_and_path_name_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    np.savez(path, x=np.ones((2, 3), np.float32))
    assert len(open_dataset(path, [X])) == len(open_dataset(str(path), [X])) == 2


def test_an_npz_may_have_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3), np.float32))
    other = (tmp_path / "a.npz").rename(tmp_path / "samples:dat")
    assert len(open_dataset(other, [X])) == 2


def test_an_open_npz_is_a_mapping(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[None]], dtype=object))
    with np.load(tmp_path / "a.npz") as arrays, pytest.raises(DataError, match="'x' cannot be made an array"):
        open_dataset(arrays, [X])


def test_a_dataset_is_taken_as_it_is() -> None:
    dataset = open_dataset({"x": np.ones((4, 3), np.float32)}, [X])
    assert open_dataset(dataset, [X]) is dataset
    assert open_dataset(dataset, [X], limit=9) is dataset
    assert len(open_dataset(dataset, [X], limit=3)) == 3


@pytest.mark.parametrize("name", ["calib.npz", "there/calib.npz", "images.toml"])
def test_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(str(tmp_path / name), [X])


@pytest.mark.parametrize(
    "spec", ["", "photos", "photos/", "a b:c", "module:", ":callable", "1module:f", "a" * 5000, "a\0b", "c.npy", 3]
)
def test_what_is_nothing_is_wrong_usage(spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"give FILE\.npz, a folder"):
        open_dataset(spec, [X])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"limit": 0}, "samples 0"), ({"batch_size": -1}, "batch size -1"), ({"seed": -1}, "seed -1")],
)
def test_numbers_that_make_no_sense_are_wrong_usage(options: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        open_dataset("random", [X], **options)
