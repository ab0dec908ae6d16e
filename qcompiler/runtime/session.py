"""onnxruntime on the processor, with the options that make runs comparable."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from qcompiler.data import InputSpec
from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError

__all__ = ["Session"]

Array = np.ndarray[Any, np.dtype[Any]]

# What it has to say comes as an exception; its log would mix with our output.
onnxruntime.set_default_logger_severity(4)


class Session:
    """A model loaded into onnxruntime's CPU provider.

    ``threads`` 0 lets onnxruntime decide. With ``optimize`` off nothing is fused, so that the numbers are those of
    the graph as written; ``level`` is "all" or "extended", which is all but layouts of one processor.
    ``optimized_to`` writes the graph that onnxruntime made of it. ``profile_to`` is a prefix for the file of
    :meth:`node_times`. Raises LoweringError when onnxruntime refuses the model.
    """

    def __init__(
        self,
        model: bytes | str | Path,
        *,
        threads: int = 1,
        optimize: bool = True,
        level: str = "all",
        optimized_to: Path | None = None,
        profile_to: Path | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        elif level == "extended":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        if optimized_to is not None:
            options.optimized_model_filepath = str(optimized_to)
        if profile_to is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_to)
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises types of its own, without a common base
            raise LoweringError(f"onnxruntime does not load the model: {_first_line(error)}") from None
        self.threads = threads
        self.inputs = tuple(_spec(item) for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """One inference. ``feeds`` maps input names to arrays; an optional output that is absent gives None.

        Raises LoweringError with onnxruntime's reason when the run fails.
        """
        wanted = list(outputs) if outputs is not None else list(self.outputs)
        if not wanted:
            return {}  # to onnxruntime an empty list means everything
        try:
            given = self._session.run(wanted, dict(feeds))
        except Exception as error:
            raise LoweringError(f"onnxruntime fails to run the model: {_first_line(error)}") from None
        return dict(zip(wanted, given, strict=True))

    def prepared(self, feeds: Mapping[str, Array]) -> Any:
        """A function of no arguments that runs the inference and drops the result, for timing."""
        held, run = dict(feeds), self._session.run
        return lambda: run(None, held)

    def node_times(self) -> list[tuple[str, str, float]]:
        """(node name, operator type, microseconds) of every node run since loading; ends the profile."""
        path = Path(self._session.end_profiling())
        try:
            events = json.loads(path.read_text())
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
        return list(_kernels(events))


def _kernels(events: list[dict[str, Any]]) -> Iterator[tuple[str, str, float]]:
    suffix = "_kernel_time"
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(suffix):
            yield name[: -len(suffix)], event["args"].get("op_name", ""), float(event["dur"])


def _spec(item: Any) -> InputSpec:
    kind = item.type
    element = kind[kind.index("(") + 1 : -1] if kind.startswith("tensor(") else ""
    dtype = DType[{"bool": "BOOL"}.get(element, element.upper())] if element else DType.STRING
    shape = tuple(dim if isinstance(dim, int) else (dim or None) for dim in item.shape)
    return InputSpec(item.name, dtype.numpy, shape)


def _first_line(error: Exception) -> str:
    """What onnxruntime has to say, without the place in its own source where it says it."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    text = text.rpartition("Status Message: ")[2]
    return re.sub(r"^\S*/onnxruntime\S*:\d+ .*?(?=[A-Z]\w* )", "", text)
