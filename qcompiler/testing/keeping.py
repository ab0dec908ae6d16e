"""Does a rewrite keep the numbers? Asked of onnxruntime, its optimizations off, on random and on given inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from qcompiler.data import InputSpec, open_dataset
from qcompiler.ir import Model, TensorType, clone_model, format_model, verify
from qcompiler.onnx_io import infer_types, load, upgrade_opset
from qcompiler.pipeline import Pass, PassContext, Reference
from qcompiler.rewrite import Rule, Trace, apply_rules

__all__ = ["assert_keeps_numbers", "random_feeds"]

_HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'


def assert_keeps_numbers(
    rewrite: Rule | Pass | Sequence[Rule | Pass],
    model: Any,
    *,
    feeds: Sequence[Mapping[str, Any]] = (),
    times: int | None = None,
    runs: int = 3,
    opset: int = 21,
    seed: int = 0,
) -> Model:
    """Apply ``rewrite`` to ``model`` and assert that it is the same model still; give the rewritten one.

    ``rewrite`` is a rule, a pass, or several of them in order. ``model`` is a path, bytes, ``onnx.ModelProto``, a
    :class:`Model`, which is not changed, or text in onnx's own syntax; text without a header gets operator set
    ``opset``. The outputs are compared for ``feeds``, which map input names to arrays, and for ``runs`` more samples
    drawn at random; symbolic sizes are drawn too.

    Asserted: the rewrite changes something, ``times`` times where that is given (0: nothing at all); the graph
    verifies; inputs and outputs keep names, types and order; every output is within the tolerance of its type (float
    1e-4 of the largest magnitude, float16 1e-2, integers equal), as in :class:`qcompiler.pipeline.Reference`.
    Raises AssertionError with the rewritten graph and the near misses, and whatever ``rewrite`` or ``model`` raises.
    """
    source = _as_model(model, opset)
    infer_types(source)
    samples = [dict(each) for each in feeds] + random_feeds(source, runs, seed)
    reference = Reference(source, samples)
    made = clone_model(source)
    context = PassContext(samples=samples, trace=Trace(explain=True))
    changed = 0
    for item in [rewrite] if isinstance(rewrite, Rule | Pass) else rewrite:
        changed += apply_rules(made, [item], trace=context.trace) if isinstance(item, Rule) else item.run(made, context)
        verify(made)
        infer_types(made)
    wrong = _changes(changed, times) or _interface(source, made) or reference.difference(made)
    if wrong:
        misses = [f"  {miss.rule} at {miss.node}: {miss.reason}" for miss in context.trace.near_misses]
        raise AssertionError("\n".join([wrong, format_model(made), *(["near misses:", *misses] if misses else [])]))
    return made


def random_feeds(model: Model, count: int = 1, seed: int = 0) -> list[dict[str, Any]]:
    """``count`` samples for the inputs of ``model`` that have no default: arrays by name, of the declared types.

    Floats are normal, integers small and booleans even; symbolic sizes are small and the same wherever one name stands.
    """
    specs = [
        InputSpec(value.name, value.type.dtype.numpy, value.type.shape)
        for value in model.graph.inputs
        if value.const is None and isinstance(value.type, TensorType) and value.type.dtype is not None
    ]
    if not specs:
        return [{} for _ in range(count)]
    dataset = open_dataset("random", specs, limit=count, seed=seed)
    return [{name: np.asarray(array) for name, array in dataset.sample(i).items()} for i in range(count)]


def _as_model(model: Any, opset: int) -> Model:
    if isinstance(model, Model):
        return clone_model(model)
    if isinstance(model, str) and "=>" in model:
        text = model if model.lstrip().startswith("<") else _HEADER.format(opset=opset) + model
        return load(onnx.parser.parse_model(text))
    loaded = load(model)
    upgrade_opset(loaded)  # as a compile does before any pass
    return loaded


def _changes(changed: int, times: int | None) -> str:
    if times is None:
        return "" if changed else "nothing was rewritten"
    return "" if changed == times else f"{changed} rewrites were made, not {times}"


def _interface(source: Model, made: Model) -> str:
    for what in ("inputs", "outputs"):
        before, after = ([(value.name, value.type) for value in getattr(each.graph, what)] for each in (source, made))
        if before != after:
            return f"the {what} of the graph are {after}, not {before}"
    return ""
