"""npz files and folders of them: the same samples as from memory, one file in memory, and damage told as such."""

import gc
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.data import Dataset, InputSpec, open_dataset
from qcompiler.errors import DataError

F32 = np.dtype(np.float32)
X = InputSpec("x", F32, ("N", 3))

Array = np.ndarray[Any, Any]


def same(one: Dataset, other: Dataset) -> bool:
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name], strict=True)
    return True


def refusal(path: Path, *inputs: InputSpec, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(open_dataset(path, inputs or [X], **options))
    assert "\n" not in str(caught.value) and caught.value.hint
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, x: Array) -> Path:
    for start in range(0, 10, 4):
        np.savez(tmp_path / f"part{start}.npz", x=x[start : start + 4], label=np.arange(10)[start : start + 4])
    (tmp_path / "README.txt").write_text("no samples")
    return tmp_path


# What works


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("limit", [None, 1, 4])
def test_a_file_gives_the_samples_that_its_arrays_would(tmp_path: Path, x: Array, save: Any, limit: int | None) -> None:
    rate = InputSpec("sr", np.dtype(np.int64), ())
    for arrays in (
        {"x": x, "sr": np.int64(8000), "label": np.arange(10)},
        {"x": np.asfortranarray(x), "sr": np.arange(10), "label": np.arange(10)},
        {"x": x.astype(">f4"), "sr": np.int64(8000)},
    ):
        path = tmp_path / "calib.npz"
        save(path, **arrays)
        dataset = open_dataset(str(path), [X, rate], limit=limit)
        expected = open_dataset(arrays, [X, rate], limit=limit)
        assert same(dataset, expected)
        np.testing.assert_array_equal(dataset.labels, expected.labels)
        assert "calib.npz" in dataset.description


def test_types_that_numpy_files_store_as_raw_bytes(tmp_path: Path, x: Array) -> None:
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "a.npz", x=x.astype(bfloat16))
    dataset = open_dataset(tmp_path / "a.npz", [InputSpec("x", bfloat16, ("N", 3))])
    np.testing.assert_array_equal(dataset.sample(9)["x"], x[9:].astype(bfloat16), strict=True)


def test_empty_axes_and_names_with_slashes(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"model/past:0": np.zeros((2, 4, 0), np.float32)}
    np.savez(tmp_path / "a.npz", **arrays)
    dataset = open_dataset(tmp_path / "a.npz", [InputSpec("model/past:0", F32, ("N", 4, None))])
    assert dataset.sample(1)["model/past:0"].shape == (1, 4, 0)


def test_a_folder_is_its_files_in_the_order_of_their_names(folder: Path, x: Array) -> None:
    dataset = open_dataset(folder, [X])
    assert same(dataset, open_dataset({"x": x}, [X]))
    np.testing.assert_array_equal(dataset.labels, np.arange(10))
    np.testing.assert_array_equal(dataset.sample(9)["x"], x[9:])
    np.testing.assert_array_equal(dataset.sample(0)["x"], x[:1])


def test_batches_are_cut_inside_each_file(folder: Path, x: Array) -> None:
    np.savez(folder / "part8.npz", x=x[7:], label=np.arange(7, 10))
    dataset = open_dataset(folder, [X], batch_size=2)
    assert dataset.labels is not None and dataset.labels.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [7, 8]]


