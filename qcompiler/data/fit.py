"""Does an array fit an input of the model? Every check that looks at one array or one sample, and its message.

Nothing is converted for the user except what loses nothing: byte order, memory order, and the raw bytes as which numpy
stores element types that it does not know (bfloat16 and its like).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from qcompiler.data.dataset import Array, InputSpec, Sample
from qcompiler.errors import DataError

__all__ = [
    "LABEL",
    "HasShape",
    "as_fed",
    "check_dims",
    "check_finite",
    "check_names",
    "check_sample",
    "check_type",
    "listing",
    "stack_labels",
    "takes_labels",
]

LABEL = "label"
"""The key that holds labels, unless the model has an input of that name."""


class HasShape(Protocol):
    """An array, or the header of one that has not been read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


def takes_labels(inputs: Sequence[InputSpec]) -> bool:
    """Whether the key ``label`` means labels here."""
    return all(spec.name != LABEL for spec in inputs)


def listing(items: Iterable[str]) -> str:
    """``'a', 'b'`` or ``nothing``; a long list is cut, since the message is one line."""
    names = [f"'{item}'" for item in items]
    shown = names[:8] + ([f"and {len(names) - 8} more"] if len(names) > 8 else [])
    return ", ".join(shown) or "nothing"


def check_names(names: Iterable[str], inputs: Sequence[InputSpec], where: str) -> None:
    """DataError unless ``names`` are the inputs' names and perhaps ``label``."""
    found = [name for name in names if name != LABEL or not takes_labels(inputs)]
    wanted = [spec.name for spec in inputs]
    extra = [name for name in found if name not in wanted]
    for name in wanted:
        if name not in found:
            close = difflib.get_close_matches(name, extra, n=1)
            raise DataError(
                f"{where} has no array for the model's input '{name}': it has {listing(found)}, "
                f"and the model takes {listing(wanted)}",
                hint=f"rename '{close[0]}' to '{name}'" if close else "name each array after the input that it feeds",
            )
    if extra:
        close = difflib.get_close_matches(extra[0], wanted, n=1)
        raise DataError(
            f"{where} has an array '{extra[0]}', which is no input of the model; the model takes {listing(wanted)}",
            hint=f"leave it out{f', or did you mean {close[0]!r}?' if close else ''}",
        )


def check_type(name: str, found: np.dtype[Any], spec: InputSpec, where: str) -> None:
    """DataError unless elements of type ``found`` can be fed to ``spec`` without changing a value."""
    if spec.is_text:
        fits = found.kind in "OU"
    else:
        fits = found.newbyteorder("=") == spec.dtype.newbyteorder("=") or _is_raw(found, spec.dtype)
    if not fits:
        raise DataError(
            f"{where}: array '{name}' holds {found}, and the model's input takes {spec}",
            hint=f"convert it first, {name}.astype('{'str' if spec.is_text else spec.dtype}')",
        )


def check_dims(
    name: str,
    found: tuple[int, ...],
    spec: InputSpec,
    where: str,
    *,
    axis_offset: int = 0,
    hint: str = "prepare the data as it was when the model was trained",
) -> None:
    """DataError unless ``found``, the shape of one sample, has the rank and the fixed axes of ``spec``.

    ``axis_offset`` is added to the axes that the message names: 1 where the array has an axis of samples before these.
    """
    if spec.shape is None:
        return
    if len(found) != len(spec.shape):
        if len(found) == len(spec.shape) - 1:
            hint = f"add the batch axis, {name}[None]"
        raise DataError(
            f"{where}: array '{name}' has rank {len(found)} (shape {found}), and the model's input takes {spec}",
            hint=hint,
        )
    for axis, (size, expected) in enumerate(zip(found, spec.shape, strict=True)):
        if isinstance(expected, int) and size != expected:
            raise DataError(
                f"{where}: array '{name}' has {size} on axis {axis + axis_offset}, and the model's input takes {spec}: "
                f"{expected} is expected there",
                hint=hint,
            )


