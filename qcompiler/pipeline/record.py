"""One pass over one model: run it, verify, and write down what it did."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from qcompiler.ir import Model, verify
from qcompiler.onnx_io import infer_types
from qcompiler.pipeline.base import Pass, PassContext
from qcompiler.rewrite import NearMiss, Rewrite, Trace

__all__ = ["PassRecord", "count_untyped", "run_one", "sharpen_types"]


@dataclass
class PassRecord:
    """What one pass did. ``status`` is applied, no-op, rolled-back or skipped; ``sqnr_db`` is for lossy passes."""

    name: str
    options: dict[str, Any]
    seconds: float = 0.0
    changed: int = 0
    nodes_before: int = 0
    nodes_after: int = 0
    rewrites: dict[str, int] = field(default_factory=dict)
    sqnr_db: float | None = None
    status: str = "no-op"
    reason: str = ""
    trace: list[Rewrite] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)


def run_one(item: Pass, model: Model, context: PassContext) -> PassRecord:
    """Run one pass, verify what it leaves, write down what it did. Raises what the pass raises, or VerifyError.

    A pass that says it changed nothing is believed here; whoever runs the passes verifies for it.
    """
    record = PassRecord(item.name, item.options(), nodes_before=model.count_nodes())
    context.trace = Trace(explain=context.trace.explain)
    context.running = item.name
    start = time.perf_counter()
    record.changed = item.run(model, context)
    if record.changed:
        verify(model)
        sharpen_types(item, model, context)
    record.seconds = time.perf_counter() - start
    record.nodes_after = model.count_nodes()
    record.rewrites = context.trace.counts()
    record.trace = context.trace.rewrites
    record.near_misses = context.trace.near_misses
    record.status = "applied" if record.changed else "no-op"
    return record


def sharpen_types(item: Pass, model: Model, context: PassContext) -> None:
    """Infer types after ``item`` changed ``model``, where that can tell anything new.

    A pass that keeps types leaves nothing to sharpen; then only values that came without a type call for a look.
    """
    if item.keeps_types and count_untyped(model) <= context.untyped:
        return
    infer_types(model)
    context.untyped = count_untyped(model)


def count_untyped(model: Model) -> int:
    """How many values that nodes give have no type."""
    return sum(value.type is None for node in model.nodes() for value in node.outputs)
