"""Samples from the user's code and from dicts in memory: called again for each walk, checked, and never kept."""

import gc
import pickle
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.data import Dataset, InputSpec, open_dataset
from qcompiler.errors import DataError, UsageError

X = InputSpec("x", np.dtype(np.float32), ("N", 3))

Record = dict[str, Any]


def record(value: float, **more: Any) -> Record:
    return {"x": np.full((1, 3), value, np.float32), **more}


def five() -> Iterator[Record]:
    for index in range(5):
        yield record(index, label=index * 10)


def values(dataset: Dataset) -> list[float]:
    return [float(sample["x"][0, 0]) for sample in dataset]


def refusal(spec: Any, *, kind: type[DataError] | type[UsageError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        list(open_dataset(spec, [X], **options))
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


class Loader:
    """Can be iterated over again and again, as a data loader can."""

    def __iter__(self) -> Iterator[Record]:
        return five()


SOURCES: list[Callable[[], Any]] = [lambda: five, lambda: list(five()), lambda: five(), Loader, lambda: tuple(five())]


# What works


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("limit", [None, 3, 9])
def test_every_form_gives_the_same_samples_again_and_again(source: Callable[[], Any], limit: int | None) -> None:
    dataset = open_dataset(source(), [X], limit=limit)
    count = 5 if limit is None else min(limit, 5)
    assert len(dataset) == count
    assert values(dataset) == values(dataset) == list(range(count))
    assert dataset.labels is not None and dataset.labels.tolist() == [10 * index for index in range(count)]
    assert f"{count} samples" in dataset.description


@pytest.mark.parametrize("source", SOURCES)
@given(indices=st.lists(st.integers(0, 4), max_size=8))
def test_samples_can_be_asked_for_in_any_order(source: Callable[[], Any], indices: list[int]) -> None:
    dataset = open_dataset(source(), [X])
    assert [float(dataset.sample(index)["x"][0, 0]) for index in indices] == indices
    assert values(dataset.subset(indices)) == indices


@pytest.mark.parametrize("source", SOURCES)
def test_samples_are_copies(source: Callable[[], Any]) -> None:
    dataset = open_dataset(source(), [X])
    for _ in range(2):
        sample = dataset.sample(2)
        assert sample["x"][0, 0] == 2
        sample["x"][:] = 99


def test_a_buffer_that_is_yielded_again_and_again_is_copied() -> None:
    def reuse() -> Iterator[Record]:
        buffer = np.zeros((1, 3), np.float32)
        for index in range(4):
            buffer[:] = index
            yield {"x": buffer}

    assert values(open_dataset(reuse(), [X])) == [0, 1, 2, 3]
    assert [sample["x"][0, 0] for sample in list(open_dataset(reuse, [X]))] == [0, 1, 2, 3]


def test_an_endless_generator_needs_a_limit() -> None:
    def endless() -> Iterator[Record]:
        while True:
            yield record(1)

    assert len(open_dataset(endless, [X], limit=7)) == 7


def test_walking_forward_calls_once_and_keeps_nothing() -> None:
    calls = 0

    def many() -> Iterator[Record]:
        nonlocal calls
        calls += 1
        for index in range(200):
            yield {"x": np.full((10_000, 3), index, np.float32)}

    gc.collect()
    tracemalloc.start()
    dataset = open_dataset(many, [X])
    for index in range(200):
        dataset.sample(index)
    for one, other in zip(dataset.subset(range(0, 200, 2)), dataset.subset(range(1, 200, 2)), strict=True):
        assert one["x"][0, 0] + 1 == other["x"][0, 0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert calls == 4  # counting, asking for each sample, and the two walks side by side
    assert peak < 20 * 120_000  # of 200


def test_threads_may_share_a_dataset() -> None:
    dataset = open_dataset(five, [X])
    indices = [3, 1, 4, 1, 0, 2] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda index: float(dataset.sample(index)["x"][0, 0]), indices)) == indices


def test_a_dataset_can_be_sent_to_another_process() -> None:
    dataset = open_dataset(Loader(), [X])
    dataset.sample(3)
    assert values(pickle.loads(pickle.dumps(dataset.subset([1, 4])))) == [1, 4]


def test_values_become_arrays_and_scalars_do_too() -> None:
    rate = InputSpec("sr", np.dtype(np.int64), ())
    (sample,) = open_dataset([{**record(1), "sr": 16000}], [X, rate])
    assert sample["sr"].shape == () and sample["sr"].dtype == np.int64


@pytest.mark.parametrize(("label", "shape"), [(3, (2,)), ([3], (2,)), ([3, 4], (2, 2)), (np.ones((1, 2)), (2, 1, 2))])
def test_labels_are_stacked(label: Any, shape: tuple[int, ...]) -> None:
    dataset = open_dataset([record(0, label=label)] * 2, [X])
    assert dataset.labels is not None and dataset.labels.shape == shape


# MODULE:CALLABLE


@pytest.fixture
def feeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module in the current directory, forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "feeds_for_test.py"
    path.write_text(
        "import numpy as np\n"
        "NUMBER = 3\n"
        "def batches():\n    yield {'x': np.ones((1, 3), np.float32)}\n"
        "class Source:\n    @staticmethod\n    def batches():\n        return batches()\n"
    )
    yield path
    sys.modules.pop(path.stem, None)


def test_a_module_in_the_current_directory_is_found(feeds: Path) -> None:
    before = list(sys.path)
    assert values(open_dataset("feeds_for_test:batches", [X])) == [1]
    assert values(open_dataset("feeds_for_test:Source.batches", [X])) == [1]
    assert open_dataset("feeds_for_test:batches", [X]).description == "feeds_for_test:batches (1 samples)"
    assert sys.path == before


def test_a_module_or_callable_that_is_not_there_is_wrong_usage(feeds: Path) -> None:
    assert "no module 'feedz'" in refusal("feedz:batches", kind=UsageError)
    message = refusal("feeds_for_test:batchez", kind=UsageError)
    assert "has no 'batchez'" in message and "'batches'" in message
    assert "cannot be called" in refusal("feeds_for_test:NUMBER", kind=UsageError)


@pytest.mark.parametrize(
    ("source", "named"),
    [("1 / 0", "ZeroDivisionError"), ("import no_such_thing", "ModuleNotFoundError"), ("def (", "SyntaxError")],
)
def test_a_module_that_fails_is_named_with_its_exception(feeds: Path, source: str, named: str) -> None:
    feeds.write_text(source)
    message = refusal("feeds_for_test:batches")
    assert named in message and "feeds_for_test" in message


# What does not work


def test_a_callable_that_raises_is_named_with_its_exception() -> None:
    def fails() -> Iterator[Record]:
        yield record(1)
        raise KeyError("pixels")

    def refuses() -> Iterator[Record]:
        raise RuntimeError("no\ndisk")

    assert "fails raised KeyError: 'pixels'" in refusal(fails)
    assert "refuses raised RuntimeError: no disk" in refusal(refuses)
    assert "raised TypeError" in refusal(lambda needed: five())
    assert "the iterator of samples raised KeyError" in refusal(fails())


def test_what_is_no_stream_of_dicts() -> None:
    assert "raised TypeError" in refusal(lambda: 3)
    assert "sample 0 of the list of dicts is a ndarray, not a dict" in refusal([np.ones((1, 3), np.float32)])
    assert "'x' cannot be made an array" in refusal([{"x": [[1.0], [2.0, 3.0]]}])


def test_no_samples() -> None:
    assert "holds no samples" in refusal([])
    assert "yielded no samples" in refusal(lambda: iter(()))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"y": np.ones((1, 3), np.float32)}, "no array for the model's input 'x'"),
        (record(1, y=1), "'y', which is no input"),
        (record(np.nan), "holds nan at [0, 0]"),
        ({"x": np.ones((1, 3))}, "holds float64"),
        ({"x": np.ones((1, 4), np.float32)}, "has 4 on axis 1"),
        ({"x": np.ones(3, np.float32)}, "add the batch axis, x[None]"),
        ({"x": np.ones((1, 1, 3), np.float32)}, "rank 3"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(bad: Record, named: str) -> None:
    def source() -> Iterator[Record]:
        yield record(1)
        yield bad

    for spec in (source, list(source())):
        message = refusal(spec)
        assert "sample 1 of" in message and named in message


def test_labels_for_some_samples_only_or_of_two_shapes() -> None:
    assert "sample 1 has no label" in refusal([record(0, label=1), record(0)])
    assert "label of sample 1 has shape (2,)" in refusal([record(0, label=1), record(0, label=[1, 2])])


def test_a_callable_that_cannot_be_called_again() -> None:
    once = five()
    assert "yielded 5 samples at first, 0 when called again" in refusal(lambda: once)


def test_a_failure_is_told_again_when_asked_again() -> None:
    healthy = True

    def moody() -> Iterator[Record]:
        yield record(0)
        if not healthy:
            raise OSError("gone")
        yield record(1)

    dataset = open_dataset(moody, [X])
    healthy = False
    for _ in range(2):
        with pytest.raises(DataError, match="moody raised OSError: gone"):
            dataset.sample(1)