def check_finite(name: str, array: Array, where: str, *, first: int = 0) -> None:
    """DataError where a floating-point ``array`` holds a NaN or an infinity; the message names the first.

    ``first`` is the place of ``array[0]`` in the array that the user gave, of which this one is a slice along axis 0.
    """
    if not array.dtype.name.startswith(("float", "bfloat", "complex")):
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    index = [int(i) for i in np.argwhere(~finite)[0]]
    value = array[tuple(index)]
    if index:
        index[0] += first
    raise DataError(
        f"{where}: array '{name}' holds {value} at [{', '.join(map(str, index))}]",
        hint="remove the samples that are not finite: no range can be measured on them",
    )


def as_fed(array: Array, spec: InputSpec) -> Array:
    """``array`` in exactly the input's element type, itself where it is that; ``check_type`` has passed."""
    if _is_raw(array.dtype, spec.dtype):
        return array.view(spec.dtype)
    if spec.is_text and spec.dtype.kind != "O":
        return array  # a string type of numpy has a length, and the array's own fits
    return array.astype(spec.dtype, copy=False)


def check_sample(item: object, inputs: Sequence[InputSpec], where: str) -> tuple[Sample, Array | None]:
    """One dict of arrays, as the user's own code gives it -> (the sample, its label or None), copied and checked.

    Raises DataError for whatever does not fit the model; ``where`` names the sample in the message.
    """
    if not isinstance(item, Mapping):
        raise DataError(
            f"{where} is a {type(item).__name__}, not a dict of arrays",
            hint=f"yield {{{', '.join(f'{spec.name!r}: array' for spec in inputs)}}}",
        )
    check_names((str(name) for name in item), inputs, where)
    sample: Sample = {}
    for spec in inputs:
        array = _as_array(item[spec.name], spec.name, where)
        check_dims(spec.name, array.shape, spec, where)
        check_type(spec.name, array.dtype, spec, where)
        sample[spec.name] = np.array(as_fed(array, spec), order="C")
        check_finite(spec.name, sample[spec.name], where)
    label = item.get(LABEL) if takes_labels(inputs) else None
    return sample, None if label is None else np.array(_as_array(label, LABEL, where))


def stack_labels(labels: Sequence[Array | None], where: str) -> Array | None:
    """The labels of the samples as one array [N, ...], or None if no sample has one.

    A label [1] of a batch of one counts as that scalar. DataError where only some samples have labels or shapes differ.
    """
    present = [label for label in labels if label is not None]
    if not present:
        return None
    if len(present) != len(labels):
        missing = next(index for index, label in enumerate(labels) if label is None)
        raise DataError(f"{where}: sample {missing} has no label, others have", hint="label all samples or none")
    shape = present[0].shape
    for index, label in enumerate(present):
        if label.shape != shape:
            raise DataError(
                f"{where}: the label of sample {index} has shape {label.shape}, that of sample 0 has {shape}",
                hint="give every sample a label of one shape",
            )
    stacked = np.stack(present)
    return stacked[:, 0] if shape == (1,) else stacked


def _as_array(value: object, name: str, where: str) -> Array:
    """``value`` as an array, or DataError where numpy can make none of it (ragged lists, tensors on a GPU)."""
    try:
        return np.asarray(value)
    except Exception as error:  # the object's own __array__ runs here and raises what it likes
        raise DataError(
            f"{where}: '{name}' cannot be made an array ({type(error).__name__}: {error})", hint="yield numpy arrays"
        ) from error


def _is_raw(found: np.dtype[Any], expected: np.dtype[Any]) -> bool:
    """Whether ``found`` is how numpy stores ``expected``, a type that only an extension such as ml_dtypes knows."""
    return expected.isbuiltin == 2 and found == np.dtype(f"V{expected.itemsize}")
