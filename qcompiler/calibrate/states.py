"""Models that carry a state from run to run: samples with the states that the model itself gave before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.data import Dataset, InputSpec, Sample
from qcompiler.errors import DataError, LoweringError
from qcompiler.runtime import Session

__all__ = ["with_states"]


def with_states(dataset: Dataset, session: Session, feedback: Mapping[str, str]) -> Dataset:
    """``dataset``, a sequence in order without the inputs in ``feedback``, with what ``session`` fed back for each.

    ``feedback`` maps inputs to the outputs that the next run gets there. The first run gets zeros, with 1 for sizes
    that are not fixed. Runs the model once over all samples and keeps the states. Raises DataError for names or shapes
    that do not fit, and when the model does not run.
    """
    specs = {spec.name: spec for spec in session.inputs}
    for name, given in feedback.items():
        if name not in specs:
            raise DataError(f"the model has no input '{name}' to feed back to", hint=f"it has {', '.join(specs)}")
        if given not in session.outputs:
            raise DataError(f"the model has no output '{given}'", hint=f"it has {', '.join(session.outputs)}")
    state = {name: _zeros(specs[name]) for name in feedback}
    states: list[Sample] = []
    for index, sample in enumerate(dataset):
        states.append(state)
        try:
            outputs = session.run({**sample, **state})
        except LoweringError as error:
            raise DataError(f"the model does not run on sample {index}: {error.what}") from None
        state = {name: outputs[given] for name, given in feedback.items()}
        for name, array in state.items():
            if array.dtype != specs[name].dtype or array.ndim != len(specs[name].shape or ()):
                raise DataError(
                    f"output '{feedback[name]}' {array.dtype}{list(array.shape)} of sample {index} "
                    f"does not fit input '{name}' {specs[name]}"
                )
    return _Fed(dataset, states)


def _zeros(spec: InputSpec) -> np.ndarray[Any, Any]:
    if spec.shape is None or spec.is_text:
        raise DataError(f"no first state can be made for input '{spec.name}' {spec}")
    return np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)


class _Fed(Dataset):
    """Samples with their states."""

    def __init__(self, whole: Dataset, states: Sequence[Sample]) -> None:
        super().__init__(f"{whole.description}, states fed back", whole.labels)
        self._whole, self._states = whole, states

    def __len__(self) -> int:
        return len(self._whole)

    def sample(self, index: int) -> Sample:
        self._check_index(index)
        return {**self._whole.sample(index), **{name: array.copy() for name, array in self._states[index].items()}}
