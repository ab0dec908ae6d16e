"""Running a program on a card: onnxruntime's sessions and our launches on one stream, tensors never leaving the card.

What a card cannot launch (no cubin for it, shapes that were not compiled, a kernel's objection) is run by onnxruntime
from the node's function body, which is told once for each operator.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from qcompiler.errors import LoweringError, QCompilerError
from qcompiler.kernels import CARDS, KERNELS, Card, Given, Held, Launch, Made, Operand, Size, card_for
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
    """A launch with everything that it takes: ``arguments`` in the function's order, ``results``, and ``kept``, what
    the arguments point at beside."""

    function: Any
    grid: tuple[int, int, int]
    built: Built
    arguments: tuple[Any, ...]
    results: tuple[Any, ...]
    kept: tuple[Any, ...]


@dataclass(eq=False)
class _Burst:
    """Launches one behind the other; ``graph`` is all of them as one, made when they come for the second time."""

    items: list[_Ready] = field(default_factory=list)
    graph: Any = None
    started: bool = False


@dataclass(eq=False)
class _Plan:
    """Everything that is settled for one set of input shapes, so that a second run has nothing to allocate or decide.

    ``fed`` and ``given`` are the buffers of inputs and of what sessions give, ``values`` all by name, ``sequence`` what
    is started in which order: bursts of launches, and steps that onnxruntime runs.
    """

    fed: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    given: dict[int, list[Any]] = field(default_factory=dict)
    sequence: list[_Burst | int] = field(default_factory=list)


class CudaExecutor:
    """A program on the first card. ``folder`` holds cubins, as a compile leaves them; what is not there is compiled
    now where Triton is installed. ``tune`` measures tiles of products that were not measured before on this card.

    Raises LoweringError without a card, or where onnxruntime refuses a part.
    """

    threads = 0  # time is the wall's: the work is not on the processor
    device = "cuda"

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
        self._tune = tune
        self._driver = self._open_driver()
        self._card: Card | None = card_for(self._driver.capability)
        self._cubins: dict[str, Built] = {}
        if self._card is None:
            tell(f"no kernel is made for sm_{self._driver.capability}: onnxruntime runs everything")
        else:
            if folder is not None:
                # Tiles are those of the card that the cubins were made for, which may be an older one of its kind.
                made_for, self._cubins = read_kernels(folder, self._driver.capability)
                self._card = CARDS.get(made_for, self._card)
            self._card = replace(self._card, tiles=known_tiles(self._driver.name))
        self._functions: dict[str, Any] = {}
        self._fallbacks: dict[int, Any] = {}
        self._told: set[str] = set()
        self._sessions = {
            index: self._session(step.model)
            for index, step in enumerate(program.steps)
            if isinstance(step, SessionStep)
        }
        self._constants = {name: self._up(array) for name, array in program.constants.items()}
        self._plans: OrderedDict[tuple[Any, ...], _Plan] = OrderedDict()

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        """One inference. ``feeds`` maps input names to arrays. Raises LoweringError when a part fails."""
        plan = self._planned(feeds)
        self._walk(plan)
        self._driver.synchronize()
        return {name: plan.values[name].numpy() for name in (outputs if outputs is not None else self.outputs)}

    def prepared(self, feeds: Mapping[str, Array]) -> Any:
        """A function of no arguments that runs the inference on what lies on the card already, for timing."""
        plan = self._planned(feeds)

        def call() -> None:
            self._walk(plan)
            self._driver.synchronize()

        return call

    def _planned(self, feeds: Mapping[str, Array]) -> _Plan:
        """The plan for these shapes, with the elements of ``feeds`` in its buffers."""
        arrays = {name: np.asarray(array, order="C") for name, array in self.program.complete(feeds).items()}
        key = tuple((name, array.shape, array.dtype.str) for name, array in arrays.items())
        plan = self._plans.get(key)
        if plan is None:
            while len(self._plans) >= _PLANS:
                self._forget(self._plans.popitem(last=False)[1])
            plan = self._plans[key] = _Plan({name: self._up(array) for name, array in arrays.items()})
        else:
            self._plans.move_to_end(key)
            for name, array in arrays.items():
                plan.fed[name].update_inplace(array)
        return plan

    def _forget(self, plan: _Plan) -> None:
        """Let go of everything but the inputs' buffers."""
        for item in plan.sequence:
            if isinstance(item, _Burst) and item.graph is not None:
                self._driver.release(item.graph)
        plan.values, plan.given, plan.sequence = {}, {}, []

    def _walk(self, plan: _Plan) -> None:
        """Start everything in order. What was settled holds as long as sessions give the same shapes."""
        for item in plan.sequence:
            if isinstance(item, _Burst):
                self._start(item)
            elif not self._run(item, plan):
                self._driver.synchronize()
                self._forget(plan)
                break
        if not plan.sequence:
            self._settle(plan)

    def _settle(self, plan: _Plan) -> None:
        """Run for the first time, and note what is started."""
        plan.values = {**self._constants, **plan.fed}
        sequence: list[_Burst | int] = []
        for index, step in enumerate(self.program.steps):
            ready = self._ready(step, plan.values) if isinstance(step, KernelStep) else None
            if ready is not None:
                plan.values.update(zip(step.outputs, ready.results, strict=True))
                if not sequence or not isinstance(sequence[-1], _Burst):
                    sequence.append(_Burst())
                burst = sequence[-1]
                assert isinstance(burst, _Burst)
                burst.items.append(ready)  # it was started when it was prepared
            else:
                self._run(index, plan)
                sequence.append(index)
        plan.sequence = sequence

    def _open_driver(self) -> Driver:
        return Driver()

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

    def _run(self, index: int, plan: _Plan) -> bool:
        """A part of the model, or the function body of a kernel, by onnxruntime into the buffers of the last time.

        False where it fails there: shapes that follow from the elements have changed, or a fault that shows again when
        it runs without them.
        """
        step = self.program.steps[index]
        if isinstance(step, KernelStep) and index not in self._fallbacks:
            self._fallbacks[index] = self._session(step.body())
        session = self._sessions[index] if isinstance(step, SessionStep) else self._fallbacks[index]
        binding = session.io_binding()
        for name in dict.fromkeys(step.inputs):
            if name:
                binding.bind_ortvalue_input(name, plan.values[name])
        known = plan.given.get(index)
        for place, name in enumerate(step.outputs):
            if known is None:
                binding.bind_output(name, self.device, 0)
            else:
                binding.bind_ortvalue_output(name, known[place])
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime raises types of its own, without a common base
            if known is not None:  # its shapes follow from the elements, and have changed
                return False
            raise LoweringError(f"onnxruntime fails to run a part of the model: {error}") from None
        if known is None:
            plan.given[index] = list(binding.get_outputs())
            plan.values.update(zip(step.outputs, plan.given[index], strict=True))
        return True

    # Kernels

    def _ready(self, step: KernelStep, values: Mapping[str, Any]) -> _Ready | None:
        """The launch of a step, started once; None where onnxruntime has to run it, told once for each operator."""
        try:
            return self._prepared(step, values)
        except QCompilerError as error:
            if step.op not in self._told:
                self._told.add(step.op)
                self._tell(f"{step.node} runs as its function body: {error.what}")
            return None

    def _prepared(self, step: KernelStep, values: Mapping[str, Any]) -> _Ready:
        kernel = KERNELS[step.op]
        if self._card is None:
            raise LoweringError(f"no kernel is made for sm_{self._driver.capability}")
        operands = kernel.complete([self._operand(name, values) if name else None for name in step.inputs])
        reason = kernel.refusal(operands, step.attributes)
        if reason:
            raise LoweringError(reason)
        results = kernel.results(operands, step.attributes)
        try:
            made = tuple(self._empty(kind, shape) for kind, shape in results)
        except Exception as error:  # of onnxruntime's own types: there is no memory left
            raise LoweringError(f"its results cannot be held: {error}") from None

        def launch(card: Card) -> Launch:
            return kernel.launch(operands, step.attributes, card)

        pointers = tuple(values[name].data_ptr() if name else 0 for name in step.inputs)

        def ready(card: Card) -> _Ready:
            called = launch(card)
            item = self._loaded(called, specialization(called, operands, results), pointers, made)
            self._launch(item)
            return item

        if self._tune and (shape := asked(launch, self._card)) is not None and shape not in self._card.tiles:
            tile = fastest(shape, self._card, lambda card: self._seconds(lambda: ready(card)))
            keep_tiles(self._driver.name, {shape: tile})
            self._card = replace(self._card, tiles={**self._card.tiles, shape: tile})
        try:
            return ready(self._card)
        except LoweringError:
            if not self._card.tiles:
                raise
            return ready(replace(self._card, tiles={}))  # the folder may hold the usual tile alone

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
        held = {index: self._up(item.array) for index, item in enumerate(launch.arguments) if isinstance(item, Held)}
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
        return _Ready(function, launch.grid, built, tuple(arguments), made, tuple(held.values()))

    def _launch(self, item: _Ready) -> None:
        if not all(item.grid):  # nothing to do, which the driver calls an error
            return
        self._driver.launch(item.function, item.grid, item.built.warps, item.built.shared, item.arguments)

    def _built(self, wanted: Specialization) -> Built:
        if wanted.key not in self._cubins:
            (made,) = build([wanted], self._driver.capability)
            if isinstance(made, str):
                raise LoweringError(f"its kernel does not compile: {made}")
            self._cubins[wanted.key] = made
        return self._cubins[wanted.key]

    def _start(self, burst: _Burst) -> None:
        """Every launch of ``burst``, as one graph from the second time on."""

        def launch() -> None:
            for item in burst.items:
                self._launch(item)

        if burst.graph is not None:
            self._driver.replay(burst.graph)
        elif burst.started and len(burst.items) >= _BURST:
            burst.graph = self._driver.captured(launch)
            self._driver.replay(burst.graph)
        else:
            burst.started = True
            launch()

    def _operand(self, name: str, values: Mapping[str, Any]) -> Operand:
        if name in self.program.constants:
            return Operand.of(self.program.constants[name], constant=True)
        kind = values[name].data_type()[len("tensor(") : -1]
        return Operand({"float": "float32", "double": "float64"}.get(kind, kind), tuple(values[name].shape()))

    def _up(self, array: Array) -> Any:
        """``array`` on the card."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), self.device, 0)

    def _empty(self, kind: str, shape: tuple[int, ...]) -> Any:
        """Room for a result on the card."""
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(kind).type, self.device, 0)
