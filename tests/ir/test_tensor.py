"""Constants behind one protocol: immutable, shared, and read only when somebody asks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.dtypes import DType, pack
from qcompiler.errors import ImportFailure
from qcompiler.ir import ArrayTensor, ExternalTensor, LazyTensor, PackedTensor, SparseTensor, Tensor, tensor

RAMP = np.arange(6, dtype=np.float32).reshape(2, 3)


def kinds(array: np.ndarray[Any, Any], dtype: DType, folder: Path) -> list[Tensor]:
    """The same constant in each of its four forms, the external one at an offset that is no multiple of a page."""
    data = pack(array, dtype)
    (folder / "w.bin").write_bytes(b"\x55" * 4099 + data + b"\xaa" * 7)
    shape = array.shape
    return [
        ArrayTensor(array, "w", dtype),
        PackedTensor(data, dtype, shape, "w"),
        ExternalTensor(folder / "w.bin", 4099, dtype, shape, "w"),
        LazyTensor(lambda: array, dtype, shape, "w"),
    ]


@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.INT4, DType.UINT2, DType.BFLOAT16, DType.BOOL, DType.FLOAT6E3M2])
def test_every_form_holds_the_same_elements(dtype: DType, tmp_path: Path) -> None:
    array = (np.arange(15).reshape(3, 5) % 2).astype(dtype.numpy)
    first, *others = kinds(array, dtype, tmp_path)
    for each in [first, *others]:
        assert (each.dtype, each.shape, each.size) == (dtype, (3, 5), 15)
        np.testing.assert_array_equal(each.numpy(), array)
        assert each.numpy().dtype == dtype.numpy
        assert bytes(each.data()) == pack(array, dtype) and each.nbytes == len(pack(array, dtype))
        assert each.digest() == first.digest() and each.equal(first) and first.equal(each)


def test_a_held_array_cannot_be_written() -> None:
    held = tensor(RAMP.copy())
    with pytest.raises(ValueError, match="read-only"):
        held.numpy()[0, 0] = 1


@pytest.mark.parametrize("how", ["itself", "view", "frozen view", "buffer"])
def test_an_array_that_someone_may_still_write_is_copied(how: str) -> None:
    mine: Any = RAMP.copy()
    given = mine
    if how in ("view", "frozen view"):
        given = mine[:]
        given.flags.writeable = how == "view"
    elif how == "buffer":
        mine = bytearray(RAMP.tobytes())
        given = np.frombuffer(mine, np.float32)
    held = tensor(given)
    if how == "buffer":
        mine[:] = bytes(len(mine))
    else:
        mine[:] = 0
    assert held.numpy().reshape(2, 3).tolist() == RAMP.tolist()


def test_an_array_that_nobody_can_write_is_shared() -> None:
    frozen = RAMP.copy()
    frozen.flags.writeable = False
    for array in (np.frombuffer(RAMP.tobytes(), np.float32), frozen, frozen[1:]):
        assert np.shares_memory(tensor(array).numpy(), array)


def test_equality_is_of_bytes() -> None:
    nan, zero, minus = (tensor([x], DType.FLOAT) for x in (np.nan, 0.0, -0.0))
    assert nan.equal(tensor([np.nan], DType.FLOAT)) and not zero.equal(minus)
    assert not tensor([1], DType.INT8).equal(tensor([1], DType.UINT8))
    assert not tensor([[1]], DType.INT8).equal(tensor([1], DType.INT8))


def test_digests_tell_type_shape_and_elements_apart() -> None:
    made = [tensor(RAMP), tensor(RAMP.T), tensor(RAMP + 1), tensor(RAMP.view(np.int32)), tensor(["ab", "c"]),
            tensor(["a", "bc"]), tensor(["ab", "c", ""])]  # fmt: skip
    assert len({each.digest() for each in made}) == len(made)
    assert tensor(RAMP).digest() == tensor(RAMP.copy()).digest()


def test_strings_are_text_or_bytes() -> None:
    text = tensor(np.array(["ä", "b"], object))
    assert text.dtype is DType.STRING and text.nbytes == 3
    assert text.equal(tensor(np.array(["ä".encode(), b"b"], object)))


@given(st.sampled_from([DType.INT8, DType.INT32, DType.DOUBLE]), st.lists(st.integers(-100, 100), max_size=5))
def test_tensor_converts_what_numpy_can_read(dtype: DType, items: list[int]) -> None:
    made = tensor(items, dtype, "k")
    assert made.numpy().tolist() == items and made.dtype is dtype and made.name == "k"
    assert tensor(made) is made


def test_a_lazy_tensor_is_held_to_its_promise() -> None:
    assert LazyTensor(lambda: RAMP, DType.FLOAT, (2, 3)).numpy() is RAMP
    for make in (lambda: RAMP.T, lambda: RAMP.astype(np.float64)):
        with pytest.raises(ValueError, match="was computed as"):
            LazyTensor(make, DType.FLOAT, (2, 3)).numpy()


def test_an_empty_external_tensor_maps_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.bin").touch()
    assert ExternalTensor(tmp_path / "w.bin", 0, DType.FLOAT, (0, 3)).numpy().shape == (0, 3)


@pytest.mark.parametrize("how", ["rewritten", "replaced", "removed"])
def test_an_external_file_that_is_no_longer_the_same_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(RAMP.tobytes())
    held = ExternalTensor(path, 0, DType.FLOAT, (2, 3), "w")
    np.testing.assert_array_equal(held.numpy(), RAMP)
    if how == "rewritten":
        path.write_bytes(bytes(100))
    elif how == "replaced":
        (tmp_path / "new").write_bytes(RAMP.tobytes())
        (tmp_path / "new").replace(path)
    else:
        path.unlink()
    with pytest.raises(ImportFailure, match=f"{path} (has changed|is gone) since the model was loaded"):
        held.numpy()


def test_a_sparse_tensor_has_the_type_of_its_values() -> None:
    made = SparseTensor(tensor([1.0], DType.FLOAT), tensor([4], DType.INT64), (3, 3), "s")
    assert made.dtype is DType.FLOAT and made.shape == (3, 3)
