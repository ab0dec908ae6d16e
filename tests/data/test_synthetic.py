"""Random data: of the right shapes and types, the same for the same seed, different for each sample."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qcompiler.data import Dataset, InputSpec, open_dataset
from qcompiler.errors import DataError


def one_input(dtype: Any, *shape: int | str | None, **options: Any) -> Dataset:
    return open_dataset("random", [InputSpec("x", np.dtype(dtype), shape)], **options)


def everything(dataset: Dataset) -> np.ndarray[Any, Any]:
    return np.stack([sample["x"] for sample in dataset])


def test_32_samples_unless_said_otherwise() -> None:
    assert len(one_input(np.float32, 1)) == 32
    assert len(one_input(np.float32, 1, limit=5)) == 5
    assert one_input(np.float32, 1, seed=3).description == "32 random samples (seed 3)"


def test_the_seed_decides_and_the_order_does_not() -> None:
    dataset = one_input(np.float32, 2, 3)
    backwards = np.stack([dataset.sample(index)["x"] for index in reversed(range(32))])[::-1]
    np.testing.assert_array_equal(everything(one_input(np.float32, 2, 3)), backwards)
    assert len(np.unique(backwards)) == backwards.size
    assert not np.array_equal(everything(one_input(np.float32, 2, 3, seed=1)), backwards)


def test_dynamic_axes_get_a_size() -> None:
    assert one_input(np.float32, "N", 3, "height", None).sample(0)["x"].shape == (1, 3, 64, 64)
    assert one_input(np.float32, None, 8, batch_size=4).sample(0)["x"].shape == (4, 8)
    assert one_input(np.float32).sample(0)["x"].shape == ()


def test_an_axis_named_like_a_batch_is_a_batch() -> None:
    inputs = [InputSpec("x", np.dtype(np.float32), ("B", "T")), InputSpec("h", np.dtype(np.float32), (2, "B", 128))]
    sample = open_dataset("random", inputs, batch_size=3).sample(0)
    assert (sample["x"].shape, sample["h"].shape) == ((3, 64), (2, 3, 128))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, ml_dtypes.bfloat16])
def test_floats_are_standard_normal(dtype: Any) -> None:
    drawn = everything(one_input(dtype, 100))
    assert drawn.dtype == np.dtype(dtype)
    real = drawn.real.astype(np.float64)
    assert abs(real.mean()) < 0.1 and abs(real.std() - 1) < 0.1


@pytest.mark.parametrize(
    ("dtype", "least", "greatest"),
    [
        (np.uint8, 0, 255),
        (np.int8, -128, 127),
        (np.int32, 0, 1),
        (np.int64, 0, 1),
        (np.uint16, 0, 1),
        (np.bool_, 0, 1),
        (ml_dtypes.int4, 0, 1),
    ],
)
def test_integers_cover_their_range(dtype: Any, least: int, greatest: int) -> None:
    drawn = everything(one_input(dtype, 200))
    assert drawn.dtype == np.dtype(dtype)
    assert (int(drawn.astype(int).min()), int(drawn.astype(int).max())) == (least, greatest)


@pytest.mark.parametrize(
    ("spec", "why"),
    [(InputSpec("x", np.dtype(object), (1,)), "takes text"), (InputSpec("x", np.dtype(int), None), "unknown rank")],
)
def test_what_cannot_be_made_up(spec: InputSpec, why: str) -> None:
    with pytest.raises(DataError, match=f"'x', which .*{why}"):
        open_dataset("random", [spec])
