"""What two models may differ in and still be the same computation, and every kind of difference that is found."""

import re
from collections.abc import Callable

import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import (
    Attr,
    AttrKind,
    Graph,
    Model,
    Node,
    SparseTensor,
    Value,
    as_attr,
    clone_model,
    difference,
    tensor,
)

Read = Callable[[str], Model]
SPARSE = SparseTensor(tensor([1.0]), tensor([0]), (3,))

BASE = """
g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
  a, b = Split <num_outputs = 2> (x)
  d = Concat <axis = 0> (a, b)
  e = Add(d, w)
  f = If (c) <then_branch = t () => (float[2] p) { p = Relu(e) }, else_branch = u () => (float[2] q) { q = Neg(e) }>
  y = local.F <n = 1> (f)
}
<domain: "local", opset_import: ["": 20]> F <n> (p) => (q) { q = Softmax <axis: int = @n> (p) }
"""


def same(read: Read, text: str) -> str:
    """The first difference, and the same verdict whichever model comes first."""
    a, b = read(BASE), read(text)
    assert bool(difference(a, b)) == bool(difference(b, a))
    return difference(a, b)


def test_a_model_is_equivalent_to_itself_and_to_another_reading(read: Read) -> None:
    model = read(BASE)
    assert difference(model, model) == "" == same(read, BASE)


def test_inner_names_and_order_and_dead_nodes_do_not_matter(read: Read) -> None:
    text = BASE.replace("a, b =", "dead = Neg(x) h, i =").replace("(a, b)", "(h, i)").replace("w", "weight")
    assert same(read, text) == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Relu(e)", "Abs(e)", "attribute then_branch of <If f> and <If f>: <Relu p> and <Abs p> are different"),
        ("Concat <axis = 0>", "Concat <axis = 1>", "attribute axis of <Concat d> and <Concat d>: 0 and 1"),
        ("Concat <axis = 0>", "Concat", r"have attributes \['axis'\] and \[\]"),
        ("Concat <axis = 0>", "Concat <axis = 0.0>", "attribute axis of <Concat d> and <Concat d>: kinds differ"),
        ("(a, b)", "(b, a)", "<Value b> is output 1 and <Value a> is output 0"),
        ("(a, b)", "(a, a)", "is output 1 and <Value a> is output 0|stands for both"),
        ("(a, b)", "(a, b, b)", "have other inputs or outputs"),
        ("Add(d, w)", "Add(w, d)", "differ in kind"),
        ("{1, 2}", "{1, 3}", "constants <Value w> and <Value w> differ"),
        ("bool c)", "bool[1] c)", "input c: "),
        ("bool c)", "bool c, bool z)", "names of inputs and outputs"),
        ("float[2] y) <", "float[2] y, float[2] e) <", "names of inputs and outputs"),
        ("x, bool c", "c, bool x", "names of inputs and outputs"),
        ("local.F <n = 1>", "local.F <n = 2>", "attribute n of <local:F y> and <local:F y>: 1 and 2"),
        ("@n", "@m", "function .*: attribute axis of .*: kinds differ"),
        ("F <n> (p)", "F <n, m> (p)", "function .*: attributes"),
        ('"": 20]> F', '"": 19]> F', "function .*: operator sets"),
        ("Add(d, w)", 'Add(d, w) j, k = Split <num_outputs = 2> (x)', "^$"),
    ],
)  # fmt: skip
def test_each_kind_of_difference_is_found(read: Read, old: str, new: str, words: str) -> None:
    assert old in BASE
    found = same(read, BASE.replace(old, new))
    assert re.search(words, found), found


def test_two_nodes_are_not_one_node_whoever_comes_first(read: Read) -> None:
    one = "g () => (float[2] y) { a = RandomNormal <shape = [2]> () y = Sub(a, a) }"
    two = "g () => (float[2] y) { a = RandomNormal <shape = [2]> () b = RandomNormal <shape = [2]> () y = Sub(a, b) }"
    split = "g (float[2] x) => (float[1] y) { a, b = Split <num_outputs = 2> (x) y = Sub(a, b) }"
    twice = "g (float[2] x) => (float[1] y) { a, c = Split <num_outputs = 2> (x) d, b = Split <num_outputs = 2> (x) y = Sub(a, b) }"
    for left, right in ((one, two), (two, one), (split, twice), (twice, split)):
        assert "stands for both" in difference(read(left), read(right))


def test_operator_sets_and_functions_are_compared(read: Read) -> None:
    a, b = read(BASE), read(BASE)
    b.opsets[""] = 19
    assert difference(a, b).startswith("operator sets")
    b = read(BASE)
    b.functions.clear()
    assert difference(a, b).startswith("functions")


def test_defaults_of_inputs_and_of_function_attributes_are_compared(read: Read) -> None:
    a = read("g (float[1] x, float[1] w = {1}) => (float[1] y) { y = Add(x, w) }")
    b = read("g (float[1] x, float[1] w = {2}) => (float[1] y) { y = Add(x, w) }")
    assert difference(a, b) == "input w: defaults differ"
    b = read("g (float[1] x, float[1] w) => (float[1] y) { y = Add(x, w) }")
    assert difference(a, b) == difference(b, a) == "input w: defaults differ"
    a, b = read(BASE), read(BASE)
    for model, default in ((a, 1), (b, 2)):
        next(iter(model.functions.values())).defaults["m"] = as_attr(default)
    assert "default of m: 1 and 2" in difference(a, b)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (float("nan"), float("nan"), True),
        (float("nan"), 1.0, False),
        (1.0, float("nan"), False),
        (SPARSE, SparseTensor(tensor([1.0]), tensor([0]), (3,)), True),
        (SPARSE, SparseTensor(tensor([2.0]), tensor([0]), (3,)), False),
        (SPARSE, SparseTensor(tensor([1.0]), tensor([1]), (3,)), False),
        (SPARSE, SparseTensor(tensor([1.0]), tensor([0]), (4,)), False),
        (SPARSE, tensor([1.0]), False),
        ([1.0, float("nan")], [1.0, float("nan")], True),
        (tensor([1.0], DType.FLOAT), tensor([1.0], DType.FLOAT), True),
        (tensor([1.0], DType.FLOAT), tensor([1.0], DType.DOUBLE), False),
        ([tensor([1], DType.INT8)], [tensor([2], DType.INT8)], False),
        (["a", "b"], ["a"], False),
        (Attr(AttrKind.GRAPHS, (Graph(), Graph())), Attr(AttrKind.GRAPHS, (Graph(),)), False),
    ],
    ids=lambda x: type(x).__name__,
)
def test_attributes_are_compared_by_what_they_hold(left: object, right: object, equal: bool) -> None:
    def model(value: object) -> Model:
        graph = Graph("g")
        graph.add_output(graph.append(Node("Foo", attrs={"v": value}, outputs=[Value("y")])).output)
        return Model(graph, {})

    assert (difference(model(left), model(right)) == "") is equal


def test_deep_models_are_compared_without_recursion() -> None:
    graph = Graph()
    value = graph.add_input(Value("x"))
    for _ in range(5000):
        value = graph.append(Node("Relu", [value])).output
    graph.add_output(value)
    model = Model(graph, {})
    assert difference(model, clone_model(model)) == ""
