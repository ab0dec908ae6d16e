"""One write path: uses mirror inputs and outputs whatever is done to a graph, and iterating survives it."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import Graph, Model, Node, TensorType, Value, dependencies, tensor, verify

Chain = Callable[..., Model]


def ops(graph: Graph) -> list[str]:
    return [node.op_type for node in graph]


def find(model: Model, op_type: str) -> Node:
    return next(node for node in model.graph.all_nodes() if node.op_type == op_type)


def nodes_of(count: int) -> tuple[Graph, list[Node]]:
    graph = Graph()
    return graph, [graph.append(Node(f"Op{i}", outputs=0)) for i in range(count)]


# Uses


def test_a_use_is_a_user_and_a_position() -> None:
    graph, x = Graph(), Value("x")
    graph.add_input(x)
    node = graph.append(Node("Add", [x, x]))
    graph.add_output(x)
    assert list(x.uses) == [(node, 0), (node, 1), (graph, 0)]
    assert x.users() == [node] and x.is_output and x.is_input


def test_a_node_uses_nothing_while_it_stands_nowhere() -> None:
    x = Value("x")
    node = Node("Relu", [x])
    assert not x.uses
    node.set_input(0, y := Value("y"))
    assert not y.uses and node.inputs == (y,)


def test_set_input_moves_the_use(chain: Chain) -> None:
    model = chain("Relu", "Neg")
    (x,), neg = model.graph.inputs, find(model, "Neg")
    neg.set_input(0, x)
    assert (neg, 0) in x.uses and not find(model, "Relu").output.uses
    neg.set_input(0, None)
    assert (neg, 0) not in x.uses and neg.input(0) is None and neg.input(7) is None


def test_resize_inputs_takes_exactly_the_new_ones(chain: Chain) -> None:
    model = chain("Relu")
    (x,), relu = model.graph.inputs, find(model, "Relu")
    relu.resize_inputs([None, x, x])
    assert list(x.uses) == [(relu, 1), (relu, 2)]
    relu.resize_inputs([])
    assert not x.uses


def test_replace_uses_moves_nodes_and_outputs(chain: Chain) -> None:
    model = chain("Relu")
    (x,), relu = model.graph.inputs, find(model, "Relu")
    relu.output.replace_uses(x)
    assert model.graph.outputs == (x,) and not relu.output.uses and not relu.output.is_output
    x.replace_uses(x)
    assert list(x.uses) == [(relu, 0), (model.graph, 0)]


def test_one_value_may_be_given_as_several_outputs(chain: Chain) -> None:
    model = chain("Relu")
    graph, a = model.graph, find(model, "Relu").output
    graph.add_output(a)
    graph.set_output(0, graph.inputs[0])
    assert graph.outputs == (graph.inputs[0], a) and a.is_output
    graph.set_output(1, graph.inputs[0])
    assert not a.is_output and graph.inputs[0].output_uses == 2
    verify(model)


def test_a_used_node_or_constant_cannot_be_removed(chain: Chain) -> None:
    model = chain("Relu", "Neg")
    graph = model.graph
    c = graph.add_constant(tensor([1.0, 1.0], DType.FLOAT), "c")
    find(model, "Neg").set_input(0, c)
    with pytest.raises(ValueError, match="<Value c> is still used"):
        graph.remove_constant(c)
    graph.remove(find(model, "Relu"))
    assert not graph.inputs[0].uses
    with pytest.raises(ValueError, match="<Value b> of <Neg b> is still used"):
        graph.remove(find(model, "Neg"))


def test_a_node_stands_in_one_graph(chain: Chain) -> None:
    model = chain("Relu")
    with pytest.raises(ValueError, match="stands in a graph already"):
        Graph().append(find(model, "Relu"))


def test_an_input_with_a_default_is_no_constant_until_it_is_no_input() -> None:
    graph = Graph()
    w = graph.add_constant(graph.add_input(Value("w", None, tensor([1.0], DType.FLOAT))))
    assert w.is_input and w.constant is None
    graph.remove_input(w)
    assert w.constant is w.const and not graph.inputs and list(graph.constants) == [w]


def test_an_added_constant_is_typed_by_its_tensor() -> None:
    value = Graph().add_constant(tensor([[1, 2]], DType.INT8), "k")
    assert (value.name, value.type, value.shape, value.rank) == ("k", TensorType(DType.INT8, (1, 2)), (1, 2), 2)


def test_the_standard_domain_has_two_names() -> None:
    for domain in ("", "ai.onnx"):
        node = Node("Relu", domain=domain)
        assert node.domain == "" and node.is_op("Neg", "Relu") and not node.is_op("Neg")
    assert not Node("Relu", domain="other").is_op("Relu")


def test_what_things_are_called_in_messages() -> None:
    assert repr(Node("Relu", name="n", outputs=[Value("y")])) == "<Relu n>"
    assert repr(Node("Relu", outputs=[Value("y")])) == "<Relu y>"
    assert repr(Node("Relu", domain="d", outputs=0)) == "<d:Relu >"
    assert (repr(Value("y")), repr(Value())) == ("<Value y>", "<Value ?>")
    assert repr(Graph("g")) == "<Graph g of 0 nodes>"


# The list of nodes


def test_insertion_and_removal_by_place() -> None:
    graph, (a, b) = nodes_of(2)
    graph.insert_before(a, Node("First", outputs=0))
    graph.insert_after(a, Node("Middle", outputs=0))
    graph.insert_after(None, Node("VeryFirst", outputs=0))
    graph.insert_after(b, Node("Last", outputs=0))
    assert ops(graph) == ["VeryFirst", "First", "Op0", "Middle", "Op1", "Last"]
    graph.move_before(a, b)
    graph.remove(a)
    assert ops(graph) == ["VeryFirst", "First", "Op1", "Middle", "Last"] and len(graph) == 5
    assert [node.op_type for node in reversed(graph)] == ops(graph)[::-1]


def test_a_node_inserted_behind_the_current_one_is_visited() -> None:
    graph, _ = nodes_of(2)
    seen = []
    for node in graph:
        seen.append(node.op_type)
        if node.op_type == "Op0":
            graph.insert_before(node, Node("Before", outputs=0))
            graph.insert_after(node, Node("After", outputs=0))
    assert seen == ["Op0", "After", "Op1"]


@pytest.mark.parametrize("gone", [[0], [1], [0, 1], [0, 1, 2], [0, 2], [1, 2], [0, 1, 2, 3, 4]])
def test_iteration_steps_over_what_is_removed_under_it(gone: list[int]) -> None:
    graph, nodes = nodes_of(5)
    seen = []
    for node in graph:
        seen.append(node)
        if node is nodes[0]:
            for i in gone:
                graph.remove(nodes[i])
    assert seen == [nodes[0], *(node for i, node in enumerate(nodes[1:], 1) if i not in gone)]


@pytest.mark.parametrize("gone", [[4], [3], [4, 3], [4, 3, 2], [3, 4], [4, 2], [4, 3, 2, 1, 0]])
def test_iteration_backwards_steps_over_what_is_removed_under_it(gone: list[int]) -> None:
    graph, nodes = nodes_of(5)
    seen = []
    for node in reversed(graph):
        seen.append(node)
        if node is nodes[4]:
            for i in gone:
                graph.remove(nodes[i])
    assert seen == [nodes[4], *(nodes[i] for i in (3, 2, 1, 0) if i not in gone)]


@pytest.mark.parametrize("where", ["before", "after", "front", "anywhere near"])
def test_order_holds_under_many_insertions_at_one_place(where: str) -> None:
    graph, (a, b) = nodes_of(2)
    choice = random.Random(0).choice
    for _ in range(3000):
        node = Node("New", outputs=0)
        if where == "before":
            graph.insert_before(b, node)
        elif where == "anywhere near":
            a = graph.insert_after(choice([a, a, b]), node)
        else:
            graph.insert_after(a if where == "after" else None, node)
    nodes = list(graph)
    assert len(nodes) == 3002
    assert all(left.before(right) and not right.before(left) for left, right in pairwise(nodes))


# Order


def test_sort_is_stable_and_moves_only_what_has_to() -> None:
    graph = Graph()
    x, late = graph.add_input(Value("x")), Value("late")
    graph.append(Node("A", [late]))
    graph.append(Node("B", [x]))
    graph.append(Node("Makes", [x], outputs=[late]))
    graph.append(Node("C", [x]))
    graph.sort()
    assert ops(graph) == ["B", "Makes", "A", "C"]
    verify(Model(graph, {}))


def test_sort_leaves_a_sorted_graph_as_it_is(chain: Chain) -> None:
    graph = chain("Relu", "Neg", "Abs").graph
    before = list(graph)
    graph.sort()
    assert list(graph) == before


def test_sort_counts_what_a_subgraph_captures(branching: Model) -> None:
    graph, relu = branching.graph, find(branching, "Relu")
    graph.move_before(find(branching, "If"), relu)
    graph.move_before(relu, find(branching, "If"))
    assert ops(graph) == ["If", "Relu"]
    graph.sort()
    assert ops(graph) == ["Relu", "If"]
    verify(branching)


def test_sort_names_a_node_on_the_cycle_and_not_one_behind_it() -> None:
    graph, a, b = Graph(), Value("a"), Value("b")
    graph.append(Node("Behind", [b]))
    graph.append(Node("One", [a], outputs=[b]))
    graph.append(Node("Other", [b], outputs=[a]))
    with pytest.raises(ValueError, match=r"<(One b|Other a)> takes part in a cycle"):
        graph.sort()


def test_sort_does_not_recurse() -> None:
    graph, values = Graph(), [Value() for _ in range(20_001)]
    graph.add_input(values[0])
    for i in reversed(range(20_000)):
        graph.append(Node("Relu", [values[i]], outputs=[values[i + 1]]))
    graph.sort()
    assert [node.output for node in graph] == values[1:]


# Subgraphs


def test_what_a_branch_captures_is_a_use_of_the_outer_value(branching: Model) -> None:
    relu = find(branching, "Relu")
    assert relu.output.users() == [find(branching, "Add"), find(branching, "Neg")]
    with pytest.raises(ValueError, match="still used"):
        branching.graph.remove(relu)


def test_replacing_an_outer_value_reaches_into_branches(branching: Model) -> None:
    relu, x = find(branching, "Relu"), branching.graph.inputs[0]
    relu.output.replace_uses(x)
    branching.graph.remove(relu)
    assert find(branching, "Add").inputs[0] is x and find(branching, "Neg").inputs[0] is x
    verify(branching)


def test_a_removed_node_lets_go_of_what_its_branches_captured(branching: Model) -> None:
    graph, relu, node = branching.graph, find(branching, "Relu"), find(branching, "If")
    graph.set_output(0, relu.output)
    graph.remove(node)
    assert list(relu.output.uses) == [(graph, 0)]
    graph.append(node)
    assert len(relu.output.users()) == 2
    verify(branching)


def test_an_outer_value_given_by_a_branch_is_held_by_it() -> None:
    graph, body = Graph("g"), Graph("body")
    x = graph.add_input(Value("x"))
    body.add_output(x)
    node = graph.append(Node("If", [x], {"then_branch": body}))
    assert x.output_uses == 1 and list(dependencies(node)) == [x, x]
    graph.remove(node)
    assert not x.uses and x.output_uses == 0


def test_dependencies_are_inputs_and_captures(branching: Model) -> None:
    named = [value.name for value in dependencies(find(branching, "If"))]
    assert set(named) == {"c", "r", "k", "t", "e"}


def test_walks_go_into_subgraphs_outer_before_inner(branching: Model) -> None:
    assert [node.op_type for node in branching.graph.all_nodes()] == ["Relu", "If", "Add", "Neg"]
    assert [graph.name for graph in branching.graphs()] == ["g", "then", "else"]
    assert all(graph.owner is find(branching, "If") for graph in branching.graphs() if graph.name != "g")


def test_deep_graphs_are_walked_without_recursion() -> None:
    graph = Graph()
    value = graph.add_input(Value("x", TensorType(DType.FLOAT, ())))
    for _ in range(5000):
        value = graph.append(Node("Relu", [value])).output
    graph.add_output(value)
    model = Model(graph, {"": 17})
    verify(model)
    assert sum(1 for _ in model.nodes()) == sum(1 for _ in graph.all_nodes()) == 5000
