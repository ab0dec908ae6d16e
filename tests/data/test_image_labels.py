"""Where the labels of images come from, and what is said where one cannot be told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.data import InputSpec, open_dataset
from qcompiler.errors import DataError

X = InputSpec("x", np.dtype(np.float32), ("N", 3, None, None))

Photo = Callable[..., Any]
Table = Callable[..., Path]


def labels(path: Path) -> list[int]:
    found = open_dataset(path, [X]).labels
    assert found is not None and found.dtype == np.int64
    return [int(label) for label in found]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(path, [X])
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


@pytest.fixture(autouse=True)
def photos(photo: Photo) -> None:
    """In order of name: a/dog/5.png, b/cat/7.png, b/dog/6.png."""
    for name in ("b/cat/7.png", "a/dog/5.png", "b/dog/6.png"):
        photo(name, 2, 2)


def test_none(table: Table) -> None:
    assert open_dataset(table(labels="none"), [X]).labels is None


def test_folders_are_classes_in_the_order_of_their_names(table: Table) -> None:
    assert labels(table(labels="folder")) == [1, 0, 1]


def test_an_image_outside_of_the_folders_has_no_class(table: Table, photo: Photo) -> None:
    photo("stray.png", 2, 2)
    assert "stray.png lies in no folder" in refusal(table(labels="folder"))


def test_a_regular_expression_finds_the_label_in_the_name(table: Table) -> None:
    assert labels(table(labels=r"name:^(\d+)\.")) == [5, 7, 6]


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        (r"name:(\d+", "is not a regular expression"),
        (r"name:\d+", "has no group"),
        (r"name:_(\d+)", "finds no number in the name of"),
        (r"name:(png)", "finds no number"),
        (r"name:(x)?png", "finds no number"),
    ],
)
def test_an_expression_that_does_not_tell(table: Table, expression: str, named: str) -> None:
    assert named in refusal(table(labels=expression))


@pytest.mark.parametrize(
    "text",
    [
        "5.png,1\n6.png,2\n7.png,3\n",
        "name,label\r\n7.png, 3\r\n6.png, 2\r\n\r\n5.png, 1\r\n",
        "\ufeffName,Label\na/dog/5.png,1\nb/dog/6.png,2\nb/cat/7.png,3\nb/cat/elsewhere.png,9\n7.png,8\n",
    ],
)
def test_a_csv_file_names_images_by_path_or_name(table: Table, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
    assert labels(table(labels="labels.csv")) == [1, 3, 2]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("5.png,1\n", "has no label for"),
        ("5.png,1\n6.png\n", "line 2: '6.png' is not name,label"),
        ("5.png,1\n6.png,dog\n", "line 2: '6.png,dog' is not name,label"),
        ("5.png,1,2\n", "line 1"),
        ("5.png,1\n5.png,2\n", "line 2: '5.png' has another label above"),
    ],
)
def test_a_csv_file_that_does_not_tell(table: Table, tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    message = refusal(table(labels="labels.csv"))
    assert named in message and "labels.csv" in message


def test_a_name_that_two_images_share_needs_its_path(table: Table, tmp_path: Path, photo: Photo) -> None:
    photo("b/cat/5.png", 2, 2)
    (tmp_path / "labels.csv").write_text("5.png,1\n6.png,2\n7.png,3\n")
    message = refusal(table(labels="labels.csv"))
    assert "'5.png' is the name of 2 images" in message and "a/dog/5.png" in message


def test_a_csv_file_that_is_not_there_or_no_text(table: Table, tmp_path: Path) -> None:
    message = refusal(table(labels="folders"))
    assert "folders does not exist" in message and '"folder"' in message
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe,\x00")
    assert "labels.csv cannot be read" in refusal(table(labels="labels.csv"))
