"""Each way in which a graph can be wrong is found, and the message says where."""

from collections.abc import Callable

import pytest

from qcompiler.dtypes import DType
from qcompiler.errors import VerifyError
from qcompiler.ir import Function, Graph, Model, Node, TensorType, Value, surroundings, tensor, verify

Chain = Callable[..., Model]


def find(model: Model, op_type: str) -> Node:
    return next(node for node in model.graph.all_nodes() if node.op_type == op_type)


def complaint(model: Model) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sound_models_pass(chain: Chain, branching: Model) -> None:
    verify(chain("Relu", "Neg"))
    verify(branching)


# Order and scope


def test_used_before_it_is_defined(chain: Chain) -> None:
    model = chain("Relu", "Neg", "Abs")
    model.graph.move_before(find(model, "Relu"), find(model, "Neg"))
    found = complaint(model)
    assert found.startswith("<Neg b> takes <Value a> as input 0 before it is defined or out of its scope in graph 'g'")
    assert "-> b = Neg(a) | a = Relu(x) | c = Abs(b)" in found


def test_a_value_that_nobody_defines(chain: Chain) -> None:
    model = chain("Relu")
    find(model, "Relu").set_input(0, Value("nowhere"))
    assert "takes <Value nowhere> as input 0 before it is defined" in complaint(model)


def test_an_input_taken_off_the_list_while_used(chain: Chain) -> None:
    model = chain("Relu")
    model.graph.remove_input(model.graph.inputs[0])
    assert "<Relu a> takes <Value x> as input 0 before it is defined" in complaint(model)


@pytest.mark.parametrize(("taker", "taken"), [("Neg", "t"), ("Neg", "k"), ("Add", "e"), ("Add", "m"), ("Relu", "k")])
def test_values_of_a_branch_stay_in_it(branching: Model, taker: str, taken: str) -> None:
    _, then, other = branching.graphs()
    m = other.add_constant(tensor([1.0, 2.0], DType.FLOAT), "m")
    values = {"t": then.outputs[0], "k": next(iter(then.constants)), "e": other.outputs[0], "m": m}
    find(branching, taker).set_input(0, values[taken])
    assert f"takes <Value {taken}> as input 0 before it is defined or out of its scope" in complaint(branching)


def test_a_branch_cannot_take_what_its_own_node_makes(branching: Model) -> None:
    find(branching, "Neg").set_input(0, find(branching, "If").output)
    assert "<Neg e> takes <Value y> as input 0 before it is defined" in complaint(branching)


def test_an_output_from_inside_a_branch(branching: Model) -> None:
    branching.graph.set_output(0, find(branching, "Neg").output)
    assert complaint(branching) == "output 0 of graph 'g' (<Value e>) is not defined in it"


def test_functions_are_verified_too(chain: Chain) -> None:
    model, body = chain("Relu"), Graph("body")
    body.add_output(Value("nowhere"))
    model.functions["f", "f", ""] = Function("f", "f", body, {})
    assert complaint(model) == "output 0 of graph 'body' (<Value nowhere>) is not defined in it"


# Mirrors


def test_a_missing_use(chain: Chain) -> None:
    model = chain("Relu")
    model.graph.inputs[0].uses.clear()
    assert "<Relu a> takes <Value x> as input 0, which does not list the use" in complaint(model)


def test_a_missing_use_by_the_graph(chain: Chain) -> None:
    model = chain("Relu")
    a = find(model, "Relu").output
    a.uses.clear()
    a.output_uses = 0
    assert complaint(model) == "output 0 of graph 'g' is no use of <Value a>"


@pytest.mark.parametrize("kind", ["input", "constant", "output of a node"])
@pytest.mark.parametrize("user", ["position", "other value", "other graph", "detached", "foreign"])
def test_a_use_that_is_not_there(chain: Chain, kind: str, user: str) -> None:
    model, other = chain("Relu", "Neg"), chain("Abs")
    constant = model.graph.add_constant(tensor([1.0, 2.0], DType.FLOAT), "k")
    value = {"input": model.graph.inputs[0], "constant": constant}.get(kind, find(model, "Relu").output)
    if user == "foreign":
        find(other, "Abs").set_input(0, value)
    else:
        taker = find(model, "Neg" if kind == "input" else "Relu")
        place = {"position": (find(model, "Neg"), 1), "other value": (taker, 0), "other graph": (find(other, "Abs"), 0)}
        value.uses[place.get(user, (Node("Abs", [value]), 0))] = None
    assert "lists a use by <" in complaint(model)


def test_a_wrong_count_of_outputs(chain: Chain) -> None:
    model = chain("Relu")
    find(model, "Relu").output.output_uses = 2
    assert "is an output 1 times and counts 2" in complaint(model)


def test_a_foreign_producer(chain: Chain) -> None:
    model = chain("Relu")
    find(model, "Relu").output.producer = Node("Abs")
    assert "<Relu a> gives <Value a> as output 0, which names another producer" in complaint(model)


def test_an_output_at_another_index(chain: Chain) -> None:
    model = chain("Relu")
    find(model, "Relu").output.index = 1
    assert "gives <Value a> as output 0, which names another producer" in complaint(model)


def test_an_input_with_a_producer(chain: Chain) -> None:
    model = chain("Relu")
    model.graph.inputs[0].producer = find(model, "Relu")
    assert complaint(model) == "<Value x> has no producer in graph 'g', yet names <Relu a>"


def test_a_node_that_claims_another_graph() -> None:
    graph = Graph("g")
    graph.append(Node("Foo", outputs=[Value("a")])).graph = Graph("other")
    model = Model(graph, {})
    assert "<Foo a> is linked into a graph that it does not claim in graph 'g'" in complaint(model)


def test_a_constant_of_another_graph(chain: Chain) -> None:
    model = chain("Relu")
    model.graph.inputs[0].graph = Graph("other")
    assert complaint(model) == "<Value x> stands in graph 'g' but belongs to another"


def test_order_labels_that_do_not_grow(chain: Chain) -> None:
    model = chain("Relu", "Neg")
    find(model, "Neg")._order = 0
    assert "<Neg b> has an order label that is not above that of <Relu a>" in complaint(model)


# Constants


def test_a_constant_of_another_type_than_it_claims(chain: Chain) -> None:
    model = chain("Relu")
    constant = model.graph.add_constant(tensor([1.0], DType.FLOAT), "k")
    constant.type = TensorType(DType.INT64, (1,))
    assert complaint(model) == "constant <Value k> is typed INT64 but holds FLOAT"


def test_a_constant_without_elements(chain: Chain) -> None:
    model = chain("Relu")
    model.graph.add_constant(Value("k"))
    assert complaint(model) == "constant <Value k> of graph 'g' has no elements"


# What is told


def test_ten_nodes_around_the_culprit_are_shown(chain: Chain) -> None:
    nodes = list(chain(*(f"Op{i}" for i in range(16))).graph)
    lines = surroundings(nodes[8]).splitlines()
    assert len(lines) == 10 and [line for line in lines if line.startswith("-> ")] == ["-> i = Op8(h)"]
    assert surroundings(nodes[0]).splitlines()[0] == "-> a = Op0(x)" and len(surroundings(nodes[0]).splitlines()) == 10
    assert surroundings(nodes[1], 3).splitlines() == ["   a = Op0(x)", "-> b = Op1(a)", "   c = Op2(b)"]
