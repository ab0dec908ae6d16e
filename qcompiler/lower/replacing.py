"""Putting a target's own node where nodes of the standard stood."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir import Graph, Node
from qcompiler.rewrite import drop_constant_if_unused

__all__ = ["put_instead"]


def put_instead(graph: Graph, made: Node, old: Sequence[Node]) -> None:
    """Let the one output of ``made`` stand for that of the last of ``old``, which go, and constants only they read."""
    last = old[-1]
    made.output.type, made.output.name, made.output.doc = last.output.type, last.output.name, last.output.doc
    graph.insert_before(last, made)
    last.output.replace_uses(made.output)
    read = [value for node in old for value in node.inputs]
    for node in reversed(old):
        graph.remove(node)
    for value in dict.fromkeys(read):
        if value is not None:
            drop_constant_if_unused(value)
