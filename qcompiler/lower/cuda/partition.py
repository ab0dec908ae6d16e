"""A model cut into sessions of onnxruntime and launches of kernels.

Nodes are taken in as few turns as their dependencies allow: everything that onnxruntime can run now, then everything
that kernels can, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qcompiler.data import InputSpec
from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Graph, Model, Node, Tensor, TensorType, Value, clone_node, dependencies
from qcompiler.kernels import KERNELS
from qcompiler.lower.cuda.legality import between
from qcompiler.lower.cuda.nodes import EDGE, attributes_of, kernel_of
from qcompiler.lower.rounding import in_float32
from qcompiler.onnx_io import infer_types, to_bytes
from qcompiler.ops import info
from qcompiler.runtime import Executor, KernelStep, Program, Runner, SessionStep, no_card

_FLOATS = {DType.FLOAT, DType.FLOAT16}

__all__ = ["open_program", "placement", "program_of"]


def open_program(
    model: Model,
    *,
    threads: int = 1,
    device: str = "auto",
    kernels: str = "reference",
    folder: Path | None = None,
    tune: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Runner:
    """``model`` cut up and ready to run: on a card (``cuda``), on the processor (``cpu``), or wherever it can be.

    ``kernels`` is how they run on the processor, ``folder`` where cubins are; ``tune`` measures
    tiles on the card; ``tell`` hears what runs in another way.
    Raises LoweringError for a model that cannot be cut, or without a card where one was asked for.
    """
    if device != "cpu":
        reason = no_card()
        if not reason:
            from qcompiler.runtime.cuda import CudaExecutor

            return CudaExecutor(program_of(model), folder=folder, tune=tune, tell=tell)
        if device == "cuda":
            raise LoweringError(f"there is no card to run on: {reason}")
        tell(f"runs on the processor: {reason}")
    return Executor(program_of(model, rounded=True), threads=threads, kernels=kernels)


def program_of(model: Model, *, rounded: bool = False) -> Program:
    """The program of ``model``; with ``rounded`` float16 is computed in float32 and rounded, for the processor.

    Raises LoweringError where the type of a value at a cut is not known.
    """
    infer_types(model)
    graph = model.graph
    names = _names(graph)
    steps: list[SessionStep | KernelStep] = []
    needed = _needed_behind(graph)
    for ours, nodes in _turns(graph):
        if ours:
            steps += [_kernel_step(model, node, names) for node in nodes]
        else:
            steps.append(_session_step(model, nodes, names, needed, rounded))
    taken = {name for step in steps if isinstance(step, KernelStep) for name in step.inputs}
    constants = {
        names[value]: value.const.numpy()  # type: ignore[union-attr]
        for value in graph.constants
        if value.const is not None and not value.is_input and (names[value] in taken or value.output_uses)
    }
    defaults = {value.name: value.const.numpy() for value in graph.inputs if isinstance(value.const, Tensor)}
    inputs = tuple(
        InputSpec(value.name, value.type.dtype.numpy, value.type.shape)
        for value in graph.inputs
        if value.const is None and isinstance(value.type, TensorType) and value.type.dtype is not None
    )
    return Program(tuple(steps), constants, defaults, inputs, tuple(value.name for value in graph.outputs))


def _names(graph: Graph) -> dict[Value, str]:
    """A name of its own for every value of the main graph; inputs and outputs keep theirs."""
    found: dict[Value, str] = {}
    taken: set[str] = set()
    values = [*graph.inputs, *graph.outputs, *graph.constants]
    values += [value for node in graph for value in node.outputs]
    for value in dict.fromkeys(values):
        name, count = value.name or "value", 1
        while name in taken:
            count += 1
            name = f"{value.name or 'value'}_{count}"
        taken.add(name)
        found[value] = name
    return found


def _turns(graph: Graph) -> list[tuple[bool, list[Node]]]:
    """Nodes in turns: kernels (True) and others, each as many as have what they read."""
    waiting = dict.fromkeys(graph, 0)
    readers: dict[Node, list[Node]] = {node: [] for node in graph}
    for node in graph:
        makers = {value.producer for value in dependencies(node) if value.producer is not None}
        for maker in makers:
            if maker in waiting and maker is not node:
                readers[maker].append(node)
                waiting[node] += 1
    ready: dict[bool, list[Node]] = {True: [], False: []}
    for node, count in waiting.items():
        if not count:
            ready[kernel_of(node) is not None].append(node)
    turns: list[tuple[bool, list[Node]]] = []
    ours = not ready[False]
    while ready[True] or ready[False]:
        turn: list[Node] = []
        queue = ready[ours]
        ready[ours] = []
        for node in queue:  # grows while it is walked
            turn.append(node)
            for reader in readers[node]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    (queue if (kernel_of(reader) is not None) == ours else ready[not ours]).append(reader)
        if turn:
            turns.append((ours, sorted(turn, key=lambda node: node.order)))
        ours = not ours
    return turns


def _needed_behind(graph: Graph) -> Callable[[Value, set[Node]], bool]:
    """Whether a value is read by somebody who is not among some nodes, or given by the graph."""
    outputs = set(graph.outputs)
    readers: dict[Value, set[Node]] = {}
    for node in graph:
        for value in dependencies(node):
            readers.setdefault(value, set()).add(node)
    return lambda value, inside: value in outputs or bool(readers.get(value, set()) - inside)


def _session_step(
    model: Model,
    nodes: Sequence[Node],
    names: Mapping[Value, str],
    needed: Callable[[Value, set[Node]], bool],
    rounded: bool,
) -> SessionStep:
    """The part of ``model`` that ``nodes`` are."""
    part = Graph(model.graph.name)
    mapping: dict[Value, Value] = {}
    inside = set(nodes)
    for node in nodes:
        for value in dependencies(node):
            if value in mapping or value not in names or value.producer in inside:
                continue
            twin = Value(names[value], value.type, None if value.is_input else value.const)
            mapping[value] = twin
            if twin.const is not None:
                part.add_constant(twin)
            else:
                _check_type(value)
                part.add_input(twin)
    for node in nodes:
        part.append(clone_node(node, mapping))
    given = [value for node in nodes for value in node.outputs if needed(value, inside)]
    for node in nodes:
        for value in node.outputs:
            mapping[value].name = names[value]
    for value in given:
        part.add_output(mapping[value])
    inputs = tuple(value.name for value in part.inputs)
    if rounded:
        in_float32(part)
    made = _model(model, part)
    return SessionStep(
        to_bytes(made), inputs, tuple(names[value] for value in given), tuple(node.name for node in nodes)
    )


def _kernel_step(model: Model, node: Node, names: Mapping[Value, str]) -> KernelStep:
    def body() -> bytes:
        part = Graph(node.name)
        mapping: dict[Value, Value] = {}
        for value in node.inputs:
            if value is not None and value not in mapping:
                _check_type(value)
                mapping[value] = part.add_input(Value(names[value], value.type))
        part.append(clone_node(node, mapping))
        for value in node.outputs:
            mapping[value].name = names[value]
            part.add_output(mapping[value])
        return to_bytes(_model(model, part))

    return KernelStep(
        node.name,
        node.op_type,
        attributes_of(node),
        tuple("" if value is None else names[value] for value in node.inputs),
        tuple(names[value] for value in node.outputs),
        body,
    )


def _check_type(value: Value) -> None:
    if value.type is None or (isinstance(value.type, TensorType) and value.type.dtype is None):
        raise LoweringError(f"the model cannot be cut at '{value.name}', whose type is not known")


def _model(model: Model, graph: Graph) -> Model:
    """``graph`` with the operator sets of ``model`` and the functions that it may call."""
    made = Model(graph, dict(model.opsets))
    made.ir_version = model.ir_version
    called = {(node.domain, node.op_type, node.overload) for inner in graph.all_graphs() for node in inner}
    if called & model.functions.keys():
        made.functions = dict(model.functions)
    return made


def placement(model: Model) -> list[dict[str, Any]]:
    """For each node of the main graph what runs it, and why."""
    found = []
    for node in model.graph:
        kernel = kernel_of(node)
        why = KERNELS[node.op_type].about if kernel is not None else _why_not(node)
        runs_on = "kernel" if kernel is not None else "onnxruntime"
        found.append({"node": node.name, "op": node.op_type, "runs_on": runs_on, "why": why})
    return found


def _why_not(node: Node) -> str:
    if node.output.dtype is DType.INT8:
        return "it moves int8 elements, which onnxruntime does as well"
    if any(True for _ in node.subgraphs()):
        return "it holds graphs of its own"
    if node.is_op("Cast") and {node.output.dtype, *(value.dtype for value in node.inputs if value)} == _FLOATS:
        return "an edge between float16 and float32"
    if node.is_op("Transpose") and node.name.endswith(EDGE):
        return "channels go where the next node has them"
    known = info(node)
    if known is not None and known.role == "compute":
        return "it stays float; the table of layers says why"
    if between(node):
        return "what it reads or gives is not in integers"
    return "there is no kernel for it"
