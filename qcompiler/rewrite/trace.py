"""What was rewritten, where and by which rule, and what was nearly rewritten and why not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from qcompiler.ir import Node

__all__ = ["NearMiss", "Rewrite", "Trace", "label"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite: labels of the nodes that matched and of those that came instead."""

    rule: str
    nodes_in: tuple[str, ...]
    nodes_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that almost applied at a node. ``matched`` counts the pattern's nodes that were found; ``refused`` means
    that the whole pattern was there and the rule said no."""

    rule: str
    node: str
    reason: str
    matched: int
    refused: bool = False


@dataclass
class Trace:
    """The record of one pass over a model. Near misses in structure are kept when ``explain`` is set."""

    explain: bool = False
    rewrites: list[Rewrite] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def missed(self, rule: str, node: Node, reason: str, matched: int, *, refused: bool = False) -> None:
        """Note a near miss; the same one is noted once however often the node is visited."""
        key = (rule, label(node), reason)
        if key not in self.seen:
            self.seen.add(key)
            self.near_misses.append(NearMiss(rule, label(node), reason, matched, refused))

    def counts(self) -> dict[str, int]:
        """Rewrites by rule, in order of first firing."""
        return dict(Counter(item.rule for item in self.rewrites))


def label(node: Node) -> str:
    """What a person calls the node: its name, or its first output's, with the operator type."""
    if node.name:
        return f"{node.op_type} {node.name}"
    for value in node.outputs:
        if value.name:
            return f"{node.op_type} {value.name}"
    return f"{node.op_type} ?"
