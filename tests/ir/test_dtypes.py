"""Every ONNX element type against onnx itself: numbers, numpy types, widths and the packing of narrow elements."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from qcompiler.dtypes import DType, pack, packed_size, unpack

KNOWN = {name: number for name, number in onnx.TensorProto.DataType.items() if number}
FIXED = [dtype for dtype in DType if dtype is not DType.STRING and dtype.name in KNOWN]
NARROW = [dtype for dtype in FIXED if dtype.bits < 8]


def of_codes(dtype: DType, codes: list[int], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """onnx's reading of elements given by the integers of their bits."""
    bits = "".join(format(code, f"0{dtype.bits}b")[::-1] for code in codes)
    raw = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    return numpy_helper.to_array(onnx.TensorProto(data_type=int(dtype), dims=shape, raw_data=raw))


@st.composite
def tensors(draw: st.DrawFn) -> tuple[DType, np.ndarray[Any, Any]]:
    dtype = draw(st.sampled_from(FIXED))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape, dtype=int))
    top = 1 if dtype is DType.BOOL else 2**dtype.bits - 1
    codes = draw(st.lists(st.integers(0, top), min_size=count, max_size=count))
    return dtype, of_codes(dtype, codes, shape)


def test_every_type_of_onnx_is_known_by_its_number() -> None:
    assert {name: int(DType[name]) for name in KNOWN} == KNOWN


@pytest.mark.parametrize("dtype", FIXED, ids=lambda d: d.name)
def test_numpy_type_is_the_one_onnx_uses(dtype: DType) -> None:
    assert dtype.numpy == onnx.helper.tensor_dtype_to_np_dtype(int(dtype))
    assert DType.of(dtype.numpy) is dtype


@pytest.mark.parametrize("dtype", FIXED, ids=lambda d: d.name)
def test_bits_are_those_of_a_file(dtype: DType) -> None:
    assert dtype.bits == len(numpy_helper.from_array(np.zeros(8, dtype.numpy)).raw_data)


@pytest.mark.parametrize("dtype", FIXED, ids=lambda d: d.name)
def test_kinds_are_those_of_the_number_line(dtype: DType) -> None:
    try:
        info: Any = ml_dtypes.finfo(dtype.numpy) if dtype.numpy.kind in "fV" else ml_dtypes.iinfo(dtype.numpy)
    except ValueError:
        try:
            info = ml_dtypes.iinfo(dtype.numpy)
        except ValueError:
            info = None  # BOOL and the complex types
    integer = isinstance(info, ml_dtypes.iinfo | np.iinfo)
    assert (dtype.is_float, dtype.is_integer) == (info is not None and not integer, integer)
    assert dtype.is_signed == (info is not None and bool(info.min < 0))


@pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.name)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9])
def test_every_code_of_a_narrow_type_packs_as_onnx_does(dtype: DType, count: int) -> None:
    for start in range(2**dtype.bits):
        array = of_codes(dtype, [(start + i) % 2**dtype.bits for i in range(count)], (count,))
        raw = numpy_helper.from_array(array).raw_data
        assert pack(array, dtype) == raw
        assert len(raw) == packed_size(dtype, count)
        assert unpack(raw, dtype, (count,)).tobytes() == array.tobytes()


@given(tensors())
def test_packing_and_its_inverse_agree_with_onnx(given: tuple[DType, np.ndarray[Any, Any]]) -> None:
    dtype, array = given
    raw = numpy_helper.from_array(array).raw_data
    assert pack(array, dtype) == raw
    back = unpack(raw, dtype, array.shape)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_transposed_view_packs_in_row_major_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert pack(array, DType.FLOAT) == numpy_helper.from_array(array).raw_data


def test_big_endian_arrays_pack_little_endian() -> None:
    array = np.array([1, 2, 3], ">i4")
    assert DType.of(array.dtype) is DType.INT32
    assert pack(array, DType.INT32) == array.astype("<i4").tobytes()


def test_unpacking_copies_nothing_that_is_a_byte_or_wider() -> None:
    data = bytes(range(8))
    array = unpack(data, DType.INT16, (2, 2))
    assert not array.flags.writeable and np.shares_memory(array, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.INT4, DType.FLOAT6E2M3], ids=lambda d: d.name)
def test_a_short_buffer_is_refused(dtype: DType) -> None:
    need = packed_size(dtype, 5)
    unpack(bytes(need), dtype, (5,))
    with pytest.raises(ValueError, match=f"{need - 1} bytes are too few for 5 elements of {dtype.name}"):
        unpack(bytes(need - 1), dtype, (5,))


@pytest.mark.parametrize(
    ("given", "dtype"),
    [("float32", DType.FLOAT), (np.int64, DType.INT64), (bool, DType.BOOL), ("<U3", DType.STRING), ("S2", DType.STRING),
     (object, DType.STRING), (ml_dtypes.bfloat16, DType.BFLOAT16)],
)  # fmt: skip
def test_of_takes_what_numpy_takes(given: Any, dtype: DType) -> None:
    assert DType.of(given) is dtype


@pytest.mark.parametrize("given", ["datetime64[s]", "longdouble", "V3"])
def test_of_refuses_what_onnx_lacks(given: str) -> None:
    with pytest.raises(TypeError, match="ONNX has no element type"):
        DType.of(given)
