"""Random samples: enough to try a compile out, no ground for judging accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.data.dataset import Array, Dataset, InputSpec, Sample
from qcompiler.errors import DataError

__all__ = ["DEFAULT_SAMPLES", "DYNAMIC_SIZE", "RandomDataset"]

DEFAULT_SAMPLES = 32
DYNAMIC_SIZE = 64
"""The size of a dynamic axis that is not the batch: a short text, a small image."""


class RandomDataset(Dataset):
    """``count`` samples, each drawn from its own seed when it is asked for, so none is kept and any can be drawn again.

    Floating-point and complex inputs are standard normal. 8-bit integers, which are pixels or quantized values, take
    their whole range; other integers are 0 or 1, since they are mostly masks and indices into tables of unknown length;
    booleans are even chances. A dynamic first axis is ``batch_size`` (1 unless given), and so is every other axis that
    bears the name of one; all other dynamic axes are ``DYNAMIC_SIZE``.
    """

    def __init__(
        self, inputs: Sequence[InputSpec], *, count: int = DEFAULT_SAMPLES, batch_size: int | None = None, seed: int = 0
    ) -> None:
        """Raises DataError for an input of text or of unknown rank, of which nothing sensible can be made."""
        super().__init__(f"{count} random samples (seed {seed})", None)
        self._count = count
        self._seed = seed
        batches: set[int | str | None] = {
            spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)
        }
        self._inputs = [(spec, _shape(spec, batches, batch_size or 1)) for spec in inputs]

    def __len__(self) -> int:
        return self._count

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        generator = np.random.default_rng([self._seed, index])
        return {spec.name: _draw(generator, shape, spec.dtype) for spec, shape in self._inputs}


def _shape(spec: InputSpec, batches: set[int | str | None], batch_size: int) -> tuple[int, ...]:
    if spec.shape is None or spec.is_text:
        what = "has an unknown rank" if spec.shape is None else "takes text"
        raise DataError(
            f"random data cannot be made for the model's input '{spec.name}', which {what}", hint="give real samples"
        )
    return tuple(
        dim if isinstance(dim, int) else batch_size if axis == 0 or dim in batches else DYNAMIC_SIZE
        for axis, dim in enumerate(spec.shape)
    )


def _draw(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Values as the class says, in ``dtype``; the type's name tells its nature, for ml_dtypes' types too."""
    if dtype in (np.dtype(np.int8), np.dtype(np.uint8)):
        limits = np.iinfo(np.dtype(dtype.name))
        values: Array = generator.integers(limits.min, limits.max, shape, endpoint=True)
    elif dtype.name.startswith(("int", "uint", "bool")):
        values = generator.integers(0, 2, shape)
    elif dtype.name.startswith("complex"):
        values = generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
    else:
        values = generator.standard_normal(shape)
    return np.asarray(values).astype(dtype)
