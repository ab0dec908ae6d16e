"""Running a program on a card: onnxruntime's sessions and our launches on one stream, tensors never leaving the card.

What a card cannot launch (no cubin for it, shapes that were not compiled, a kernel's objection) is run by onnxruntime
from the node's function body; each such node is told once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from qcompiler.errors import LoweringError, QCompilerError
from qcompiler.kernels import KERNELS, Card, Given, Held, Launch, Made, Operand, Size, card_for
from qcompiler.kernels.building import Built, Specialization, build, specialization
from qcompiler.kernels.storing import read_kernels
from qcompiler.kernels.tuning import asked, fastest, keep_tiles, known_tiles
from qcompiler.runtime.driver import Driver
from qcompiler.runtime.program import KernelStep, Program, SessionStep

__all__ = ["CudaExecutor"]

Array = np.ndarray[Any, np.dtype[Any]]


_PLANS = 8  # sets of input shapes whose buffers are kept
_TIMED = 20  # launches that are timed together
_BURST = 2  # launches in a row that are worth a graph


@dataclass(frozen=True, eq=False)
class _Ready:
    """A launch with everything that it takes: ``pointers`` of its operands, ``arguments`` in the function's order,
    ``results``, and ``kept``, what the arguments point at beside."""

    function: Any
    grid: tuple[int, int, int]
    built: Built
    pointers: tuple[int, ...]
    arguments: tuple[Any, ...]
    results: tuple[Any, ...]
    kept: tuple[Any, ...]


@dataclass(eq=False)
class _Plan:
    """Everything that is settled for one set of input shapes, so that a second run has nothing to allocate.

    ``ready`` are launches by step, None for a step that onnxruntime has to run; ``given`` the results of sessions;
    ``graphs`` launches that follow each other, as one.
    """

    fed: dict[str, Any] = field(default_factory=dict)
    ready: dict[int, _Ready | None] = field(default_factory=dict)
    given: dict[int, list[Any]] = field(default_factory=dict)
    graphs: dict[tuple[int, ...], Any] = field(default_factory=dict)


class CudaExecutor:
    """A program on the first card. ``folder`` holds cubins, as a compile leaves them; what is not there is compiled
    now where Triton is installed. ``tune`` measures tiles of products that were not measured before on this card.

    Raises LoweringError without a card, or where onnxruntime refuses a part.
    """

    threads = 0  # time is the wall's: the work is not on the processor

    def __init__(
        self,
        program: Program,
        *,
        folder: Path | None = None,
        tune: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.program, self.inputs, self.outputs = program, program.inputs, program.outputs
        self._tell = tell
        self._driver = Driver()
        self._tune = tune
        self._card: Card | None = card_for(self._driver.capability)
        self._cubins: dict[str, Built] = {}
        if self._card is None:
            tell(f"no kernel is made for sm_{self._driver.capability}: onnxruntime runs everything")
        else:
            self._card = replace(self._card, tiles=known_tiles(self._driver.name))
            own = range(self._driver.capability, self._driver.capability // 10 * 10 - 1, -1)
            self._cubins = {} if folder is None else read_kernels(folder, list(own))
        self._functions: dict[str, Any] = {}
        self._fallbacks: dict[int, Any] = {}
        self._told: set[str] = set()
        self._sessions = {
            index: self._session(step.model)
            for index, step in enumerate(program.steps)
            if isinstance(step, SessionStep)
        }
        self._constants = {name: _up(array) for name, array in program.constants.items()}
        self._plans: dict[tuple[Any, ...], _Plan] = {}

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """One inference. ``feeds`` maps input names to arrays. Raises LoweringError when a part fails."""
        values = self._walk(self._planned(feeds))
        self._driver.synchronize()
        return {name: values[name].numpy() for name in (outputs if outputs is not None else self.outputs)}

    def prepared(self, feeds: Mapping[str, Array]) -> Any:
        """A function of no arguments that runs the inference on what lies on the card already, for timing."""
        plan = self._planned(feeds)

        def call() -> None:
            self._walk(plan)
            self._driver.synchronize()

        return call

    def _planned(self, feeds: Mapping[str, Array]) -> _Plan:
        """The plan for these shapes, with the elements of ``feeds`` in its buffers."""
        missing = [spec.name for spec in self.inputs if spec.name not in feeds]
        if missing:
            raise LoweringError(f"input '{missing[0]}' is not fed")
        arrays = {spec.name: np.ascontiguousarray(feeds[spec.name]) for spec in self.inputs}
        key = tuple((array.shape, array.dtype.str) for array in arrays.values())
        if key not in self._plans:
            while len(self._plans) >= _PLANS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = _Plan({name: _up(array) for name, array in arrays.items()})
        else:
            for name, array in arrays.items():
                self._plans[key].fed[name].update_inplace(array)
        return self._plans[key]

    def _walk(self, plan: _Plan) -> dict[str, Any]:
        values = {**self._constants, **plan.fed}
        burst: list[_Ready] = []
        for index, step in enumerate(self.program.steps):
            if isinstance(step, KernelStep):
                ready = self._ready(index, step, values, plan)
                if ready is not None:
                    values.update(zip(step.outputs, ready.results, strict=True))
                    burst.append(ready)
                    continue
            self._start(burst, plan)
            burst = []
            values.update(self._run(index, step, values, plan))
        self._start(burst, plan)
        return values

    # Sessions

    def _session(self, model: bytes) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        card = {"device_id": 0, "user_compute_stream": str(int(self._driver.stream))}
        providers = [("CUDAExecutionProvider", card), "CPUExecutionProvider"]
        try:
            return onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # onnxruntime raises types of its own, without a common base
            raise LoweringError(f"onnxruntime does not load a part of the model: {error}") from None

    def _run(
        self, index: int, step: SessionStep | KernelStep, values: Mapping[str, Any], plan: _Plan
    ) -> dict[str, Any]:
        """A part of the model, or the function body of a kernel, by onnxruntime; its results stay where they were."""
        if isinstance(step, KernelStep) and index not in self._fallbacks:
            self._fallbacks[index] = self._session(step.body())
        session = self._sessions[index] if isinstance(step, SessionStep) else self._fallbacks[index]
        binding = session.io_binding()
        for name in dict.fromkeys(step.inputs):
            if name:
                binding.bind_ortvalue_input(name, values[name])
        known = plan.given.get(index)
        for place, name in enumerate(step.outputs):
            if known is None:
                binding.bind_output(name, "cuda", 0)
            else:
                binding.bind_ortvalue_output(name, known[place])
        try:
            session.run_with_iobinding(binding)
        except Exception as error:
            if plan.given.pop(index, None) is not None:  # its shapes follow from the elements, and have changed
                return self._run(index, step, values, plan)
            raise LoweringError(f"onnxruntime fails to run a part of the model: {error}") from None
        plan.given[index] = known or list(binding.get_outputs())
        return dict(zip(step.outputs, plan.given[index], strict=True))

    # Kernels

    def _ready(self, index: int, step: KernelStep, values: Mapping[str, Any], plan: _Plan) -> _Ready | None:
        """The launch of a step; None where onnxruntime has to run it, which is told once for each operator."""
        known = plan.ready.get(index)
        if index in plan.ready and known is None:
            return None
        pointers = tuple(values[name].data_ptr() if name else 0 for name in step.inputs)
        if known is None or known.pointers != pointers:
            try:
                known = self._prepared(step, values, pointers)
            except QCompilerError as error:
                known = None
                if step.op not in self._told:
                    self._told.add(step.op)
                    self._tell(f"{step.node} runs as its function body: {error.what}")
            plan.ready[index] = known
        return known

    def _prepared(self, step: KernelStep, values: Mapping[str, Any], pointers: tuple[int, ...]) -> _Ready:
        kernel = KERNELS[step.op]
        if self._card is None:
            raise LoweringError(f"no kernel is made for sm_{self._driver.capability}")
        operands = kernel.complete([self._operand(name, values) if name else None for name in step.inputs])
        reason = kernel.objection(operands, step.attributes)
        if reason:
            raise LoweringError(reason)
        results = kernel.results(operands, step.attributes)
        try:
            made = tuple(
                onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(kind).type, "cuda", 0)
                for kind, shape in results
            )
        except Exception as error:  # of onnxruntime's own types: there is no memory left
            raise LoweringError(f"its results cannot be held: {error}") from None

        def launch(card: Card) -> Launch:
            return kernel.launch(operands, step.attributes, card)

        def ready(card: Card) -> _Ready:
            called = launch(card)
            return self._loaded(called, specialization(called, operands, results), pointers, made)

        if self._tune and (shape := asked(launch, self._card)) is not None and shape not in self._card.tiles:
            tile = fastest(shape, self._card, lambda card: self._seconds(lambda: ready(card)))
            keep_tiles(self._driver.name, {shape: tile})
            self._card = replace(self._card, tiles={**self._card.tiles, shape: tile})
        return ready(self._card)

    def _seconds(self, make: Callable[[], _Ready]) -> float:
        """Seconds of a launch on the card; infinite for one that cannot be made."""
        try:
            item = make()
            return self._driver.seconds(lambda: self._launch(item), _TIMED)
        except LoweringError:
            return float("inf")

    def _loaded(
        self, launch: Launch, wanted: Specialization, pointers: tuple[int, ...], made: tuple[Any, ...]
    ) -> _Ready:
        """``launch`` with its function on the card and its arguments at hand."""
        built = self._built(wanted)
        if wanted.key not in self._functions:
            self._functions[wanted.key] = self._driver.function(built.cubin, built.entry, built.shared)
        held = {index: _up(item.array) for index, item in enumerate(launch.arguments) if isinstance(item, Held)}
        arguments: list[Any] = []
        for index, item in enumerate(launch.arguments):
            match item:
                case Given(place):
                    arguments.append(pointers[place])
                case Made(place):
                    arguments.append(made[place].data_ptr())
                case Size(value):
                    arguments.append(ctypes.c_int32(value))
                case _:
                    arguments.append(held[index].data_ptr())
        arguments += [0] * built.hidden
        function = self._functions[wanted.key]
        return _Ready(function, launch.grid, built, pointers, tuple(arguments), made, tuple(held.values()))

    def _launch(self, item: _Ready) -> None:
        self._driver.launch(item.function, item.grid, item.built.warps, item.built.shared, item.arguments)

    def _built(self, wanted: Specialization) -> Built:
        if wanted.key not in self._cubins:
            (made,) = build([wanted], self._driver.capability)
            if isinstance(made, str):
                raise LoweringError(f"its kernel does not compile: {made}")
            self._cubins[wanted.key] = made
        return self._cubins[wanted.key]

    def _start(self, burst: Sequence[_Ready], plan: _Plan) -> None:
        """Launches one behind the other: as one graph from the second time on that they come so."""

        def launch() -> None:
            for item in burst:
                self._launch(item)

        key = tuple(id(item) for item in burst)
        if len(burst) < _BURST or key not in plan.graphs:
            launch()
            plan.graphs[key] = None
            return
        if plan.graphs[key] is None:
            plan.graphs[key] = self._driver.captured(launch)
        self._driver.replay(plan.graphs[key])

    def _operand(self, name: str, values: Mapping[str, Any]) -> Operand:
        if name in self.program.constants:
            return Operand.of(self.program.constants[name], constant=True)
        kind = values[name].data_type()[len("tensor(") : -1]
        return Operand({"float": "float32", "double": "float64"}.get(kind, kind), tuple(values[name].shape()))


def _up(array: Array) -> Any:
    """``array`` on the card."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", 0)
