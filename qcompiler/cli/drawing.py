"""A model as a drawing in Graphviz's language, each group of channels in a colour of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.ir import Model
    from qcompiler.passes.prune import ChannelGroup

__all__ = ["drawn"]

_PALETTE = 12
"""Colours of Graphviz's scheme ``set312``; groups far from each other share one."""


def drawn(model: Model, groups: Sequence[ChannelGroup]) -> str:
    """Nodes as boxes in the colours of the groups that their weights lie in, values as edges with their shapes."""
    of_node: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        for name in group.weight_nodes():
            of_node.setdefault(name, []).append(number)
    lines = ["digraph model {", "  node [shape=box, style=filled, fillcolor=white, colorscheme=set312, fontsize=10];"]
    lines.append("  edge [fontsize=8];")
    for value in model.graph.inputs:
        if value.const is None:
            lines.append(f"  {_quoted('in ' + value.name)} [label={_quoted(value.name)}, shape=oval];")
    for place, node in enumerate(model.graph):
        name = node.name or node.outputs[0].name
        mine = of_node.get(name, [])
        label = f"{node.op_type}\\n{name}" + "".join(
            f"\\n{groups[number].name}: {groups[number].size}" for number in mine
        )
        colours = ":".join(str(number % _PALETTE + 1) for number in mine)
        fill = f", fillcolor={_quoted(colours)}" if mine else ""
        lines.append(f"  n{place} [label={_quoted(label)}{fill}];")
    places = {node: f"n{place}" for place, node in enumerate(model.graph)}
    for node in model.graph:
        for read in dict.fromkeys(node.inputs):
            if read is None or read.const is not None:
                continue
            start = places.get(read.producer) if read.producer is not None else _quoted("in " + read.name)
            shape = "" if read.shape is None else "x".join(map(str, read.shape))
            if start:
                lines.append(f"  {start} -> {places[node]} [label={_quoted(shape)}];")
    for value in model.graph.outputs:
        lines.append(f"  {_quoted('out ' + value.name)} [label={_quoted(value.name)}, shape=oval];")
        if value.producer in places:
            lines.append(f"  {places[value.producer]} -> {_quoted('out ' + value.name)};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """As Graphviz reads it: quotes escaped; a line break in it is written as a backslash and n."""
    return json.dumps(text, ensure_ascii=False).replace("\\\\n", "\\n")
