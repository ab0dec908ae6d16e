"""``__all__`` is what a module offers: present, sorted, and true."""

import ast
import importlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from qcompiler.training import has_torch

NOT_IMPORTED = {"qcompiler.__main__"}  # it would run the command line


def public_names(source: str) -> Iterator[str]:
    """The public names that the statements at the top of a module bind; a plain ``import x`` offers nothing."""
    for node in ast.parse(source).body:
        names: list[str] = []
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names = [node.name]
            case ast.ImportFrom() if node.module != "__future__":
                names = [alias.asname or alias.name for alias in node.names]
            case ast.Assign():
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
        yield from (name for name in names if not name.startswith("_"))


def in_order(names: list[str]) -> list[str]:
    """Constants, then classes, then the rest, numbers by value: the order of ``ruff check --fix``."""

    def key(name: str) -> tuple[int, list[str | int]]:
        kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
        return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    return sorted(set(names), key=key)


def test_every_public_module_says_what_it_offers(root: Path, modules: dict[str, Path]) -> None:
    silent = []
    for name, path in modules.items():
        source = (root / path).read_text("utf-8")
        private = any(part.startswith("_") for part in name.split("."))
        if not private and "__all__" not in source and any(public_names(source)):
            silent.append(f"{path}: no __all__")
    assert not silent, "\n".join(silent)


def test_all_is_sorted_and_true(modules: dict[str, Path]) -> None:
    wrong = []
    for name, path in modules.items():
        if name in NOT_IMPORTED or (name.startswith("qcompiler.training.") and not has_torch()):
            continue
        if name.startswith("qcompiler.kernels.triton.") and find_spec("triton") is None:
            continue
        try:
            module = importlib.import_module(name)
        except Exception as error:  # one module that is broken must not hide what is wrong with the others
            wrong.append(f"{path}: cannot be imported: {error!r}")
            continue
        offered = list(getattr(module, "__all__", ()))
        if offered != in_order(offered):
            wrong.append(f"{path}: __all__ is not sorted, or says a name twice; in order: {in_order(offered)}")
        wrong += [f"{path}: __all__ offers {one!r}, which is not there" for one in offered if not hasattr(module, one)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('"""Only a docstring."""', []),
        ("from __future__ import annotations\nimport numpy as np\n_T = 1\ndef _f(): ...", []),
        ("from .graph import Graph, Node as N", ["Graph", "N"]),
        ("LIMIT: int = 3\nA = b = 1\nclass C: ...\ndef f(): ...", ["LIMIT", "A", "b", "C", "f"]),
    ],
)
def test_public_names(source: str, names: list[str]) -> None:
    assert list(public_names(source)) == names


def test_the_order_is_that_of_ruff() -> None:
    assert in_order(["save", "Value", "X", "LIMIT", "op10", "op9", "Graph"]) == [
        "LIMIT",
        "Graph",
        "Value",
        "X",
        "op9",
        "op10",
        "save",
    ]
