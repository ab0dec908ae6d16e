"""What a plain Python value becomes when it is given as an attribute."""

from typing import Any

import numpy as np
import pytest

from qcompiler.dtypes import DType
from qcompiler.ir import Attr, AttrKind, Graph, Node, OptionalType, SparseTensor, TensorType, as_attr, tensor

T = tensor([1.0], DType.FLOAT)
S = SparseTensor(T, tensor([0], DType.INT64), (3,))
G = Graph()


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (3, AttrKind.INT, 3),
        (True, AttrKind.INT, 1),
        (0.5, AttrKind.FLOAT, 0.5),
        ("a", AttrKind.STRING, "a"),
        (b"\xff", AttrKind.STRING, b"\xff"),
        (np.int32(4), AttrKind.INT, 4),
        (np.float32(0.5), AttrKind.FLOAT, 0.5),
        ([1, 2], AttrKind.INTS, (1, 2)),
        ((1, 2.5), AttrKind.FLOATS, (1.0, 2.5)),
        (np.array([1, 2], np.int8), AttrKind.INTS, (1, 2)),
        (["a", "b"], AttrKind.STRINGS, ("a", "b")),
        (T, AttrKind.TENSOR, T),
        ([T, T], AttrKind.TENSORS, (T, T)),
        (S, AttrKind.SPARSE_TENSOR, S),
        (G, AttrKind.GRAPH, G),
        ([G], AttrKind.GRAPHS, (G,)),
        (TensorType(DType.INT8), AttrKind.TYPE, TensorType(DType.INT8)),
        ([OptionalType(None)], AttrKind.TYPES, (OptionalType(None),)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_kind_and_value(value: Any, kind: AttrKind, stored: Any) -> None:
    made = as_attr(value)
    assert (made.kind, made.value, made.ref) == (kind, stored, "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "the kind of an empty list cannot be told"),
        (np.zeros(0), "the kind of an empty list cannot be told"),
        ([1, "a"], "a list of mixed kinds is no attribute"),
        ([None], "NoneType is no attribute"),
        (None, "NoneType is no attribute"),
        ({1}, "set is no attribute"),
        (1j, "complex is no attribute"),
        (np.zeros((2, 2)), "an array of more than one axis is no attribute"),
    ],
    ids=repr,
)
def test_what_onnx_cannot_store_is_refused(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        as_attr(value)


def test_an_attr_stays_as_it_is() -> None:
    empty = Attr(AttrKind.INTS, ())
    node = Node("Foo", attrs={"axes": empty, "alpha": 0.5})
    assert node.attrs["axes"] is empty
    assert (node.attr("alpha"), node.attr("beta"), node.attr("beta", 1)) == (0.5, None, 1)


def test_graphs_are_found_but_not_behind_a_reference() -> None:
    assert list(as_attr(G).graphs()) == [G] and list(as_attr([G, G]).graphs()) == [G, G]
    for attr in (Attr(AttrKind.GRAPH, None, "body"), Attr(AttrKind.GRAPHS, None, "bodies"), as_attr(1)):
        assert list(attr.graphs()) == []