@given(limit=st.integers(1, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_limit_reaches_over_files(folder: Path, x: Array, limit: int) -> None:
    dataset = open_dataset(folder, [X], limit=limit)
    assert same(dataset, open_dataset({"x": x[:limit]}, [X]))
    np.testing.assert_array_equal(dataset.labels, np.arange(10)[:limit])


def test_files_beyond_the_limit_are_not_opened(folder: Path) -> None:
    (folder / "part8.npz").write_bytes(b"damaged")
    assert len(open_dataset(folder, [X], limit=8)) == 8


def peak_bytes(path: Path, limit: int | None = None) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        for _ in open_dataset(path, [X], limit=limit):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_a_folder_one_file_at_a_time_is_in_memory(tmp_path: Path) -> None:
    part = 2 << 20
    big = np.zeros((4, part // 16, 3), np.float32)
    for index in range(8):
        np.savez_compressed(tmp_path / f"{index}.npz", x=big)
    assert big.nbytes < peak_bytes(tmp_path) < 2.5 * big.nbytes


def test_of_a_large_file_only_the_samples_asked_for_are_read(tmp_path: Path) -> None:
    big = np.zeros((64, 1 << 15, 3), np.float32)
    np.savez_compressed(tmp_path / "a.npz", x=big)
    assert peak_bytes(tmp_path / "a.npz", limit=2) < big.nbytes / 2


# What does not


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "calib.npz")


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 500, b"x,label\n1,2\n", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calib.npz"
    path.write_bytes(content)
    assert "not an npz file" in refusal(path)


def test_a_lone_array(tmp_path: Path, x: Array) -> None:
    np.save(tmp_path / "calib.npy", x)
    message = refusal(tmp_path / "calib.npy")
    assert "a single .npy array" in message and "numpy.savez" in message


def test_an_npz_without_arrays_or_with_foreign_members(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz")
    assert "it has nothing" in refusal(tmp_path / "empty.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    assert "'notes.txt' is not an array" in refusal(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("version", "shape", "size", "named"),
    [
        ((1, 0), (5, 3), 40, "ends after 40 of 60 bytes"),
        ((1, 0), (10**12, 3), 60, "shorter than its shape"),
        ((1, 0), (-5, 3), 60, "is negative"),
        ((3, 0), (5, 3), 60, "version (3, 0)"),
        ((9, 9), (5, 3), 60, "version (9, 9)"),
    ],
)
def test_an_array_whose_header_lies(
    tmp_path: Path, version: tuple[int, int], shape: tuple[int, ...], size: int, named: str
) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    start = b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", start + header + bytes(size))
    message = refusal(tmp_path / "a.npz")
    assert named in message and "damaged" in message


def test_a_value_that_was_altered_is_noticed(tmp_path: Path, x: Array) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=x)
    path.write_bytes(path.read_bytes().replace(x[5].tobytes(), x[6].tobytes()))
    assert "CRC" in refusal(path)


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "a.npz", x=np.array([Trap()], dtype=object))
    assert "object" in refusal(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


def test_the_checks_of_arrays_name_the_file(tmp_path: Path, x: Array) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=x, z=x)
    assert "'z', which is no input" in refusal(path)
    np.savez(path, x=x.astype(np.float64))
    assert "holds float64" in refusal(path)
    np.savez(path, x=x, label=np.arange(9))
    assert "'label' has shape (9,)" in refusal(path)
    x[4, 2] = np.inf
    np.savez(path, x=x)
    with pytest.raises(DataError, match=r"holds inf at \[4, 2\]"):
        open_dataset(path, [X])  # at once: no sample need be asked for


def test_a_folder_without_npz_files(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"")
    assert ".toml" in refusal(tmp_path)


def test_what_cannot_be_opened_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    assert "cannot be read" in refusal(tmp_path)


def test_a_bad_file_in_a_folder_is_named(folder: Path, x: Array) -> None:
    bad = folder / "part4.npz"
    np.savez(bad, x=x[:, :2], label=np.arange(10))
    assert str(bad) in refusal(folder)
    np.savez(bad, x=x)
    assert "has no 'label'" in refusal(folder) and str(bad) in refusal(folder)
    np.savez(bad, x=x, label=np.zeros((10, 2)))
    assert "(2,) per sample" in refusal(folder)
    x[3, 0] = np.nan
    np.savez(bad, x=x, label=np.arange(10))
    dataset = open_dataset(folder, [X])  # values are looked at when their file's turn comes
    assert len(list(dataset.walk(range(4)))) == 4
    with pytest.raises(DataError, match=r"part4\.npz: array 'x' holds nan at \[3, 0\]"):
        dataset.sample(4)


def test_a_file_that_changes_while_it_is_used(folder: Path, x: Array) -> None:
    dataset = open_dataset(folder, [X])
    np.savez(folder / "part0.npz", y=x)
    with pytest.raises(DataError, match=r"part0\.npz"):
        dataset.sample(0)


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_a_data_error_or_does_no_harm(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(path, x=np.ones((5, 3), np.float32), label=np.arange(5))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        for sample in open_dataset(path, [X]):
            assert sample["x"].shape == (1, 3)
    except DataError as error:
        assert str(path) in str(error)
