"""Passes written against onnx-graphsurgeon's ``Graph``, for those who have them already."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from qcompiler.errors import PassError
from qcompiler.ir import Model, Node, difference
from qcompiler.onnx_io import load, needs_external_data, to_proto
from qcompiler.pipeline import Pass, PassContext

__all__ = ["surgeon_pass"]

Edit = Callable[[Any], Any]


def surgeon_pass(*, lossless: bool = False, name: str = "") -> Callable[[Edit], type[Pass]]:
    """Decorator: make a pass of a function that edits an ``onnx_graphsurgeon.Graph``::

        @surgeon_pass(lossless=True)
        def drop_dropout(graph):
            \"\"\"Dropout does nothing in inference.\"\"\"
            for node in graph.nodes:
                if node.op == "Dropout": ...

    The function changes the graph in place or returns another; ``cleanup`` and ``toposort`` are done for it. ``name``
    defaults to the function's, with hyphens. With ``lossless`` the numbers are checked like those of any lossless
    pass; it counts as one change, which is kept or rolled back whole.

    The pass raises PassError for a model over 2 GB, which graphsurgeon cannot hold, and for a function that changes
    names or types of the model's inputs or outputs; ImportFailure where it leaves no sound model.
    """

    def decorate(function: Edit) -> type[Pass]:
        title = name or function.__name__.replace("_", "-")

        members = {
            "name": title,
            "lossless": lossless,
            "edit": staticmethod(function),
            "__doc__": function.__doc__ or f"The graphsurgeon function {function.__name__}.",
            "__module__": function.__module__,
        }
        return type("".join(part.capitalize() for part in title.split("-")), (_Surgery,), members)

    return decorate


@dataclass(frozen=True)
class _Surgery(Pass):
    """Out to graphsurgeon and back; ``model`` takes over what comes back, if anything is different."""

    edit: ClassVar[Edit]

    def run(self, model: Model, context: PassContext) -> int:
        with contextlib.redirect_stdout(sys.stderr):  # graphsurgeon logs to standard output, which holds results
            return self._run(model, context)

    def _run(self, model: Model, context: PassContext) -> int:
        import onnx_graphsurgeon

        if needs_external_data(model):
            raise PassError(f"pass '{self.name}' cannot hold a model over 2 GB", hint="write it as a rule")
        graph = onnx_graphsurgeon.import_onnx(to_proto(model))
        before = load(onnx_graphsurgeon.export_onnx(graph))
        returned = type(self).edit(graph)
        graph = graph if returned is None else returned
        after = load(onnx_graphsurgeon.export_onnx(graph.cleanup().toposort()))
        self._keeps_interface(before, after)
        # A change here has no node of its own; this one stands for it.
        if not difference(before, after) or not context.permit(self.name, Node("Graph", name=model.graph.name)):
            return 0
        model.graph, model.opsets, model.functions = after.graph, after.opsets, after.functions
        return 1

    def _keeps_interface(self, before: Model, after: Model) -> None:
        for what in ("inputs", "outputs"):
            was, now = ([(value.name, value.type) for value in getattr(each.graph, what)] for each in (before, after))
            if was != now:
                raise PassError(f"pass '{self.name}' changed the model's {what}: {now}, not {was}")
