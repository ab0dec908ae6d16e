"""Large tensors that a compile makes go into a temporary file, small ones stay in memory."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qcompiler.ir import ArrayTensor, SpilledTensor, spilled, tensor

LARGE = np.arange(3 << 20, dtype=np.float32).reshape(3, -1)


def test_a_large_tensor_reads_back_and_cannot_be_written() -> None:
    first, second = spilled(LARGE, "w"), spilled(-LARGE)
    assert isinstance(first, SpilledTensor) and isinstance(second, SpilledTensor)
    assert (first.name, first.shape, first.nbytes) == ("w", LARGE.shape, LARGE.nbytes)
    np.testing.assert_array_equal(first.numpy(), LARGE)
    np.testing.assert_array_equal(second.numpy(), -LARGE)
    assert first.equal(tensor(LARGE)) and first.digest() == tensor(LARGE).digest()
    with pytest.raises(ValueError):
        first.numpy()[0, 0] = 1


def test_small_tensors_and_text_stay_in_memory() -> None:
    held = tensor(LARGE)
    assert spilled(held) is held
    assert isinstance(spilled(LARGE[:, :9]), ArrayTensor)
    assert isinstance(spilled(np.array(["a"] * 9, object)), ArrayTensor)


def test_the_file_has_no_name_and_goes_with_its_last_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys.modules[SpilledTensor.__module__], "_SEGMENT", 0)  # a file each

    def open_files() -> int:
        links = (
            os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")
        )
        return sum(str(tmp_path) in link for link in links)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    made = [spilled(LARGE), spilled(LARGE), spilled(LARGE)]
    assert not list(tmp_path.iterdir())
    held = open_files()
    del made
    gc.collect()
    assert held - open_files() >= 2  # the next tensor may still go into the last one


def test_where_no_file_can_be_written_it_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[SpilledTensor.__module__], "_SEGMENT", 0)
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert isinstance(spilled(LARGE), ArrayTensor)


def test_threads_do_not_write_over_each_other() -> None:
    arrays = [np.full(3 << 20, number, np.float32) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(spilled, arrays))
    for array, held in zip(arrays, made, strict=True):
        np.testing.assert_array_equal(held.numpy(), array)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_not_write_over_its_parent() -> None:
    first = spilled(LARGE)
    child = os.fork()
    if child == 0:
        spilled(-LARGE)
        os._exit(0)
    os.waitpid(child, 0)
    second = spilled(LARGE + 1)
    np.testing.assert_array_equal(first.numpy(), LARGE)
    np.testing.assert_array_equal(second.numpy(), LARGE + 1)
