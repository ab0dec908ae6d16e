"""The graph: values with uses, nodes in a linked list, and graphs.

Equality is identity and names are labels: two values may bear one name, and the exporter tells them apart.
There is one write path. A node's inputs change through :meth:`Node.set_input`, a graph's outputs through
:meth:`Graph.set_output`, and both keep ``Value.uses`` right; nobody else writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from qcompiler.dtypes import DType
from qcompiler.ir.attributes import Attr, as_attr
from qcompiler.ir.quant import Quantization
from qcompiler.ir.tensor import SparseTensor, Tensor
from qcompiler.ir.types import Shape, TensorType, Type

__all__ = ["Clock", "Graph", "Node", "Value", "dependencies"]

_GAP = 1 << 20  # room between the order labels of neighbours, see Graph._label


class Clock:
    """Moved on by whoever will want to know what changed since; see :attr:`Node.touched`."""

    now = 0


class Value:
    """What flows along an edge: a graph input, a constant, or an output of a node.

    ``uses`` maps (user, position) to None in the order in which the uses arose; a user is a node that takes
    the value as input ``position``, or a graph that gives it as output ``position``. ``type`` is None where nothing is
    known, ``const`` holds the elements of a constant or of an input's default, ``quant`` what is decided of its
    quantization, ``producer`` and ``index`` say which output of which node it is.
    """

    __slots__ = (
        "const", "doc", "graph", "index", "metadata", "name", "output_uses", "producer", "quant", "type", "uses",
    )  # fmt: skip

    def __init__(self, name: str = "", type: Type | None = None, const: Tensor | SparseTensor | None = None) -> None:
        """``const`` holds the elements of an initializer; the default, where the value is a graph input too."""
        self.name = name
        self.type = type
        self.const = const
        self.producer: Node | None = None
        self.index = 0
        self.graph: Graph | None = None
        self.uses: dict[tuple[Node | Graph, int], None] = {}
        self.output_uses = 0
        self.quant: Quantization | None = None
        self.metadata: dict[str, str] = {}
        self.doc = ""

    @property
    def dtype(self) -> DType | None:
        """Element type of a tensor; None when unknown or not a tensor."""
        return self.type.dtype if isinstance(self.type, TensorType) else None

    @property
    def shape(self) -> Shape | None:
        """Shape of a tensor; None when not even the rank is known."""
        return self.type.shape if isinstance(self.type, TensorType) else None

    @property
    def rank(self) -> int | None:
        """Number of axes, if known."""
        shape = self.shape
        return None if shape is None else len(shape)

    @property
    def is_input(self) -> bool:
        """True for an input of a graph or function, with or without a default."""
        return self.producer is None and self.graph is not None and self in self.graph._inputs

    @property
    def is_output(self) -> bool:
        """True when some graph gives the value as an output."""
        return self.output_uses > 0

    @property
    def home(self) -> Graph | None:
        """The graph in which the value is computed, fed or held; None for one that stands nowhere."""
        return self.producer.graph if self.producer is not None else self.graph

    @property
    def constant(self) -> Tensor | None:
        """The elements, when nobody can change them: a dense initializer that is no graph input."""
        return self.const if isinstance(self.const, Tensor) and not self.is_input else None

    def users(self) -> list[Node]:
        """The nodes that take the value, each once, in order of first use."""
        if len(self.uses) == 1:  # nearly always
            ((user, _),) = self.uses
            return [user] if isinstance(user, Node) else []
        return list(dict.fromkeys(user for user, _ in self.uses if isinstance(user, Node)))

    def replace_uses(self, new: Value) -> None:
        """Everyone who takes this value takes ``new`` instead, graph outputs included; names stay as they are."""
        if new is self:
            return
        for user, position in list(self.uses):
            if isinstance(user, Node):
                user.set_input(position, new)
            else:
                user.set_output(position, new)

    def __repr__(self) -> str:
        return f"<Value {self.name or '?'}>"


class Node:
    """One operation. It takes part in uses and order only while it stands in a graph."""

    __slots__ = (
        "_inputs", "_next", "_order", "_outputs", "_prev", "attrs", "doc", "domain", "graph", "metadata", "name",
        "op_type", "overload", "touched",
    )  # fmt: skip

    def __init__(
        self,
        op_type: str,
        inputs: Iterable[Value | None] = (),
        attrs: Mapping[str, Any] | None = None,
        *,
        outputs: int | Sequence[Value] = 1,
        domain: str = "",
        name: str = "",
        overload: str = "",
    ) -> None:
        """``attrs`` are :class:`Attr` or plain Python values; an input of None is left out."""
        self.op_type = op_type
        self.domain = "" if domain == "ai.onnx" else domain
        self.overload = overload
        self.name = name
        self.doc = ""
        self.metadata: dict[str, str] = {}
        self.attrs: dict[str, Attr] = {key: as_attr(value) for key, value in attrs.items()} if attrs else {}
        self._inputs: tuple[Value | None, ...] = tuple(inputs)
        made = [Value() for _ in range(outputs)] if isinstance(outputs, int) else outputs
        self._outputs: tuple[Value, ...] = tuple(made)
        for index, value in enumerate(self._outputs):
            value.producer, value.index = self, index
        self.graph: Graph | None = None
        self._prev: Node | None = None
        self._next: Node | None = None
        self._order = 0
        self.touched = 0  # when it last got other inputs, attributes or types, or a value of it lost or got a user

    def touch(self) -> None:
        """Note that something about this node changed. Whoever writes attributes of a standing node says so here."""
        self.touched = Clock.now

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """The values taken, None where an optional input is left out."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values given. An optional output that nobody asked for has neither name nor uses."""
        return self._outputs

    @property
    def output(self) -> Value:
        """The first output."""
        return self._outputs[0]

    def input(self, position: int) -> Value | None:
        """The input at ``position``; None when it is left out or beyond the end."""
        return self._inputs[position] if position < len(self._inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """The plain value of an attribute, or ``default``: an int, float, str (bytes where it is no UTF-8), Tensor,
        Type, Graph, or a tuple of them."""
        found = self.attrs.get(name)
        return default if found is None else found.value

    def set_input(self, position: int, value: Value | None) -> None:
        """Take ``value``, None for one left out, at ``position``. Raises IndexError where there is no such input."""
        old = self._inputs[position]
        if old is value:
            return
        self._inputs = (*self._inputs[:position], value, *self._inputs[position + 1 :])
        if self.graph is not None:
            self.touched = Clock.now
            if old is not None:
                old.uses.pop((self, position), None)
                if old.producer is not None:
                    old.producer.touched = Clock.now
            if value is not None:
                value.uses[self, position] = None

    def resize_inputs(self, values: Iterable[Value | None]) -> None:
        """Take ``values`` instead of all inputs there were."""
        standing = self.graph is not None
        if standing:
            _release(self)
        self._inputs = tuple(values)
        if standing:
            _claim(self)

    def add_output(self) -> Value:
        """A further output, behind those that there are. What the operator gives there is the caller's knowledge."""
        value = Value()
        value.producer, value.index = self, len(self._outputs)
        self._outputs = (*self._outputs, value)
        self.touched = Clock.now
        return value

    def subgraphs(self) -> Iterator[Graph]:
        """The graphs among the attributes, in order."""
        return chain.from_iterable(attr.graphs() for attr in self.attrs.values()) if self.attrs else iter(())

    @property
    def order(self) -> int:
        """A label that grows along the graph. It may change when nodes are added or moved; do not keep it."""
        return self._order

    def before(self, other: Node) -> bool:
        """True when this node stands before ``other`` in the same graph; constant time."""
        return self._order < other._order

    def is_op(self, *op_types: str) -> bool:
        """True for a standard ONNX operator of one of these types."""
        return not self.domain and self.op_type in op_types

    def __repr__(self) -> str:
        kind = f"{self.domain}:{self.op_type}" if self.domain else self.op_type
        label = self.name or (self._outputs[0].name if self._outputs else "")
        return f"<{kind} {label}>"


class Graph:
    """Inputs, constants, nodes in execution order, and outputs. Iterating survives insertion and removal."""

    __slots__ = (
        "_count", "_first", "_holders", "_inputs", "_last", "_outputs", "constants", "doc", "metadata", "name", "owner",
    )  # fmt: skip

    def __init__(self, name: str = "") -> None:
        """``owner`` is the node of which this is a subgraph; None at the top and for a function's body."""
        self.name = name
        self.doc = ""
        self.metadata: dict[str, str] = {}
        self.owner: Node | None = None
        self.constants: dict[Value, None] = {}
        self._inputs: dict[Value, None] = {}
        self._outputs: list[Value] = []
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0
        self._holders: dict[Node, None] = {}  # the nodes with subgraphs, so that nobody has to look for them

    # Inputs, outputs and constants

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The inputs in order, those with a default included."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The outputs in order; one value may be given more than once."""
        return tuple(self._outputs)

    def add_input(self, value: Value) -> Value:
        """Append an input."""
        value.graph = self
        self._inputs[value] = None
        return value

    def remove_input(self, value: Value) -> None:
        """Take an input off the list. One with a default lives on as a constant. Raises KeyError for none of it."""
        del self._inputs[value]
        for user in value.users():
            user.touched = Clock.now

    def add_output(self, value: Value) -> None:
        """Append an output."""
        self._outputs.append(value)
        value.uses[self, len(self._outputs) - 1] = None
        value.output_uses += 1

    def set_output(self, position: int, value: Value) -> None:
        """Give ``value`` at ``position``. Names are not touched: the caller keeps the promise to the outside. Raises
        IndexError where there is no such output."""
        old = self._outputs[position]
        if old is value:
            return
        old.uses.pop((self, position), None)
        old.output_uses -= 1
        if old.producer is not None:
            old.producer.touched = Clock.now
        self._outputs[position] = value
        value.uses[self, position] = None
        value.output_uses += 1

    def add_constant(self, value: Value | Tensor | SparseTensor, name: str = "") -> Value:
        """Make a tensor, or a value that holds one, a constant of this graph."""
        if not isinstance(value, Value):
            type = TensorType(value.dtype, value.shape, isinstance(value, SparseTensor))
            value = Value(name or value.name, type, value)
        value.graph = self
        self.constants[value] = None
        return value

    def remove_constant(self, value: Value) -> None:
        """Forget an unused constant. Raises ValueError when someone takes it."""
        if value.uses:
            raise ValueError(f"{value!r} is still used")
        self.constants.pop(value, None)

    # Nodes

    def __iter__(self) -> Iterator[Node]:
        node = self._first
        while node is not None:
            following = node._next
            yield node
            # A node inserted right after this one is visited; one removed from under us is stepped over.
            node = node._next if node.graph is self else _standing(following, self)

    def __reversed__(self) -> Iterator[Node]:
        node = self._last
        while node is not None:
            previous = node._prev
            yield node
            while previous is not None and previous.graph is not self:
                previous = previous._prev
            node = node._prev if node.graph is self else previous

    def __len__(self) -> int:
        return self._count

    def append(self, node: Node) -> Node:
        """Put ``node`` last. Raises ValueError when it stands in a graph already."""
        return self._link(node, self._last, None)

    def insert_before(self, anchor: Node, node: Node) -> Node:
        """Put ``node`` right before ``anchor``, of this graph. Raises ValueError when it stands in a graph already."""
        return self._link(node, anchor._prev, anchor)

    def insert_after(self, anchor: Node | None, node: Node) -> Node:
        """Put ``node`` right after ``anchor``; first of all when that is None. Raises ValueError when it stands in a
        graph already."""
        return self._link(node, anchor, anchor._next if anchor is not None else self._first)

    def remove(self, node: Node) -> None:
        """Take ``node`` out. Raises ValueError while someone uses an output of it."""
        for value in node._outputs:
            if value.uses:
                raise ValueError(f"{value!r} of {node!r} is still used")
        _release(node)
        self._unlink(node)

    def move_before(self, anchor: Node, node: Node) -> None:
        """Stand ``node`` before ``anchor``, uses untouched."""
        self._unlink(node)
        self._place(node, anchor._prev, anchor)

    def inline_before(self, anchor: Node, inner: Graph) -> tuple[Value, ...]:
        """Move the nodes and constants of ``inner``, a subgraph of ``anchor``, in front of it; give its outputs.

        ``inner`` is left empty, without outputs. Uses of the moved nodes stay as they are.
        """
        for node in inner:
            inner._unlink(node)
            self._place(node, anchor._prev, anchor)
            node.touched = Clock.now
        for value in inner.constants:
            value.graph = self
            self.constants[value] = None
        inner.constants = {}
        given = inner.outputs
        for position, value in enumerate(given):
            value.uses.pop((inner, position), None)
            value.output_uses -= 1
        inner._outputs = []
        return given

    def sort(self) -> None:
        """Stable topological order (Kahn, earliest label first), iterative, O((n + e) log n).

        Raises ValueError naming a node on a cycle.
        """
        from heapq import heapify, heappop, heappush

        nodes = list(self)
        position = {node: i for i, node in enumerate(nodes)}
        waiting = [0] * len(nodes)
        followers: list[list[int]] = [[] for _ in nodes]
        for i, node in enumerate(nodes):
            needed = {position[v.producer] for v in dependencies(node) if v.producer in position}
            waiting[i] = len(needed)
            for j in needed:
                followers[j].append(i)
        ready = [i for i, n in enumerate(waiting) if n == 0]
        heapify(ready)
        order: list[int] = []
        while ready:
            i = heappop(ready)
            order.append(i)
            for j in followers[i]:
                waiting[j] -= 1
                if waiting[j] == 0:
                    heappush(ready, j)
        if len(order) < len(nodes):
            i, seen = next(i for i, n in enumerate(waiting) if n), set()
            while i not in seen:  # upstream from any node that waits, the first one met again is on a cycle
                seen.add(i)
                makers = (v.producer for v in dependencies(nodes[i]))
                i = next(position[n] for n in makers if n in position and waiting[position[n]])
            raise ValueError(f"{nodes[i]!r} takes part in a cycle")
        if order != sorted(order):
            self._first = self._last = None
            for node in nodes:
                node._prev = node._next = None
            self._count = 0
            self._holders = {}
            for i in order:
                self._place(nodes[i], self._last, None)

    def all_nodes(self) -> Iterator[Node]:
        """Every node, those of nested subgraphs right after the node that holds them."""
        stack: list[Iterator[Node]] = [iter(self)]
        while stack:
            for node in stack[-1]:
                yield node
                inner = list(node.subgraphs())
                if inner:
                    stack.extend(iter(graph) for graph in reversed(inner))
                    break
            else:
                stack.pop()

    def all_graphs(self) -> Iterator[Graph]:
        """This graph and every graph nested in it, outer before inner."""
        stack = [self]
        while stack:
            graph = stack.pop()
            yield graph
            if graph._holders:
                inner = [sub for node in sorted(graph._holders, key=_order_of) for sub in node.subgraphs()]
                stack.extend(reversed(inner))

    def _link(self, node: Node, left: Node | None, right: Node | None) -> Node:
        if node.graph is not None:
            raise ValueError(f"{node!r} stands in a graph already")
        self._place(node, left, right)
        _claim(node)
        return node

    def _place(self, node: Node, left: Node | None, right: Node | None) -> None:
        node.graph, node._prev, node._next = self, left, right
        if left is None:
            self._first = node
        else:
            left._next = node
        if right is None:
            self._last = node
        else:
            right._prev = node
        self._count += 1
        if node.attrs and next(node.subgraphs(), None) is not None:
            self._holders[node] = None
        self._label(node)

    def _unlink(self, node: Node) -> None:
        left, right = node._prev, node._next
        if left is None:
            self._first = right
        else:
            left._next = right
        if right is None:
            self._last = left
        else:
            right._prev = left
        node.graph = None  # the links stay, so that an iterator standing here finds its way
        self._count -= 1
        if self._holders:
            self._holders.pop(node, None)

    def _label(self, node: Node) -> None:
        """Give ``node`` a number between its neighbours'.

        When there is none left, as many followers as it takes to make room are numbered anew: O(log n) amortized
        (Dietz and Sleator, 1987).
        """
        low = node._prev._order if node._prev is not None else None
        high = node._next._order if node._next is not None else None
        if high is None:
            node._order = (low or 0) + _GAP
        elif low is None:
            node._order = high - _GAP
        elif high - low > 1:
            node._order = (low + high) // 2
        else:
            crowd, right = [node], node._next
            while right is not None and right._order - low <= len(crowd) ** 2:
                crowd.append(right)
                right = right._next
            room = (right._order if right is not None else low + (len(crowd) + 1) * _GAP) - low
            for i, each in enumerate(crowd, 1):
                each._order = low + room * i // (len(crowd) + 1)

    def __repr__(self) -> str:
        return f"<Graph {self.name} of {self._count} nodes>"


def dependencies(node: Node) -> Iterator[Value]:
    """The values that ``node`` needs: its inputs, and what its subgraphs capture or use inside."""
    stack = [node]
    while stack:
        current = stack.pop()
        for value in current._inputs:
            if value is not None:
                yield value
        for graph in current.subgraphs():
            yield from graph._outputs
            stack.extend(graph)


def _claim(node: Node) -> None:
    node.touched = Clock.now
    for position, value in enumerate(node._inputs):
        if value is not None:
            value.uses[node, position] = None
    if not node.attrs:
        return
    for graph in node.subgraphs():
        graph.owner = node
        for position, value in enumerate(graph._outputs):
            if (graph, position) not in value.uses:
                value.uses[graph, position] = None
                value.output_uses += 1
        for inner in graph:
            _claim(inner)


def _release(node: Node) -> None:
    for position, value in enumerate(node._inputs):
        if value is not None:
            value.uses.pop((node, position), None)
            if value.producer is not None:
                value.producer.touched = Clock.now
    if not node.attrs:
        return
    for graph in node.subgraphs():
        for position, value in enumerate(graph._outputs):
            if value.uses.pop((graph, position), 0) is None:
                value.output_uses -= 1
        for inner in graph:
            _release(inner)


def _order_of(node: Node) -> int:
    return node._order


def _standing(node: Node | None, graph: Graph) -> Node | None:
    while node is not None and node.graph is not graph:
        node = node._next
    return node
