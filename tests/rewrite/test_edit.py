"""The few ways in which passes change a graph."""

from collections.abc import Callable

import numpy as np
import pytest

from qcompiler.ir import Model, Node, Value, tensor, verify
from qcompiler.rewrite import can_replace, drop_constant_if_unused, erase_dead, replace_value

Read = Callable[..., Model]


def values(model: Model) -> dict[str, Value]:
    found = {}
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.constants, *(v for node in graph for v in node.outputs)):
            found[value.name] = value
    return found


@pytest.mark.parametrize(("old", "new", "can"), [("y", "a", True), ("y", "x", False), ("y", "z", False),
                                                 ("y", "k", False), ("a", "x", True), ("p", "a", False),
                                                 ("p", "i", True)])  # fmt: skip
def test_when_an_output_can_be_replaced_by_name(read: Read, old: str, new: str, can: bool) -> None:
    model = read("""g (float x, bool c) => (float y, float z, float w) <float k = {1}> {
        a = Abs(x) b = Add(a, k) y = Neg(b) z = Relu(x)
        w = If(c) <then_branch = t () => (float p) { i = Abs(a) p = Neg(i) }, else_branch = e () => (float q) { q = Neg(x) }> }""")
    found = values(model)
    assert can_replace(found[old], found[new]) is can


def test_an_identity_stands_behind_both(read: Read) -> None:
    for text in ("y = Neg(x) z = Abs(x)", "z = Abs(x) y = Neg(x)"):
        model = read(f"g (float x) => (float y, float z) {{ {text} w = Relu(y) }}")
        found = values(model)
        holder = replace_value(found["y"], found["z"])
        assert holder is not None and holder.op_type == "Identity"
        verify(model)
        assert [value.name for value in model.graph.outputs] == ["y", "z"]
        assert found["w"].producer is not None and found["w"].producer.inputs == (found["z"],)


def test_an_inner_name_passes_on_only_to_what_has_none(read: Read) -> None:
    model = read("g (float x) => (float y) { a = Abs(x) b = Neg(x) y = Add(a, b) }")
    found = values(model)
    new = model.graph.insert_after(None, Node("Foo", [found["x"]])).output
    assert replace_value(found["a"], new) is None and (new.name, found["a"].name) == ("a", "")
    assert replace_value(found["b"], new) is None and (new.name, found["b"].name) == ("a", "b")
    assert new.type is found["a"].type
    verify(model)


def test_what_dies_takes_with_it_what_only_it_used(read: Read) -> None:
    model = read("""g (float x, bool c) => (float y) <float k = {1}, float m = {2}> {
        a = Abs(x) b = Add(a, k) d = Mul(b, m) e = Neg(a)
        w = If(c) <then_branch = t () => (float p) { p = Add(d, m) }, else_branch = e () => (float q) { q = Neg(e) }>
        y = Relu(a) }""")
    found, removed = values(model), []
    assert erase_dead([found["a"].producer], removed) == [] == removed  # it is used
    alive = erase_dead([found["w"].producer], removed)
    verify(model)
    assert [node.op_type for node in model.graph] == ["Abs", "Relu"]
    assert {node.op_type for node in removed} == {"If", "Mul", "Add", "Neg"}
    assert not model.graph.constants and set(alive) == {found["a"]} and not found["c"].uses


def test_what_is_not_pure_stays_unless_it_was_matched(read: Read) -> None:
    model = read("g (float x) => (float y) { r = RandomUniformLike(x) f = t.Foo(r) y = Relu(x) }")
    foo = values(model)["f"].producer
    assert foo is not None
    assert erase_dead([foo]) == [] and len(model.graph) == 3
    erase_dead([foo], matched=[foo])
    assert [node.op_type for node in model.graph] == ["RandomUniformLike", "Relu"]


def test_a_node_with_a_random_branch_stays(read: Read) -> None:
    text = """g (float x, bool c) => (float y) { y = Relu(x)
        w = If(c) <then_branch = t () => (float p) { p = %s(x) }, else_branch = e () => (float q) { q = Neg(x) }> }"""
    for kind, left in (("Abs", 1), ("Bernoulli", 2)):
        model = read(text % kind)
        erase_dead([values(model)["w"].producer])
        assert len(model.graph) == left


def test_constants_that_nobody_can_see_are_dropped(read: Read) -> None:
    model = read("g (float x, float d = {1}) => (float y, float k) <float k = {1}, float m = {2}> { y = Add(x, m) }")
    unused = model.graph.add_constant(tensor(np.float32(3)), "unused")
    found = values(model)
    dropped = {name for name, value in found.items() if drop_constant_if_unused(value)}
    assert dropped == {"unused"} and unused not in model.graph.constants
    assert not drop_constant_if_unused(unused)
