"""What each piece of a pattern matches, and what it does not."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.ir import Model, Value
from qcompiler.rewrite import Match, Rewriter, Rule, any_of, const, match, maybe, op, rest, rule, skip

Read = Callable[..., Model]
Rewrite = Callable[..., list[str]]
Misses = Callable[..., list[str]]


def found(pattern: Callable[..., Any], model: Model, root: str = "y") -> Match | None:
    """The match of ``pattern`` at the node that gives ``root``."""
    made = rule(pattern)(lambda rw, m: None)
    node = next(n for graph in model.graphs() for n in graph if any(v.name == root for v in n.outputs))
    return match(made.outputs, node)


def named(m: Match | None) -> dict[str, Any]:
    """The bindings, values by name."""
    assert m is not None

    def name(bound: Any) -> Any:
        if isinstance(bound, tuple):
            return tuple(name(each) for each in bound)
        return bound.name if isinstance(bound, Value) else bound

    return {key: name(bound) for key, bound in m.bindings.items()}


# Names


def test_parameters_are_bindings_and_nodes_go_by_their_type(read: Read) -> None:
    m = found(
        lambda x, z: op.Sub(op.Relu(x), z), read("g (float a, float b) => (float y) { r = Relu(a) y = Sub(r, b) }")
    )
    assert m is not None and named(m) == {"x": "a", "z": "b"}
    assert m.x.name == "a" and m.Relu.op_type == "Relu" and m.root is m.Sub
    assert m.has("x") and m.has("Relu") and not m.has("w")
    assert [node.op_type for node in m.nodes] == ["Sub", "Relu"]
    with pytest.raises(AttributeError, match=r"the match has no 'w'; it has \['Relu', 'Sub', 'x', 'z'\]"):
        _ = m.w


def test_as_tells_nodes_of_one_type_apart(read: Read) -> None:
    model = read("g (float a) => (float y) { r = Neg(a) y = Neg(r) }")
    m = found(lambda x: op.Neg(op.Neg(x, _as="inner"), _as="outer"), model)
    assert m is not None and m.inner.output.name == "r" and m.outer.output.name == "y"


@pytest.mark.parametrize(("text", "matches"), [("Sub(a, r)", True), ("Sub(b, r)", False), ("Sub(r, a)", False)])
def test_the_same_name_twice_is_the_same_value(read: Read, text: str, matches: bool) -> None:
    model = read(f"g (float a, float b) => (float y) {{ r = Relu(a) y = {text} }}")
    assert (found(lambda x: op.Sub(x, op.Relu(x)), model) is not None) is matches


def test_a_name_is_a_value_and_never_a_left_out_input(read: Read) -> None:
    clip = lambda x, low, high: op.Clip(x, low, high)  # noqa: E731
    assert found(clip, read("g (float a, float l, float h) => (float y) { y = Clip(a, l, h) }")) is not None
    for text in ("Clip(a, l)", "Clip(a, , l)", "Clip(a)"):
        assert found(clip, read(f"g (float a, float l) => (float y) {{ y = {text} }}")) is None


def test_one_pattern_written_twice_is_one_node(read: Read) -> None:
    def diamond(x: Any) -> Any:
        s = op.Sigmoid(x)
        return op.Sub(op.Relu(s), op.Neg(s))

    one = "g (float a) => (float y) { s = Sigmoid(a) r = Relu(s) n = Neg(s) y = Sub(r, n) }"
    two = "g (float a) => (float y) { s = Sigmoid(a) t = Sigmoid(a) r = Relu(s) n = Neg(t) y = Sub(r, n) }"
    assert found(diamond, read(one)) is not None
    assert found(diamond, read(two)) is None


def test_domains_count(read: Read) -> None:
    model = read("g (float a) => (float y) { y = com.microsoft.Gelu(a) }")
    assert found(lambda x: op("com.microsoft").Gelu(x), model) is not None
    assert found(lambda x: op.Gelu(x), model) is None


# Commutative operators


@pytest.mark.parametrize("kind", ["Add", "Mul", "And", "Xor", "Max", "Equal"])
@pytest.mark.parametrize("order", [("r", "b"), ("b", "r")])
def test_two_inputs_in_either_order(read: Read, kind: str, order: tuple[str, str]) -> None:
    model = read(f"g (float a, float b) => (float y) {{ r = Relu(a) y = {kind}({', '.join(order)}) }}")
    assert named(found(lambda x, z: getattr(op, kind)(op.Relu(x), z), model)) == {"x": "a", "z": "b"}


@pytest.mark.parametrize("order", list(permutations(["r", "n", "a"])))
def test_three_inputs_in_any_order(read: Read, order: tuple[str, ...]) -> None:
    model = read(f"g (float a) => (float y) {{ r = Relu(a) n = Neg(r) y = Sum({', '.join(order)}) }}")

    def pattern(x: Any) -> Any:
        r = op.Relu(x, _shared=True)
        return op.Sum(op.Neg(r), x, r)

    assert named(found(pattern, model)) == {"x": "a"}


@pytest.mark.parametrize("outer", [("p", "q"), ("q", "p")])
@pytest.mark.parametrize("left", [("a", "s"), ("s", "a")])
@pytest.mark.parametrize("right", [("b", "s"), ("s", "b")])
def test_a_choice_that_leads_nowhere_is_taken_back(read: Read, outer: Any, left: Any, right: Any) -> None:
    """Which Mul is which shows only by the Relu further down."""
    model = read(f"""g (float a0, float b, float s) => (float y) {{
        a = Relu(a0) p = Mul({", ".join(left)}) q = Mul({", ".join(right)}) y = Add({", ".join(outer)}) }}""")
    pattern = lambda u, v, s: op.Add(op.Mul(u, s), op.Mul(op.Relu(v), s))  # noqa: E731
    assert named(found(pattern, model)) == {"u": "b", "v": "a0", "s": "s"}


@pytest.mark.parametrize("kind", ["Sub", "Div", "Pow", "MatMul"])
def test_other_operators_keep_their_order(read: Read, kind: str) -> None:
    model = read(f"g (float a, float b) => (float y) {{ r = Relu(a) y = {kind}(b, r) }}")
    assert found(lambda x, z: getattr(op, kind)(op.Relu(x), z), model) is None


def test_both_inputs_the_same(read: Read) -> None:
    assert found(lambda x: op.Add(x, x), read("g (float a) => (float y) { y = Add(a, a) }")) is not None
    assert found(lambda x: op.Add(x, x), read("g (float a, float b) => (float y) { y = Add(a, b) }")) is None
    assert named(found(lambda x, z: op.Add(x, z), read("g (float a) => (float y) { y = Add(a, a) }")))["z"] == "a"


def test_a_commutative_operator_of_fewer_inputs(read: Read) -> None:
    pattern = lambda x, z: op.Max(x, maybe(z))  # noqa: E731
    assert named(found(pattern, read("g (float a) => (float y) { y = Max(a) }"))) == {"x": "a", "z": None}
    assert found(lambda x, z: op.Max(x, z), read("g (float a) => (float y) { y = Max(a) }")) is None


# Optional inputs, optional nodes, all the rest


CONV = lambda x, w, b: op.Relu(op.Conv(x, w, maybe(b)))  # noqa: E731


@pytest.mark.parametrize(("inputs", "bias"), [("a, k", None), ("a, k, b", "b"), ("a, k, ", None)])
def test_maybe_an_input(read: Read, inputs: str, bias: str | None) -> None:
    model = read(
        f"g (float[1,1,4] a, float[1,1,2] k, float[1] b) => (float[1,1,3] y) {{ c = Conv({inputs}) y = Relu(c) }}"
    )
    m = found(CONV, model)
    assert m is not None and named(m)["b"] == bias and m.has("b") is (bias is not None)


def test_maybe_a_whole_expression(read: Read) -> None:
    pattern = lambda x, lo, hi: op.Clip(x, maybe(lo), maybe(op.Relu(hi)))  # noqa: E731
    absent = named(found(pattern, read("g (float a, float l) => (float y) { y = Clip(a, l) }")))
    assert absent == {"x": "a", "lo": "l", "hi": None}
    present = named(found(pattern, read("g (float a, float l) => (float y) { h = Relu(l) y = Clip(a, , h) }")))
    assert present == {"x": "a", "lo": None, "hi": "l"}
    assert found(pattern, read("g (float a, float l) => (float y) { h = Neg(l) y = Clip(a, , h) }")) is None


def test_everything_below_a_left_out_input_is_none(read: Read) -> None:
    def pattern(x: Any, u: Any, v: Any, w: Any, more: Any) -> Any:
        return op.Clip(x, maybe(any_of(op.Neg(u), skip("Cast", const(v)))), maybe(op.Sum(w, rest(more))))

    m = found(pattern, read("g (float a) => (float y) { y = Clip(a) }"))
    assert named(m) == {"x": "a", "u": None, "v": None, "w": None, "more": ()}


def test_left_out_inputs_at_the_end_do_not_count(read: Read) -> None:
    model = read("g (float a) => (float y) { y = Clip(a, , ) }")
    assert found(lambda x: op.Clip(x), model) is not None
    assert found(lambda x: op.Clip(x), read("g (float a) => (float y) { y = Clip(a, , a) }")) is None


def test_none_is_an_input_that_is_left_out(read: Read) -> None:
    pattern = lambda x, hi: op.Clip(x, None, hi)  # noqa: E731
    assert found(pattern, read("g (float a) => (float y) { y = Clip(a, , a) }")) is not None
    assert found(pattern, read("g (float a) => (float y) { y = Clip(a, a, a) }")) is None


@pytest.mark.parametrize(
    ("between", "skipped"),
    [("", []), ("i = Cast <to = 1> (a)", ["Cast"]), ("i = Identity(a)", ["Identity"])],
)
def test_skip_a_node_that_may_be_there(read: Read, between: str, skipped: list[str]) -> None:
    model = read(f"g (float a) => (float y) {{ {between} y = Relu({'i' if between else 'a'}) }}")
    m = found(lambda x: op.Relu(skip(("Cast", "Identity"), x)), model)
    assert m is not None and named(m) == {"x": "a"}
    assert [node.op_type for node in m.nodes] == ["Relu", *skipped]


def test_skip_falls_back_when_what_is_inside_asks_for_the_node(read: Read) -> None:
    model = read("g (float a) => (float y) { c = Cast <to = 1> (a) y = Relu(c) }")
    m = found(lambda x: op.Relu(skip("Cast", op.Cast(x))), model)
    assert m is not None and named(m) == {"x": "a"} and len(m.nodes) == 2


def test_a_skipped_node_used_elsewhere_is_no_part_of_the_match(read: Read) -> None:
    model = read("g (float a) => (float y, float z) { c = Cast <to = 1> (a) y = Relu(c) z = Neg(c) }")
    assert named(found(lambda x: op.Relu(skip("Cast", x)), model)) == {"x": "c"}


def test_skip_goes_through_first_outputs_only(read: Read) -> None:
    model = read("g (float[2] a) => (bool[2] y) { d, mask = Dropout(a) y = Not(mask) }")
    assert named(found(lambda x: op.Not(skip("Dropout", x)), model)) == {"x": "mask"}


def test_skip_finds_nothing_where_an_input_is_left_out(read: Read) -> None:
    model = read("g (float a) => (float y) { y = Clip(a) }")
    assert found(lambda x, low: op.Clip(x, skip("Cast", low)), model) is None


def test_skip_does_not_reach_out_of_a_branch(read: Read) -> None:
    model = read("""g (float a, bool b) => (float z) { c = Cast <to = 1> (a)
        z = If(b) <then_branch = t () => (float y) { y = Relu(c) }, else_branch = e () => (float q) { q = Neg(a) }> }""")
    assert named(found(lambda x: op.Relu(skip("Cast", x)), model)) == {"x": "c"}


@pytest.mark.parametrize(("text", "matches"), [("Sum(b, c, d)", True), ("Sum(b, d, c)", False), ("Sum(b, c)", False)])
def test_the_same_rest_twice_is_the_same_values(read: Read, text: str, matches: bool) -> None:
    model = read(f"g (float a, float b, float c, float d) => (float y) {{ s = Sum(a, c, d) r = {text} y = Sub(s, r) }}")
    pattern = lambda x, z, others: op.Sub(op.Sum(x, rest(others)), op.Sum(z, rest(others)))  # noqa: E731
    assert (found(pattern, model) is not None) is matches


def test_before_a_rest_the_order_counts(read: Read) -> None:
    pattern = lambda x, z, others: op.Sum(op.Neg(x), z, rest(others))  # noqa: E731
    text = "g (float a, float b, float c) => (float y) {{ n = Neg(a) y = Sum({}) }}"
    assert found(pattern, read(text.format("n, b, c"))) is not None
    assert found(pattern, read(text.format("b, n, c"))) is None


@pytest.mark.parametrize(("inputs", "bound"), [("a", ()), ("a, b", ("b",)), ("a, b, a, c", ("b", "a", "c"))])
def test_all_the_rest(read: Read, inputs: str, bound: tuple[str, ...]) -> None:
    model = read(f"g (float[1] a, float[1] b, float[1] c) => (float[n] y) {{ y = Concat <axis = 0> ({inputs}) }}")
    assert named(found(lambda x, others: op.Concat(x, rest(others)), model)) == {"x": "a", "others": bound}


def test_the_rest_needs_what_comes_before(read: Read) -> None:
    model = read("g (float[1] a) => (float[n] y) { y = Concat <axis = 0> (a) }")
    assert found(lambda x, z, others: op.Concat(x, z, rest(others)), model) is None


# Alternatives


@pytest.mark.parametrize(("text", "bound"), [("Relu(a)", "a"), ("Clip(a, b)", "a"), ("Neg(a)", None)])
def test_any_of_inside(read: Read, text: str, bound: str | None) -> None:
    model = read(f"g (float a, float b) => (float y) {{ r = {text} y = Abs(r) }}")
    m = found(lambda x, low: op.Abs(any_of(op.Relu(x), op.Clip(x, low))), model)
    assert (m and named(m)["x"]) == bound


def test_any_of_at_the_root_starts_at_each_of_its_types(rewrite: Rewrite) -> None:
    @rule(lambda x: any_of(op.Relu(op.Neg(x)), op.Abs(op.Neg(x)), op.Neg(op.Neg(x))))
    def positive(rw: Rewriter, m: Match) -> Any:
        return rw.op.Foo(m.x)

    assert list(positive.starts()) == [("", "Relu"), ("", "Abs"), ("", "Neg")]
    text = "g (float a) => (float x, float y, float z) {{ n = Neg(a) x = {}(n) o = Neg(a) y = {}(o) p = Neg(a) z = {}(p) }}"
    assert rewrite(text.format("Relu", "Abs", "Neg"), positive) == ["x = Foo(a)", "y = Foo(a)", "z = Foo(a)"]


def test_any_of_takes_back_what_a_failed_alternative_bound(read: Read) -> None:
    model = read("g (float a, float b) => (float y) { s = Sub(a, b) y = Abs(s) }")
    m = found(lambda x, z: op.Abs(any_of(op.Sub(x, op.Relu(z)), op.Sub(z, x))), model)
    assert named(m) == {"z": "a", "x": "b"}


# Constants


@pytest.mark.parametrize(
    ("held", "number", "matches"),
    [
        ("float c = {2}", 2.0, True),
        ("float[3] c = {2, 2, 2}", 2.0, True),
        ("float[2] c = {2, 3}", 2.0, False),
        ("float[0] c = {}", 2.0, False),
        ("int64 c = {2}", 2.0, True),
        ("float c = {0.1}", 0.1, True),
        ("double c = {0.1}", 0.1, True),
        ("float c = {0.100001}", 0.1, False),
        ("bool c = {1}", 1.0, False),
        ("int64 c = {0}", 0.5, False),
        ("int8 c = {44}", 300.0, False),
        ("uint8 c = {255}", -1.0, False),
        ("int8 c = {-1}", -1.0, True),
        ("float c = {0}", 0.0, True),
        ("float c = {-0}", 0.0, True),
        ("float c = {3.4e38}", 1e39, False),
        ("float c = {0}", 1e-60, False),
    ],
)
def test_a_number_is_a_constant_of_that_number(read: Read, held: str, number: float, matches: bool) -> None:
    model = read(f"g (float a) => (float y) <{held}> {{ y = Mul(a, c) }}")
    assert (found(lambda x: op.Mul(x, number), model) is not None) is matches
    assert (found(lambda x: op.Mul(const(number), x), model) is not None) is matches


def test_a_value_that_is_computed_is_no_number(read: Read, near_misses: Misses) -> None:
    double = rule(lambda x: op.Mul(op.Relu(x), 2.0))(lambda rw, m: None)
    (reason,) = near_misses("g (float a, float b) => (float y) { r = Relu(a) y = Mul(r, b) }", double)
    assert reason == "<Value b> is not a constant"
    (reason,) = near_misses("g (float a) => (float y) <float b = {3}> { r = Relu(a) y = Mul(r, b) }", double)
    assert reason == "<Value b> is not 2"


def test_a_constant_by_name_and_by_predicate(read: Read) -> None:
    model = read("g (float a) => (float[2] y) <float[2] c = {2, 3}> { y = Mul(a, c) }")
    m = found(lambda x, k: op.Mul(x, const(k)), model)
    assert m is not None and m.k.name == "c" and m.array("k").tolist() == [2, 3] and m.all_constant("k")
    assert not m.all_constant("k", "x")
    with pytest.raises(ValueError, match="<Value a> is not a constant"):
        m.array("x")
    assert found(lambda x, k: op.Mul(x, const(k, lambda array: array.min() > 1)), model) is not None
    assert found(lambda x, k: op.Mul(x, const(k, lambda array: array.min() > 2)), model) is None
    assert found(lambda x: op.Mul(x, const(accepts=lambda array: array.size == 2)), model) is not None


def test_an_absent_binding_is_constant_enough(read: Read) -> None:
    model = read("g (float a) => (float y) { y = Clip(a) }")
    m = found(lambda x, low: op.Clip(x, maybe(low)), model)
    assert m is not None and m.all_constant("low") and m.array("low") is None


def test_a_constant_that_a_caller_may_override_is_none(read: Read) -> None:
    text = "g (float a, float c = {{2}}) => (float y) {} {{ y = Mul(a, c) }}"
    assert found(lambda x: op.Mul(x, 2.0), read(text.format(""))) is None
    fixed = "g (float a) => (float y) <float c = {2}> { y = Mul(a, c) }"
    assert found(lambda x: op.Mul(x, 2.0), read(fixed)) is not None


# Attributes


@pytest.mark.parametrize(
    ("attributes", "wanted", "matches"),
    [
        ("<axis = 1>", 1, True),
        ("<axis = 2>", 1, False),
        ("", 1, False),
        ("<axis = 2>", lambda axis: axis in (1, 2), True),
        ("", lambda axis: axis is None, True),
        ("<axis = 1>", lambda axis: axis is None, False),
        ("<axis = 0.1>", 0.1, True),
        ("<axis = 0.1>", 0.2, False),
        ("<axis = [1, 2]>", [1, 2], True),
        ("<axis = [1, 2]>", (1, 2), True),
        ("<axis = [1]>", [1, 2], False),
        ("<axis = [0.1, 0.2]>", [0.1, 0.2], True),
        ("<axis = [0.1, 0.2]>", [0.1, 0.3], False),
        ("<axis = 1>", 1.0, True),
        ('<axis = "a">', 1.0, False),
        ("<axis = [1.0]>", 1.0, False),
        ('<axis = "a">', "a", True),
        ('<axis = "a">', "b", False),
    ],
    ids=lambda x: "callable" if callable(x) else repr(x),
)
def test_attributes_by_value_and_by_predicate(read: Read, attributes: str, wanted: Any, matches: bool) -> None:
    model = read(f"g (float a) => (float y) {{ y = t.Foo {attributes} (a) }}")
    assert (found(lambda x: op("t").Foo(x, axis=wanted), model) is not None) is matches


def test_an_attribute_that_a_function_s_caller_decides_is_not_absent(read: Read) -> None:
    model = read("""g (float[2] x) => (float[2] z) { z = local.F <n = 0> (x) }
        <domain: "local", opset_import: ["": 20]> F <n> (p) => (y) { y = Softmax <axis: int = @n> (p) }""")
    assert found(lambda x: op.Softmax(x, axis=lambda axis: axis is None), model) is None
    assert found(lambda x: op.Softmax(x), model) is None


# Several outputs


def test_two_outputs_of_one_node(rewrite: Rewrite) -> None:
    @rule(lambda x: tuple(op.Split(x, _outputs=2)))
    def halves(rw: Rewriter, m: Match) -> Any:
        return rw.op("t").Halve(m.x, _outputs=2)

    text = "g (float[4] x) => (float[2] y, float[2] z) { a, b = Split <num_outputs = 2> (x) y = Neg(a) z = Abs(b) }"
    assert rewrite(text, halves) == ["a, b = t:Halve(x)", "y = Neg(a)", "z = Abs(b)"]


def test_the_second_output_alone(rewrite: Rewrite) -> None:
    @rule(lambda x: op.Relu(list(op.Split(x, _outputs=2))[1]))
    def upper(rw: Rewriter, m: Match) -> Any:
        return rw.op("t").Upper(m.x)

    text = "g (float[4] x) => (float[2] y) {{ a, b = Split <num_outputs = 2> (x) y = Relu({}) }}"
    assert rewrite(text.format("b"), upper) == ["y = t:Upper(x)"]
    assert "y = Relu(a)" in rewrite(text.format("a"), upper)
    both = "g (float[4] x) => (float[2] y, float[2] z) { a, b = Split <num_outputs = 2> (x) y = Relu(b) z = Neg(a) }"
    assert len(rewrite(both, upper)) == 3  # the first output is used outside of the match


@pytest.mark.parametrize("outputs", ["a", "a, b, c"])
def test_a_node_of_other_outputs_than_the_pattern_has(rewrite: Rewrite, outputs: str) -> None:
    @rule(lambda x: tuple(op.Split(x, _outputs=2)))
    def halves(rw: Rewriter, m: Match) -> Any:
        return rw.op("t").Halve(m.x, _outputs=2)

    count = len(outputs.split(","))
    text = f"g (float[6] x) => (float[n] y) {{ {outputs} = Split <num_outputs = {count}> (x) y = Concat <axis = 0> ({outputs}) }}"
    assert [line.split(" = ")[1][:6] for line in rewrite(text, halves)] == ["Split(", "Concat"]


def test_an_unused_output_may_go_unsaid(rewrite: Rewrite) -> None:
    @rule(lambda x: op.Dropout(x))
    def inference(rw: Rewriter, m: Match) -> Any:
        return m.x

    text = "g (float[2] x) => (float[2] y) { d, mask = Dropout(x) y = Neg(d) }"
    assert rewrite(text, inference) == ["y = Neg(x)"]
    used = "g (float[2] x) => (float[2] y, bool[2] mask) { d, mask = Dropout(x) y = Neg(d) }"
    assert rewrite(used, inference) == ["d, mask = Dropout(x)", "y = Neg(x)"]


QKV = """g (float[2,2] x) => (float[2,2] y, float[2,2] z) <float[2,2] v = {1, 2, 3, 4}, float[2,2] w = {5, 6, 7, 8}> {
    y = MatMul(x, v) z = MatMul(x, w) }"""


def test_two_nodes_on_one_input_are_found_through_its_uses(
    read: Read, rewrite: Rewrite, run: Callable[..., Any]
) -> None:
    @rule(lambda x, v, w: (op.MatMul(x, const(v)), op.MatMul(x, const(w))))
    def merge(rw: Rewriter, m: Match) -> Any:
        both = rw.op.MatMul(m.x, np.concatenate([m.array("v"), m.array("w")], axis=1))
        return rw.op.Split(both, axis=1, num_outputs=2, _outputs=2)

    model, x = read(QKV), np.float32([[1, 2], [3, 4]])
    before = run(read(QKV), x=x)
    assert [line.split(" = ")[1].split("(")[0] for line in rewrite(model, merge)] == ["MatMul", "Split"]
    for expected, got in zip(before, run(model, x=x), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("order", [0, 1])
def test_an_output_that_another_is_made_of(rewrite: Rewrite, order: int) -> None:
    def pattern(x: Any) -> Any:
        s = op.Sigmoid(x)
        return ((s, op.Mul(x, s)), (op.Mul(x, s), s))[order]

    gate = rule(pattern)(lambda rw, m: rw.op("t").Gate(m.x, _outputs=2))
    text = "g (float x) => (float y, float z) { s = Sigmoid(x) m = Mul(x, s) y = Neg(m) z = Abs(s) }"
    outputs = ["s, m", "m, s"][order]
    assert rewrite(text, gate) == [f"{outputs} = t:Gate(x)", "y = Neg(m)", "z = Abs(s)"]


def test_a_partner_on_another_output_of_a_matched_node(rewrite: Rewrite) -> None:
    def pattern(x: Any) -> Any:
        a, b = op.Split(x, _outputs=2)
        return op.Neg(a), op.Abs(b)

    both = rule(pattern)(lambda rw, m: rw.op("t").Both(m.x, _outputs=2))
    text = "g (float[4] x) => (float[2] y, float[2] z) { a, b = Split <num_outputs = 2> (x) y = Neg(a) z = Abs(b) }"
    assert rewrite(text, both) == ["y, z = t:Both(x)"]
    swapped = text.replace("Neg(a)", "Neg(b)").replace("Abs(b)", "Abs(a)")
    assert len(rewrite(swapped, both)) == 3


def test_one_node_is_not_taken_for_two(near_misses: Misses) -> None:
    merge = rule(lambda x, v, w: (op.MatMul(x, const(v)), op.MatMul(x, const(w))))(lambda rw, m: None)
    text = "g (float[2,2] x) => (float[2,2] y) <float[2,2] v = {1, 2, 3, 4}> { y = MatMul(x, v) }"
    assert near_misses(text, merge) == ["there is no further MatMul"]


# What the driver asks of a rule


def test_depth_counts_nodes_that_may_be_there() -> None:
    def depth(pattern: Callable[..., Any]) -> int:
        return rule(pattern)(lambda rw, m: None).depth()

    assert depth(lambda x: op.Neg(x)) == 1
    assert depth(lambda x: op.Neg(skip("Cast", x))) == 2
    assert depth(lambda x: op.Neg(skip("Cast", op.Abs(x)))) == 3
    assert depth(lambda x: op.Clip(x, maybe(op.Neg(op.Neg(x))))) == 3
    assert depth(lambda x: op.Neg(any_of(op.Abs(x), op.Abs(op.Relu(x))))) == 3
    assert depth(lambda x: (op.Neg(x), op.Abs(op.Relu(x)))) == 2
    assert depth(lambda x: op.Neg(list(op.Split(op.Abs(x), _outputs=2))[1])) == 3


def test_only_what_must_be_there_is_required() -> None:
    def required(pattern: Callable[..., Any]) -> set[str]:
        return {kind for _, kind in rule(pattern)(lambda rw, m: None).required()}

    assert required(lambda x: op.Neg(skip("Cast", op.Abs(x)))) == {"Neg", "Abs"}
    assert required(lambda x: op.Clip(x, maybe(op.Neg(x)))) == {"Clip"}
    assert required(lambda x: op.Neg(any_of(op.Abs(x), op.Relu(x)))) == {"Neg"}
    assert required(lambda x: (op.Neg(x), op.Abs(list(op.Split(x, _outputs=2))[1]))) == {"Neg", "Abs", "Split"}


@pytest.mark.parametrize(
    "pattern",
    [
        lambda x: op.Neg(op.Abs(x, _shared=True)),
        lambda x: op.Neg(skip("Cast", op.Abs(x, _shared=True))),
        lambda x: op.Neg(any_of(x, op.Abs(x, _shared=True))),
        lambda x: op.Clip(x, maybe(op.Abs(x, _shared=True))),
        lambda x: op.Neg(list(op.Split(x, _outputs=2, _shared=True))[1]),
    ],
)
def test_shared_nodes_are_found_wherever_they_stand(pattern: Callable[..., Any]) -> None:
    assert rule(pattern)(lambda rw, m: None).shares()
    assert not rule(lambda x: op.Neg(skip("Cast", any_of(op.Abs(x), x))))(lambda rw, m: None).shares()


# What can be said at all


@pytest.mark.parametrize(
    "pattern", [lambda x: x, lambda x: const(x), lambda x: (op.Neg(x), x), lambda x: any_of(x, op.Neg(x))]
)
def test_a_rule_starts_at_an_operator(pattern: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="a pattern has to be an operator's output"):
        rule(pattern)


@pytest.mark.parametrize("pattern", [lambda x: op.Neg("x"), lambda x: op.Neg([x])])
def test_only_patterns_and_numbers_stand_in_a_pattern(pattern: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="has no place in a pattern"):
        rule(pattern)


def test_operators_have_no_private_names() -> None:
    assert not hasattr(op, "_repr_html_")


def test_alternatives_for_a_further_output_are_two_rules() -> None:
    with pytest.raises(UsageError, match="only the first output of a pattern may have alternatives; write two rules"):
        rule(lambda x: (op.Neg(x), any_of(op.Abs(x), op.Relu(x))))


@pytest.mark.parametrize("name", ["root", "nodes", "no", "has", "array", "outputs", "bindings", "all_constant"])
def test_a_binding_does_not_hide_what_a_match_has(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' cannot be a binding"):
        rule(eval(f"lambda {name}: op.Neg({name})", {"op": op}))


def test_a_rule_bears_the_name_and_the_words_of_its_function() -> None:
    @rule(lambda x: op.Neg(op.Neg(x)))
    def double_negation(rw: Rewriter, m: Match) -> Any:
        """Two negations cancel."""
        return m.x

    assert isinstance(double_negation, Rule)
    assert (double_negation.name, double_negation.doc) == ("double-negation", "Two negations cancel.")
    assert (double_negation.depth(), double_negation.required()) == (2, {("", "Neg")})
