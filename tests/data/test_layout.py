"""How named arrays become samples: the rule of the documentation, on arrays in memory."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.data import Dataset, InputSpec, open_dataset
from qcompiler.errors import DataError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
X = InputSpec("x", F32, ("N", 3))


def ramp(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def arrays_of(dataset: Dataset, name: str = "x") -> list[np.ndarray[Any, Any]]:
    return [sample[name] for sample in dataset]


def refusal(arrays: Any, *inputs: InputSpec, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(arrays, inputs, **options)
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


# What works


def test_rank_of_the_input_cuts_rows_of_axis_0() -> None:
    x = ramp(4, 3)
    dataset = open_dataset({"x": x}, [X])
    assert len(dataset) == 4
    for row, array in zip(x, arrays_of(dataset), strict=True):
        np.testing.assert_array_equal(array, row[None])


def test_a_dynamic_batch_takes_the_size_asked_for_and_drops_the_remainder() -> None:
    x, label = ramp(7, 3), np.arange(7)
    dataset = open_dataset({"x": x, "label": label}, [X], batch_size=3)
    np.testing.assert_array_equal(np.concatenate(arrays_of(dataset)), x[:6])
    np.testing.assert_array_equal(dataset.labels, [[0, 1, 2], [3, 4, 5]])


def test_a_fixed_batch_wins_over_the_size_asked_for() -> None:
    dataset = open_dataset({"x": ramp(8, 3)}, [InputSpec("x", F32, (4, 3))], batch_size=2)
    assert [array.shape for array in arrays_of(dataset)] == [(4, 3)] * 2


def test_one_rank_more_feeds_each_element_whole() -> None:
    x, label = ramp(5, 2, 3), np.arange(10).reshape(5, 2)
    dataset = open_dataset({"x": x, "label": label}, [X], batch_size=4)
    np.testing.assert_array_equal(np.stack(arrays_of(dataset)), x)
    np.testing.assert_array_equal(dataset.labels, label)


def test_a_scalar_is_given_once_or_one_for_each_sample() -> None:
    rate = InputSpec("sr", I64, ())
    once = open_dataset({"x": ramp(3, 3), "sr": np.int64(16000)}, [X, rate])
    assert [int(sample["sr"]) for sample in once] == [16000] * 3
    each = open_dataset({"x": ramp(3, 3), "sr": np.arange(3)}, [X, rate])
    assert [int(sample["sr"]) for sample in each] == [0, 1, 2]
    assert each.sample(0)["sr"].shape == ()


def test_inputs_may_be_cut_in_different_ways() -> None:
    state = InputSpec("state", F32, (2, None, 8))
    cut = open_dataset({"x": ramp(3, 3), "state": ramp(6, 1, 8)}, [X, state])
    whole = open_dataset({"x": ramp(3, 3), "state": ramp(3, 2, 1, 8)}, [X, state])
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(one["state"], other["state"])


def test_an_unknown_rank_is_cut_along_axis_0() -> None:
    dataset = open_dataset({"x": ramp(3, 5, 2)}, [InputSpec("x", F32, None)])
    assert [array.shape for array in arrays_of(dataset)] == [(1, 5, 2)] * 3


def test_a_model_without_inputs_has_one_empty_sample() -> None:
    assert list(open_dataset({}, [])) == [{}]


def test_an_input_named_label_is_an_input() -> None:
    dataset = open_dataset({"label": np.arange(3)}, [InputSpec("label", I64, ("N",))])
    assert dataset.labels is None
    assert [int(sample["label"][0]) for sample in dataset] == [0, 1, 2]


def test_limit_keeps_the_first_samples_and_their_labels() -> None:
    dataset = open_dataset({"x": ramp(9, 3), "label": np.arange(9)}, [X], limit=2, batch_size=2)
    assert len(dataset) == 2
    np.testing.assert_array_equal(dataset.labels, [[0, 1], [2, 3]])
    assert "2 samples" in dataset.description


def test_a_value_beyond_the_limit_is_not_looked_at() -> None:
    x = ramp(4, 3)
    x[3] = np.nan
    assert len(open_dataset({"x": x}, [X], limit=3)) == 3


def test_byte_order_and_memory_order_are_put_right() -> None:
    x = ramp(4, 3)
    for other in (x.astype(">f4"), np.asfortranarray(x)):
        for row, array in zip(x, arrays_of(open_dataset({"x": other}, [X])), strict=True):
            np.testing.assert_array_equal(array, row[None])
            assert array.dtype == F32 and array.dtype.isnative and array.flags.c_contiguous


def test_text_feeds_an_input_of_strings() -> None:
    for dtype in (np.dtype(object), np.dtype(str)):
        dataset = open_dataset({"x": np.array(["ab", "c"])}, [InputSpec("x", dtype, ("N",))])
        assert [array.tolist() for array in arrays_of(dataset)] == [["ab"], ["c"]]
        assert dataset.sample(0)["x"].dtype.kind == dtype.kind


def test_samples_are_copies() -> None:
    x = ramp(2, 3)
    dataset = open_dataset({"x": x}, [X])
    dataset.sample(0)["x"][:] = 7
    np.testing.assert_array_equal(x, ramp(2, 3))


@given(rows=st.integers(1, 40), batch=st.integers(1, 9), limit=st.none() | st.integers(1, 50))
def test_samples_laid_end_to_end_are_the_start_of_the_array(rows: int, batch: int, limit: int | None) -> None:
    x, label = ramp(rows, 3), np.arange(rows)
    if rows < batch:
        refusal({"x": x}, X, batch_size=batch)
        return
    dataset = open_dataset({"x": x, "label": label}, [X], batch_size=batch, limit=limit)
    runs = rows // batch if limit is None else min(limit, rows // batch)
    assert len(dataset) == runs
    np.testing.assert_array_equal(np.concatenate(arrays_of(dataset)), x[: runs * batch])
    assert dataset.labels is not None
    np.testing.assert_array_equal(dataset.labels.ravel(), label[: runs * batch])


# What does not


def test_a_missing_array_is_named_with_what_there_is() -> None:
    message = refusal({"imput": ramp(2, 3)}, InputSpec("input", F32, ("N", 3)))
    assert "no array for the model's input 'input'" in message
    assert "it has 'imput'" in message and "rename 'imput' to 'input'" in message


def test_an_extra_array_is_named_with_the_closest_input() -> None:
    message = refusal({"x1": ramp(2, 3), "x": ramp(2, 3)}, X)
    assert "'x1', which is no input of the model" in message and "did you mean 'x'" in message


def test_of_many_names_a_few_are_shown() -> None:
    message = refusal({f"a{i}": ramp(2, 3) for i in range(100)}, X)
    assert "and 92 more" in message and len(message) < 400


def test_a_wrong_rank_names_both_shapes() -> None:
    message = refusal({"x": ramp(3)}, X)
    assert "rank 1 (shape (3,))" in message and "float32[N, 3]" in message and "rank 2" in message
    assert "rank 0 or 1" in refusal({"x": ramp(3, 3)}, InputSpec("x", F32, ()))


@pytest.mark.parametrize(("shape", "axis"), [((4, 5), 1), ((4, 2, 5), 2)])
def test_a_wrong_fixed_axis_is_named_as_it_stands_in_the_array(shape: tuple[int, ...], axis: int) -> None:
    assert f"has 5 on axis {axis}" in refusal({"x": ramp(*shape)}, X)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8, np.bool_, "U3"])
def test_another_element_type_is_refused_with_the_cast(dtype: Any) -> None:
    message = refusal({"x": np.zeros((2, 3), dtype)}, X)
    assert str(np.dtype(dtype)) in message and "x.astype('float32')" in message


def test_numbers_do_not_feed_an_input_of_strings() -> None:
    assert "string[N]" in refusal({"x": ramp(3)}, InputSpec("x", np.dtype(object), ("N",)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_placed(bad: float) -> None:
    x = ramp(4, 3)
    x[2, 1] = bad
    for batch in (1, 2):
        assert f"holds {bad} at [2, 1]" in refusal({"x": x}, X, batch_size=batch)
    assert f"holds {bad} at [2, 0, 1]" in refusal({"x": x[:, None]}, X)
    assert "at []" in refusal({"x": np.float32(bad)}, InputSpec("x", F32, ()))


def test_a_value_that_is_not_finite_is_found_in_types_of_extensions() -> None:
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    x = ramp(2, 3).astype(bfloat16)
    x[1, 2] = np.nan
    assert "at [1, 2]" in refusal({"x": x}, InputSpec("x", bfloat16, ("N", 3)))


def test_objects_are_refused() -> None:
    assert "object" in refusal({"x": np.array([[1, None, "a"]], dtype=object)}, X)
    assert "'label' holds Python objects" in refusal({"x": ramp(1, 3), "label": np.array([None])}, X)


def test_ragged_lists_are_refused() -> None:
    assert "'x' cannot be made an array" in refusal({"x": [[1.0], [2.0, 3.0]]}, X)


def test_no_samples() -> None:
    assert "holds no samples" in refusal({"x": ramp(0, 3)}, X)
    assert "too few for a batch of 4" in refusal({"x": ramp(3, 3)}, InputSpec("x", F32, (4, 3)))
    assert "too few for a batch of 0" in refusal({"x": ramp(3, 3)}, InputSpec("x", F32, (0, 3)))


def test_inputs_that_disagree_about_the_number_of_samples() -> None:
    y = InputSpec("y", F32, ("N", 3))
    message = refusal({"x": ramp(4, 3), "y": ramp(5, 3)}, X, y)
    assert "'x' has 4 and 'y' has 5" in message
    message = refusal({"x": ramp(4, 3), "y": ramp(5, 3)}, X, y, batch_size=4)
    assert "'y' has 5 (in batches of 4)" in message


@pytest.mark.parametrize("label", [np.arange(3), np.arange(5), np.int64(4)])
def test_labels_that_disagree_with_the_samples(label: Any) -> None:
    message = refusal({"x": ramp(4, 3), "label": label}, X)
    assert "'label'" in message and "there are 4 samples" in message
