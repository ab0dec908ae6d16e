"""How nodes, types and clashing names read."""

import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import (
    Attr,
    AttrKind,
    Graph,
    MapType,
    Node,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensor,
    TensorType,
    Type,
    Value,
    as_attr,
    format_graph,
    format_node,
    format_type,
    tensor,
)


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (None, "?"),
        (TensorType(DType.FLOAT, (1, "n", None)), "float[1,n,?]"),
        (TensorType(DType.INT4, ()), "int4[]"),
        (TensorType(None, None), "?[...]"),
        (TensorType(DType.FLOAT, (2,), True), "sparse float[2]"),
        (SequenceType(OptionalType(TensorType(DType.INT64, ()))), "seq(optional(int64[]))"),
        (MapType(DType.STRING, None), "map(string, ?)"),
        (OpaqueType("d", "n"), "opaque(d:n)"),
    ],
    ids=repr,
)
def test_types(type: Type | None, text: str) -> None:
    assert format_type(type) == text


@pytest.mark.parametrize(
    ("attr", "text"),
    [
        (as_attr(0.1), "0.1"),
        (as_attr("a"), "'a'"),
        (as_attr([1, 2]), "[1,2]"),
        (Attr(AttrKind.INTS, ()), "[]"),
        (Attr(AttrKind.INT, None, "n"), "@n"),
        (as_attr(tensor([1.5, -0.0], DType.BFLOAT16)), "[1.5,-0]"),
        (as_attr(tensor([True, False])), "[True,False]"),
        (as_attr(tensor([-1, 7], DType.INT4)), "[-1,7]"),
        (as_attr(tensor(range(9))), "const"),
        (as_attr(tensor(1e-30, DType.DOUBLE)), "1e-30"),
        (as_attr(SparseTensor(tensor([1.0]), tensor([0]), (3,))), "const"),
        (as_attr(TensorType(DType.FLOAT, (2,))), "float[2]"),
        (as_attr([TensorType(DType.INT8), SequenceType(None)]), "[int8[...],seq(?)]"),
        (as_attr([tensor([1]), tensor([2.5])]), "[[1],[2.5]]"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_attributes(attr: Attr, text: str) -> None:
    assert format_node(Node("Foo", attrs={"v": attr}, outputs=[Value("y")])) == f"y = Foo() {{v={text}}}"


def test_a_node_with_left_out_inputs_and_several_outputs() -> None:
    node = Node("Foo", [Value("a"), None, Value()], domain="d", overload="o", outputs=[Value("y"), Value()])
    assert format_node(node) == "y, %? = d:Foo:o(a, -, %?)"


def test_two_values_of_one_name_read_differently() -> None:
    graph = Graph("g")
    x = graph.add_input(Value("x"))
    first = graph.append(Node("Relu", [x], outputs=[Value("a")])).output
    graph.add_output(graph.append(Node("Add", [x, first], outputs=[Value("a")])).output)
    lines = format_graph(graph).splitlines()
    assert lines[1:3] == ["  %0 = Relu(x)", "  a = Add(x, %0)"]
