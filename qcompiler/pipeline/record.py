"""One pass over one model: run it, verify, and write down what it did."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from qcompiler.ir import Model, TensorType, Type, verify
from qcompiler.onnx_io import infer_types
from qcompiler.pipeline.base import Pass, PassContext
from qcompiler.rewrite import NearMiss, Rewrite, Trace

__all__ = ["PassRecord", "count_unclear", "run_one", "sharpen_types"]


@dataclass
class PassRecord:
    """What one pass did. ``status`` is applied, no-op, rolled-back or skipped; ``sqnr_db`` is for lossy passes.

    ``target_nodes`` is how many nodes the target makes of the model when it loads it, ``fusions`` how many of them it
    fused itself; None where nobody counted. ``details`` and ``resolved`` are what the pass told of its choices.
    """

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
    target_nodes_before: int | None = None
    target_nodes_after: int | None = None
    fusions_before: int | None = None
    fusions_after: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)


def run_one(item: Pass, model: Model, context: PassContext, *, check: bool = True) -> PassRecord:
    """Run one pass and write down what it did. Raises what the pass raises.

    With ``check``, what a pass leaves that says it changed something is verified, which may raise VerifyError; one
    that says it changed nothing is believed here. Whoever runs the passes verifies for it.
    """
    record = PassRecord(item.name, item.options(), nodes_before=model.count_nodes())
    context.trace = Trace(explain=context.trace.explain)
    context.running = item.name
    context.details, context.resolved = {}, {}
    start = time.perf_counter()
    record.changed = item.run(model, context)
    if record.changed:
        if check:
            verify(model)
        sharpen_types(item, model, context)
    record.seconds = time.perf_counter() - start
    record.details, record.resolved = context.details, context.resolved
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
    untyped, vague = count_unclear(model)
    if (not untyped and not vague) or (item.keeps_types and untyped <= context.untyped):
        return
    infer_types(model)
    context.untyped, _ = count_unclear(model)


def count_unclear(model: Model) -> tuple[int, int]:
    """How many values that nodes give have no type, and how many one that inference might sharpen.

    A size is clear when it is a number or a symbol that an input of the model has. Outputs of the model are not
    counted: they keep the types that they were declared with.
    """
    fixed = set(model.graph.outputs)
    symbols = {size for value in model.graph.inputs for size in value.shape or () if isinstance(size, str)}
    clear: set[Type] = set()  # few types occur, however many values there are
    untyped = vague = 0
    for node in model.graph.all_nodes():
        for value in node.outputs:
            kind = value.type
            if kind in clear or value in fixed:
                continue
            if kind is None:
                untyped += 1
            elif isinstance(kind, TensorType) and not _is_clear(kind, symbols):
                vague += 1
            else:
                clear.add(kind)
    return untyped, vague


def _is_clear(kind: TensorType, symbols: set[str]) -> bool:
    known = kind.dtype is not None and kind.shape is not None
    return known and all(isinstance(size, int) or size in symbols for size in kind.shape or ())
