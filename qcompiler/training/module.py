"""A model as a torch module: its graph, run node by node, with gradients to the constants that learn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from qcompiler.dtypes import DType
from qcompiler.errors import QCompilerError, TrainingError
from qcompiler.ir import Graph, Model, Node, Tensor, TensorType, Value, clone_node, dependencies
from qcompiler.onnx_io import open_session
from qcompiler.ops import is_pure
from qcompiler.runtime import Session
from qcompiler.training import elementwise, layers, quantized, recurrent, reductions, shapes
from qcompiler.training.learnable import STATISTICS, WEIGHT, is_matrix, name_of, plan
from qcompiler.training.operators import OPERATORS, Unsupported, integers
from qcompiler.training.parameters import Parameters, as_torch, holds

__all__ = ["GraphModule"]

_SINCE = 13  # operator set from which Softmax and the like mean what they mean now

_TABLES = (elementwise, layers, quantized, recurrent, reductions, shapes)  # loading them fills OPERATORS


class GraphModule(torch.nn.Module):  # type: ignore[misc]
    """``model``, run in torch. It computes with the model's own constants; :meth:`write` puts back what they learned.

    What cannot be trained through is run by onnxruntime and passes no gradient on: ``elsewhere`` has these nodes by
    name, with the reason, and ``plan.frozen`` the constants that do not learn.
    While it is ``forgiving``, what torch
    refuses goes there too; afterwards it is an error, so that one odd sample does not cut gradients for all others.
    ``exclude`` names more constants. With
    ``batch_statistics``, batch normalization normalizes by the batch while it trains, and its running statistics
    follow; else they stay as they are. The model has to be of operator set 13 at least and without functions.
    """

    def __init__(self, model: Model, *, exclude: re.Pattern[str] | None = None, batch_statistics: bool = False) -> None:
        super().__init__()
        if model.functions:
            raise TrainingError("a model with functions of its own cannot be trained", hint="inline them first")
        self.model = model
        self.plan = plan(model, exclude)
        self.parameters_of = Parameters(self.plan)
        if 0 < model.opset < _SINCE:
            raise TrainingError(
                f"operator set {model.opset} cannot be trained, only {_SINCE} and later", hint="raise it"
            )
        self.batch_statistics = batch_statistics
        self.forgiving = True
        self.elsewhere: dict[str, str] = {}
        self._times = 1
        self._sessions: dict[Node, tuple[Session, list[Value]] | None] = {}
        self._fixed: dict[Value, Any] = {}
        self._static = self._never_changing()
        self._last = _last_readers(model.graph)
        sizes = {value.shape[0] for value in model.graph.inputs if value.shape}
        self._batch = sizes.pop() if len(sizes) == 1 else None

    def forward(self, feeds: Mapping[str, Any], wanted: Iterable[Value] = ()) -> tuple[dict[str, Any], list[Any]]:
        """Outputs by name, and the values that are ``wanted`` beside them, in their order.

        ``feeds`` are tensors by the names of inputs; an input with a default may be left out. Raises TrainingError
        naming the node that does not run.
        """
        self.parameters_of.start()
        device = self._device()
        known: dict[Value, Any] = {}
        for value in self.model.graph.inputs:
            if value.name in feeds:
                known[value] = _worked_on(feeds[value.name], device)
            elif value.const is None:
                raise TrainingError(f"input '{value.name}' is not fed")
        kept = dict.fromkeys([*wanted, *self.model.graph.outputs])
        self._times = self._batches(known)
        self._run(self.model.graph, known, kept)
        outputs = {value.name: self._read(value, known) for value in self.model.graph.outputs}
        return outputs, [self._read(value, known) for value in wanted]

    def write(self) -> int:
        """Put what was learned into the model; how many constants changed."""
        return int(self.parameters_of.write())

    def to_device(self, device: Any) -> GraphModule:
        """The module with everything that it holds on ``device``."""
        self.to(device)
        self._fixed = {value: item.to(device) if hasattr(item, "to") else item for value, item in self._fixed.items()}
        return self

    def _read(self, value: Value, known: Mapping[Value, Any]) -> Any:
        if value in known:
            return known[value]
        if self.parameters_of.knows(value):
            return self.parameters_of.tensor(value)
        if value not in self._fixed:
            if value.const is None:
                raise TrainingError(f"value '{value.name}' is not computed")
            if not isinstance(value.const, Tensor):
                raise TrainingError(f"constant '{value.name}' is sparse", hint="make it dense")
            array = value.const.numpy()
            self._fixed[value] = as_torch(array).to(self._device()) if holds(array) else array
        return self._fixed[value]

    def _device(self) -> Any:
        return next((item.device for item in self.parameters()), torch.device("cpu"))

    def _run(self, graph: Graph, known: dict[Value, Any], kept: Mapping[Value, None]) -> None:
        for node in graph:
            if node in self._static and all(value in self._fixed for value in node.outputs[:1]):
                continue
            try:
                found = self._computed(node, known)
            except (Unsupported, QCompilerError):
                raise
            except Exception as error:  # torch raises many types
                text = " ".join(str(error).split())[:200]
                raise TrainingError(f"node '{node.name or node.output.name}' ({node.op_type}): {text}") from error
            for value, item in zip(node.outputs, found, strict=False):
                if node in self._static:
                    self._fixed[value] = item.detach() if hasattr(item, "detach") else item
                else:
                    known[value] = item
            for value in self._last.get(node, ()):
                if value not in kept:
                    known.pop(value, None)

    def _computed(self, node: Node, known: dict[Value, Any]) -> tuple[Any, ...]:
        name = name_of(node)
        if name == "If":
            return self._branch(node, known)
        if node not in self._sessions:
            xs = [None if value is None else self._read(value, known) for value in node.inputs]
            try:
                return self._native(node, name, xs)
            except Unsupported as reason:
                self._send_elsewhere(node, str(reason))
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
                # What torch does not take onnxruntime may; if it does not either, its reason is told.
                if not self.forgiving or isinstance(error, torch.OutOfMemoryError):
                    raise
                self._send_elsewhere(node, f"torch does not run it: {' '.join(str(error).split())[:80]}")
        return self._by_onnxruntime(node, known)

    def _native(self, node: Node, name: str, xs: list[Any]) -> tuple[Any, ...]:
        if any(item is not None and not isinstance(item, torch.Tensor) for item in xs):
            raise Unsupported("its inputs are of a type without gradients")
        device = self._device()
        if device.type != "cpu":  # sizes are worked out on the processor
            xs = [None if item is None else item.to(device) for item in xs]
        if name == "BatchNormalization":
            found = self._batch_norm(node, *xs)
        elif name == "Reshape" and self._times > 1:
            found = self._reshape(node, *xs)
        elif name in OPERATORS:
            found = OPERATORS[name](node, *xs)
        else:
            raise Unsupported("no gradient is known of such an operator")
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    def _reshape(self, node: Node, x: Any, sizes: Any) -> Any:
        """A Reshape to a shape with a fixed batch, for several batches at once."""
        wanted = integers(sizes)
        if wanted and wanted[0] == self._batch and x.dim() and x.shape[0] == self._batch * self._times:
            wanted[0] *= self._times
        return shapes.reshaped(x, wanted, bool(node.attr("allowzero", 0)))

    def _batches(self, known: Mapping[Value, Any]) -> int:
        """How many of the batches that the model is made for stand behind one another in the inputs."""
        if not isinstance(self._batch, int) or not self._batch:
            return 1
        rows = {item.shape[0] for value, item in known.items() if value.shape}
        count = rows.pop() if len(rows) == 1 else self._batch
        return int(count // self._batch) if count % self._batch == 0 else 1

    def _batch_norm(self, node: Node, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
        if node.attr("training_mode", 0):
            raise Unsupported("it gives statistics of the batch")
        trains = self.training and self.batch_statistics and x.numel() > x.shape[1]
        learned = [self.plan.learnable.get(value) for value in node.inputs[3:5] if value is not None]
        if not trains or not all(item is not None and item.kind == STATISTICS for item in learned):
            return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.attr("epsilon", 1e-5))
        momentum = 1.0 - float(node.attr("momentum", 0.9))
        return functional.batch_norm(x, mean, variance, scale, bias, True, momentum, node.attr("epsilon", 1e-5))

    def _branch(self, node: Node, known: dict[Value, Any]) -> tuple[Any, ...]:
        taken = node.attr("then_branch" if bool(self._read(_required(node, 0), known)) else "else_branch")
        self._run(taken, known, {})
        return tuple(self._read(value, known) for value in taken.outputs)

    # What torch does not do

    def _send_elsewhere(self, node: Node, reason: str) -> None:
        label = node.name or node.output.name
        self.elsewhere[label] = f"{node.op_type}: {reason}"
        self._sessions[node] = None

    def _by_onnxruntime(self, node: Node, known: Mapping[Value, Any]) -> tuple[Any, ...]:
        needed = [value for value in dict.fromkeys(dependencies(node)) if _is_outside(value, node)]
        items = {value: self._read(value, known) for value in needed}
        held = self._sessions[node]
        if held is None:
            try:
                held = self._sessions[node] = _session_of(node, items, self.model.opsets), needed
            except QCompilerError as error:
                raise TrainingError(f"node '{node.name}' ({node.op_type}): {error.what}") from None
        session = held[0]
        try:
            found = session.run({f"i{place}": _fed(value, items[value]) for place, value in enumerate(needed)})
        except QCompilerError as error:
            raise TrainingError(f"node '{node.name or node.output.name}' ({node.op_type}): {error.what}") from None
        device = self._device()
        given = iter(found.values())
        return tuple(_got(next(given), device) if _is_given(value) else None for value in node.outputs)

    def _never_changing(self) -> set[Node]:
        """Nodes of constants that do not learn: computed once."""
        found: set[Node] = set()
        fixed: set[Value] = set()
        for node in self.model.graph:
            if next(node.subgraphs(), None) is not None or not node.inputs or not is_pure(node):
                continue
            if all(value is None or value in fixed or self._is_fixed(value) for value in node.inputs):
                found.add(node)
                fixed.update(node.outputs)
        return found

    def _is_fixed(self, value: Value) -> bool:
        return value.constant is not None and not self.parameters_of.knows(value)

    def weights(self) -> list[tuple[Value, Any]]:
        """Weights that layers multiply by, with their parameters."""
        return [(entry.value, item) for entry, item in self.parameters_of.of_kind(WEIGHT) if is_matrix(entry.value)]


def _required(node: Node, place: int) -> Value:
    value = node.input(place)
    if value is None:
        raise TrainingError(f"node '{node.name}' ({node.op_type}) lacks input {place}")
    return value


def _worked_on(item: Any, device: Any) -> Any:
    if not isinstance(item, torch.Tensor) and not holds(item):
        return item  # strings, for instance: onnxruntime may know what to do with them
    made = item if isinstance(item, torch.Tensor) else as_torch(np.asarray(item))
    made = made.to(device)
    return made.float() if made.dtype in (torch.float16, torch.bfloat16) else made


def _last_readers(graph: Graph) -> dict[Node, list[Value]]:
    """For each node the values of the graph that nobody behind it needs."""
    last: dict[Value, Node] = {}
    for node in graph:
        for value in dependencies(node):
            last[value] = node
    found: dict[Node, list[Value]] = {}
    for value, node in last.items():
        found.setdefault(node, []).append(value)
    return found


def _is_outside(value: Value, node: Node) -> bool:
    """True for a value that the node, with its subgraphs, takes from outside."""
    home = value.home
    while home is not None:
        if home.owner is node:
            return False
        home = home.owner.graph if home.owner is not None else None
    return True


def _is_given(value: Value) -> bool:
    return bool(value.uses or value.is_output)


def _session_of(node: Node, items: Mapping[Value, Any], opsets: Mapping[str, int]) -> Session:
    """A model of ``node`` alone."""
    graph = Graph("node")
    mapping: dict[Value, Value] = {}
    for place, (value, item) in enumerate(items.items()):
        kind = value.type if isinstance(value.type, TensorType) and value.type.dtype is not None else None
        kind = kind or TensorType(DType.of(_numpy(item).dtype))
        mapping[value] = graph.add_input(Value(f"i{place}", TensorType(kind.dtype)))
    copy = graph.append(clone_node(node, mapping))
    for place, (own, value) in enumerate(zip(node.outputs, copy.outputs, strict=True)):
        if _is_given(own):
            value.name = f"o{place}"
            value.type = TensorType(value.dtype) if isinstance(value.type, TensorType) else value.type
            graph.add_output(value)
    return open_session(Model(graph, dict(opsets)), optimize=False)


def _numpy(item: Any) -> Any:
    return item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else item


def _fed(value: Value, item: Any) -> Any:
    array = _numpy(item)
    if isinstance(array, np.ndarray) and value.dtype is not None and array.dtype != value.dtype.numpy:
        array = array.astype(value.dtype.numpy)
    return array


def _got(item: Any, device: Any) -> Any:
    return as_torch(item).to(device) if holds(item) else item
