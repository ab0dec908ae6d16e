"""The model: a graph, the operator sets that it is written in, and the functions that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qcompiler.ir.attributes import Attr
from qcompiler.ir.graph import Graph, Node

__all__ = ["Function", "Model"]


class Function:
    """A model-local function: a body over formal inputs, with attributes that calls fill in."""

    __slots__ = ("attributes", "defaults", "doc", "domain", "graph", "metadata", "name", "opsets", "overload")

    def __init__(self, domain: str, name: str, graph: Graph, opsets: dict[str, int], overload: str = "") -> None:
        """``attributes`` are names without a default; ``defaults`` are those with one."""
        self.domain = domain
        self.name = name
        self.overload = overload
        self.graph = graph
        self.opsets = opsets
        self.attributes: list[str] = []
        self.defaults: dict[str, Attr] = {}
        self.doc = ""
        self.metadata: dict[str, str] = {}

    @property
    def key(self) -> tuple[str, str, str]:
        """What a call names: domain, name, overload."""
        return self.domain, self.name, self.overload


class Model:
    """A graph, the operator sets it is written in, and the functions it calls."""

    __slots__ = (
        "carried", "doc", "domain", "functions", "graph", "ir_version", "metadata", "opsets", "producer", "repairs",
        "settled", "version",
    )  # fmt: skip

    def __init__(self, graph: Graph, opsets: dict[str, int]) -> None:
        """``opsets`` maps a domain to its version; the standard domain is the empty string."""
        self.graph = graph
        self.opsets = opsets
        self.functions: dict[tuple[str, str, str], Function] = {}
        self.ir_version = 10
        self.producer: tuple[str, str] = ("", "")
        self.domain = ""
        self.version = 0
        self.doc = ""
        self.metadata: dict[str, str] = {}
        self.carried: dict[str, Any] = {}  # parts of a file that nothing here reads, kept for the way out
        self.repairs: list[str] = []  # what was wrong with the file and was mended on the way in, in words
        self.settled: dict[Any, int] = {}  # when a pass last left this model with nothing to do for it

    @property
    def opset(self) -> int:
        """Version of the standard operator set; 0 when the model imports none."""
        return self.opsets.get("", 0)

    def graphs(self) -> Iterator[Graph]:
        """Every graph: the main one, nested ones, and functions' bodies with theirs."""
        yield from self.graph.all_graphs()
        for function in self.functions.values():
            yield from function.graph.all_graphs()

    def count_nodes(self) -> int:
        """How many nodes there are in all graphs; does not look at them."""
        return sum(len(graph) for graph in self.graphs())

    def nodes(self) -> Iterator[Node]:
        """Every node of every graph."""
        for graph in self.graphs():
            yield from graph
