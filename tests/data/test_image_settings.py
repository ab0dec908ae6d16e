"""The [images] table: every key, its default, and the message for each thing that can be wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.data.image_settings import ImageSettings, read_image_settings
from qcompiler.errors import DataError

Table = Callable[..., Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image_settings(path)
    assert "\n" not in str(caught.value) and caught.value.hint
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_only_the_folder_is_needed(table: Table, folder: Path) -> None:
    path = table()
    assert read_image_settings(path) == ImageSettings(file=path, folder=folder)


def test_every_key(table: Table, folder: Path) -> None:
    keys: dict[str, Any] = {"input": "data_0", "labels": "folder", "resize_shorter": 256, "crop": [224, 200]}
    keys |= {"color": "BGR", "layout": "NHWC", "scale": 2, "mean": [1, 2.5, 3], "std": [1.0, -1.0, 2.0]}
    path = table(**keys)
    assert read_image_settings(path) == ImageSettings(
        file=path,
        folder=folder,
        input="data_0",
        labels="folder",
        resize_shorter=256,
        crop=(224, 200),
        color="BGR",
        layout="NHWC",
        scale=2.0,
        mean=(1.0, 2.5, 3.0),
        std=(1.0, -1.0, 2.0),
    )
    assert read_image_settings(table(resize=[3, 4])).resize == (3, 4)


def test_the_folder_may_be_absolute(table: Table, folder: Path) -> None:
    assert read_image_settings(table(folder=str(folder))).folder == folder


def test_an_unknown_key_is_named_with_the_known_ones(table: Table) -> None:
    message = refusal(table(colour="RGB"))
    assert "unknown key 'colour'" in message and "did you mean 'color'?" in message
    assert "'folder', 'input'" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no table [images]"),
        ("images = 3", "no table [images]"),
        ('[image]\nfolder = "photos"', "did you mean 'images'?"),
        ("[images]", "has no folder"),
        ("[images\n", "is not valid TOML"),
        ('[images]\nfolder = "photos"\nfolder = "b"', "is not valid TOML"),
        ('[images]\nfolder = "nowhere"', "nowhere does not exist"),
        ('[images]\nfolder = "photos"\nresize = [2, 2]\nresize_shorter = 2', "exclude each other"),
    ],
)
def test_a_file_that_is_no_table_of_images(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "images.toml"
    path.write_text(text)
    assert named in refusal(path)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "images.toml")
    (tmp_path / "images.toml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(tmp_path / "images.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("folder", 3),
        ("folder", ""),
        ("input", ["x"]),
        ("labels", 1),
        ("labels", ""),
        ("resize_shorter", 0),
        ("resize_shorter", 2.5),
        ("resize_shorter", True),
        ("resize", 224),
        ("crop", [224]),
        ("crop", [224, -1]),
        ("crop", [224, 224, 3]),
        ("color", "rgb"),
        ("layout", "CHW"),
        ("scale", "1/255"),
        ("scale", float("nan")),
        ("scale", True),
        ("scale", 10**400),
        ("mean", 128.0),
        ("mean", [1.0, 2.0]),
        ("mean", [1.0, 2.0, "3"]),
        ("std", [1.0, 0.0, 1.0]),
        ("std", [1.0, float("inf"), 1.0]),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(table: Table, key: str, value: Any) -> None:
    message = refusal(table(**{key: value}))
    assert f"{key} = " in message and f"give {key} " in message


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_holds_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.toml"
    path.write_bytes(b"[images]\n" + content)
    with pytest.raises(DataError):
        read_image_settings(path)
