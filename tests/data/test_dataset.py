"""What holds for every dataset: indices, subsets and the split."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.data import Dataset, InputSpec, open_dataset, split

X = InputSpec("x", np.dtype(np.float32), ("N",))


def numbers(count: int, *, labels: bool = True) -> Dataset:
    arrays: dict[str, Any] = {"x": np.arange(count, dtype=np.float32)}
    return open_dataset(arrays | ({"label": np.arange(count)} if labels else {}), [X])


def values(dataset: Dataset) -> list[int]:
    return [int(sample["x"][0]) for sample in dataset]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    dataset = numbers(3)
    for half in (dataset, dataset.subset([0, 1, 2])):
        with pytest.raises(IndexError, match=f"sample {index} of 3"):
            half.sample(index)
        with pytest.raises(IndexError):
            half.subset([index])
        with pytest.raises(IndexError):
            list(half.walk([index]))


@given(first=st.lists(st.integers(0, 9), min_size=1), data=st.data())
def test_a_subset_of_a_subset(first: list[int], data: st.DataObject) -> None:
    second = data.draw(st.lists(st.integers(0, len(first) - 1)))
    dataset = numbers(10).subset(first).subset(second)
    expected = [first[index] for index in second]
    assert len(dataset) == len(expected)
    assert values(dataset) == expected
    assert dataset.labels is not None and dataset.labels.tolist() == expected
    assert [int(dataset.sample(index)["x"][0]) for index in range(len(dataset))] == expected


def test_a_subset_says_what_it_is_part_of() -> None:
    assert numbers(4).subset([1]).description == "1 of the dict of arrays (4 samples)"


def test_split_takes_turns() -> None:
    calibration, scoring = split(numbers(5))
    assert (values(calibration), values(scoring)) == ([0, 2, 4], [1, 3])
    assert scoring.labels is not None and scoring.labels.tolist() == [1, 3]


def test_split_without_labels() -> None:
    assert [half.labels for half in split(numbers(4, labels=False))] == [None, None]


def test_a_lone_sample_serves_both_halves() -> None:
    assert [values(half) for half in split(numbers(1))] == [[0], [0]]


def test_datasets_can_be_sent_to_another_process() -> None:
    half = split(numbers(5))[1]
    assert values(pickle.loads(pickle.dumps(half))) == values(half)


def test_an_input_prints_as_the_model_would_write_it() -> None:
    assert str(InputSpec("x", np.dtype(np.float16), ("N", None, 3))) == "float16[N, ?, 3]"
    assert str(InputSpec("x", np.dtype(np.int64), ())) == "int64[]"
    assert str(InputSpec("x", np.dtype(object), None)) == "string[...]"
