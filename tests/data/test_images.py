"""Images: decoded, resized, cropped and scaled as somebody would by hand, and refused by name where they do not fit."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qcompiler.data import InputSpec, open_dataset
from qcompiler.errors import DataError, UsageError

Array = np.ndarray[Any, Any]
Photo = Callable[..., Array]
Table = Callable[..., Path]

F32 = np.dtype(np.float32)
X = InputSpec("x", F32, ("N", 3, None, None))


def refusal(path: Path, *inputs: InputSpec, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(open_dataset(path, inputs or [X], **options))
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


def shrink(pixels: Array, height: int, width: int) -> Array:
    """Bilinear with antialiasing: a triangle as wide as the step, cut at the border; across, rounded, and then down."""

    def weights(size: int, out: int) -> Array:
        step = size / out
        centres = (np.arange(out) + 0.5) * step
        raw = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(step, 1))
        return np.asarray(raw / raw.sum(1, keepdims=True))

    across = np.floor(np.einsum("ow,hwc->hoc", weights(pixels.shape[1], width), pixels) + 0.5)
    return np.asarray(np.floor(np.einsum("oh,hwc->owc", weights(pixels.shape[0], height), across) + 0.5))


# What works


def test_without_settings_pixels_come_as_they_are(photo: Photo, table: Table) -> None:
    pixels = photo("a.png")
    (sample,) = open_dataset(table(), [X])
    np.testing.assert_array_equal(sample["x"], pixels.astype(np.float32).transpose(2, 0, 1)[None], strict=True)
    assert sample["x"].flags.c_contiguous


def test_the_whole_pipeline_by_hand(photo: Photo, table: Table) -> None:
    pixels = photo("a.png", 40, 60)
    path = table(
        input="x",
        resize_shorter=20,
        crop=[16, 18],
        color="BGR",
        layout="NCHW",
        scale=0.5,
        mean=[10.0, 20.0, 30.0],
        std=[2.0, 4.0, 8.0],
    )
    (sample,) = open_dataset(path, [X])
    resized = shrink(pixels, 20, 30)[2:18, 6:24]
    blue, green, red = (resized[..., channel] * 0.5 for channel in (2, 1, 0))
    expected = np.stack([(blue - 10) / 2, (green - 20) / 4, (red - 30) / 8])[None]
    assert sample["x"].shape == (1, 3, 16, 18)
    one_level = np.array([0.25, 0.125, 0.0625])[:, None, None]  # of 8 bits, where the two round differently
    assert np.all(np.abs(sample["x"] - expected) <= one_level + 1e-5)
    assert np.mean(np.abs(sample["x"] - expected) > 1e-5) < 0.02


@pytest.mark.parametrize(
    ("size", "shorter", "expected"), [((30, 41), 20, (20, 27)), ((41, 30), 20, (27, 20)), ((10, 10), 20, (20, 20))]
)
def test_resize_shorter_keeps_the_aspect(
    photo: Photo, table: Table, size: tuple[int, int], shorter: int, expected: tuple[int, int]
) -> None:
    photo("a.png", *size)
    assert open_dataset(table(resize_shorter=shorter), [X]).sample(0)["x"].shape == (1, 3, *expected)


def test_resize_is_height_and_width(photo: Photo, table: Table) -> None:
    pixels = photo("a.png", 40, 60)
    sample = open_dataset(table(resize=[20, 15]), [X]).sample(0)["x"]
    assert np.abs(sample[0].transpose(1, 2, 0) - shrink(pixels, 20, 15)).max() <= 1


def test_an_odd_margin_is_cut_as_torchvision_does(photo: Photo, table: Table) -> None:
    pixels = photo("a.png", 9, 11)
    sample = open_dataset(table(crop=[6, 6]), [X]).sample(0)["x"]  # margins of 3 and 5: 1.5 and 2.5 both round to 2
    np.testing.assert_array_equal(sample[0].transpose(1, 2, 0), pixels[2:8, 2:8])


def test_channels_last(photo: Photo, table: Table) -> None:
    pixels = photo("a.png")
    sample = open_dataset(table(layout="NHWC"), [InputSpec("x", F32, (1, 6, 8, 3))]).sample(0)["x"]
    np.testing.assert_array_equal(sample, pixels[None])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_input_decides_the_element_type(photo: Photo, table: Table, dtype: Any) -> None:
    pixels = photo("a.png")
    spec = InputSpec("x", np.dtype(dtype), (1, 3, 6, 8))
    sample = open_dataset(table(scale=1 / 255), [spec]).sample(0)["x"]
    assert sample.dtype == dtype
    np.testing.assert_allclose(sample[0].transpose(1, 2, 0), pixels / 255, rtol=2 * np.finfo(dtype).eps)


def test_integers_are_rounded_and_never_wrap(photo: Photo, table: Table) -> None:
    pixels = photo("a.png")
    unsigned, signed = (InputSpec("x", np.dtype(dtype), (1, 3, 6, 8)) for dtype in (np.uint8, np.int8))
    np.testing.assert_array_equal(open_dataset(table(), [unsigned]).sample(0)["x"][0].transpose(1, 2, 0), pixels)
    centred = open_dataset(table(mean=[128.0, 128.0, 128.0]), [signed]).sample(0)["x"]
    np.testing.assert_array_equal(centred[0].transpose(1, 2, 0), pixels.astype(int) - 128)
    assert "do not fit the input 'x', int8" in refusal(table(), signed)


def test_grey_palette_and_transparent_images_become_rgb(photo: Photo, table: Table, tmp_path: Path) -> None:
    pixels = photo("a.png")
    Image.fromarray(pixels).convert("L").save(tmp_path / "photos" / "b.png")
    Image.fromarray(pixels).convert("P").save(tmp_path / "photos" / "c.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "photos" / "d.png")
    first, grey, _, clear = (sample["x"] for sample in open_dataset(table(), [X]))
    np.testing.assert_array_equal(grey[:, 0], grey[:, 2])
    np.testing.assert_array_equal(first, clear)


def test_jpg_and_png_below_the_folder_sorted_by_name(photo: Photo, table: Table, tmp_path: Path) -> None:
    sizes = {"b/a.png": 3, "b.PNG": 2, "a/z.png": 1, "c.jpg": 4, "d.jpeg": 5}
    for name, height in sizes.items():
        photo(name, height, 8)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    dataset = open_dataset(table(), [X])
    assert [sample["x"].shape[2] for sample in dataset] == [1, 2, 3, 4, 5]
    assert dataset.labels is None
    assert "photos (5 images)" in dataset.description


def test_a_limit_thins_out_evenly(photo: Photo, table: Table) -> None:
    for index in range(9):
        photo(f"class{index // 3}/{index}.png", index + 1, 8)
    dataset = open_dataset(table(labels="folder"), [X], limit=3)
    assert [sample["x"].shape[2] for sample in dataset] == [1, 4, 7]
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 1, 2]


def test_a_model_with_a_batch_gets_so_many_images_at_once(photo: Photo, table: Table) -> None:
    pixels = [photo(f"{index}.png") for index in range(5)]
    path = table(labels=r"name:(\d)")
    for dataset in (
        open_dataset(path, [InputSpec("x", F32, (2, 3, 6, 8))]),
        open_dataset(path, [X], batch_size=2),
        open_dataset(path, [X], batch_size=2, limit=9),
    ):
        assert dataset.labels is not None and dataset.labels.tolist() == [[0, 1], [2, 3]]
        np.testing.assert_array_equal(dataset.sample(1)["x"].transpose(0, 2, 3, 1), np.stack(pixels[2:4]))


# What does not


def test_a_crop_larger_than_the_image_names_it(photo: Photo, table: Table) -> None:
    photo("a.png", 6, 8)
    message = refusal(table(crop=[7, 7]))
    assert "a.png is 6 x 8, smaller than the crop of 7 x 7" in message


@pytest.mark.parametrize("name", ["b.jpg", "b.png"])
def test_a_truncated_image_names_the_file(photo: Photo, table: Table, tmp_path: Path, name: str) -> None:
    photo("a.png")
    photo(name, 64, 64)
    path = tmp_path / "photos" / name
    path.write_bytes(path.read_bytes()[:600])
    dataset = open_dataset(table(), [X])
    with pytest.raises(DataError, match=f"{name} cannot be decoded"):
        dataset.sample(1)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\xff" * 60])
def test_a_file_that_is_no_image_names_the_file(photo: Photo, table: Table, tmp_path: Path, content: bytes) -> None:
    photo("b.png")
    (tmp_path / "photos" / "a.png").write_bytes(content)
    assert "a.png cannot be decoded" in refusal(table())


def test_more_than_8_bits_are_not_cut_in_silence(photo: Photo, table: Table, tmp_path: Path) -> None:
    photo("b.png")
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(tmp_path / "photos" / "a.png")
    assert "a.png has more than 8 bits" in refusal(table())


def test_a_model_of_another_size_is_told_at_once(photo: Photo, table: Table) -> None:
    photo("a.png")
    with pytest.raises(DataError, match=r"a\.png.* has 8 on axis 3, .*float32\[N, 3, 6, 7\].*crop, resize and layout"):
        open_dataset(table(), [InputSpec("x", F32, ("N", 3, 6, 7))])
    assert "has 6 on axis 1" in refusal(table(layout="NHWC"), InputSpec("x", F32, ("N", 3, 6, 8)))
    assert "rank 4" in refusal(table(), InputSpec("x", F32, (3, 6, 8)))


def test_a_batch_of_two_sizes(photo: Photo, table: Table) -> None:
    photo("a.png", 6, 8)
    photo("b.png", 6, 9)
    message = refusal(table(), batch_size=2)
    assert "b.png becomes (3, 6, 9)" in message and "resize" in message


def test_overflow_of_float16_is_refused(photo: Photo, table: Table) -> None:
    photo("a.png")
    assert "holds inf" in refusal(table(scale=1e6), InputSpec("x", np.dtype(np.float16), ("N", 3, 6, 8)))


def test_a_folder_without_images_or_with_too_few(photo: Photo, table: Table, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "holds 0 images" in refusal(table())
    photo("a.png")
    assert "holds 1 images, and the model takes batches of 2" in refusal(table(), batch_size=2)


def test_images_feed_one_input_of_numbers(photo: Photo, table: Table) -> None:
    photo("a.png")
    mask = InputSpec("mask", F32, ("N", 4))
    assert "input = 'y' is no input of the model, which takes 'x'" in refusal(table(input="y"))
    assert "input = None is no input" in refusal(table(), X, mask)
    message = refusal(table(input="x"), X, mask)
    assert "feeds only 'x', and the model takes 'x', 'mask'" in message and "MODULE:CALLABLE" in message
    assert "input 'x' takes bool" in refusal(table(), InputSpec("x", np.dtype(bool), (1, 3, 6, 8)))


def test_without_pillow_the_extra_is_named(photo: Photo, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    photo("a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)  # which is how Python notes that a module cannot be imported
    with pytest.raises(UsageError, match=r"pip install 'qcompiler\[images\]'"):
        open_dataset(table(), [X])
