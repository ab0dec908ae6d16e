"""Who may import whom: floors inside the package, and which room knows which third party.

The imports are read from the source, so those inside functions and under ``TYPE_CHECKING`` count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

FLOORS = {
    11: "cli",
    10: "plugins",
    9: "compiler testing",
    8: "passes search",
    7: "lower training",
    6: "calibrate pipeline",
    5: "onnx_io rewrite workers",
    4: "ops runtime",
    3: "ir kernels storage",
    2: "data dtypes report",
    1: "caching errors plugged progress",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
EXEMPT = {"qcompiler", "qcompiler.__main__"}  # the public face stands above every floor

KNOWS_ONNX = {"lower", "onnx_io", "plugins", "testing"}
OPTIONAL = {
    "PIL",
    "constriction",
    "dask",
    "distributed",
    "olive",
    "onnx_ir",
    "pynvml",
    "sklearn",
    "tensorrt",
    "tensorrt_rtx",
    "torch",
    "triton",
    "zstandard",
}

# A package that is about one library may load it with its modules; then others import these in functions only.
LOADS = {"torch": "qcompiler.training", "triton": "qcompiler.kernels.triton"}

When = Literal["load", "typing", "call"]


@dataclass(frozen=True)
class Import:
    """One module that is imported, as a full dotted name, and when: at load, for the type checker, or in a call."""

    name: str
    line: int
    when: When


def imports(source: str, module: str, *, is_package: bool) -> list[Import]:
    """Every import in the source of ``module``, in the order of lines."""
    package = module if is_package else module.rpartition(".")[0]
    found: list[Import] = []
    todo: list[tuple[ast.AST, When]] = [(ast.parse(source), "load")]
    while todo:
        node, when = todo.pop()
        found += (Import(name, node.lineno, when) for name in _names(node, package))
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            todo += ((child, "typing") for child in node.body)
            todo += ((child, when) for child in node.orelse)
            continue
        inner: When = "call" if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else when
        todo += ((child, inner) for child in ast.iter_child_nodes(node))
    return sorted(found, key=lambda one: (one.line, one.name))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that this one statement or call imports."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                base = ".".join([*parent, *filter(None, [base])])
            # `from qcompiler import ir` names a room, `from qcompiler import compile` names the public face.
            rooms = [alias.name for alias in node.names if base == "qcompiler" and alias.name in FLOOR]
            yield from (f"qcompiler.{room}" for room in rooms)
            if len(rooms) < len(node.names):
                yield base
        case ast.Call(func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")):
            match node.args:
                case [ast.Constant(value=str(name)), *_] if not name.startswith("."):
                    yield name


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def complaints(sources: dict[str, tuple[Path, str]]) -> list[str]:
    """What is wrong with the imports of ``{module: (path, source)}``, one line each, as file:line: what."""
    found = []
    for module, (path, source) in sources.items():
        if module in EXEMPT:
            continue
        room = module.split(".")[1]
        floor = FLOOR.get(room)
        if floor is None:
            found.append(f"{path}:1: {room} has no floor; give it one in {Path(__file__).name} and in CONTRIBUTING.md")
            continue
        try:
            statements = imports(source, module, is_package=path.name == "__init__.py")
        except SyntaxError as error:
            found.append(f"{path}:{error.lineno}: {error.msg}")
            continue
        for one in statements:
            top, _, rest = one.name.partition(".")
            target = rest.split(".")[0]
            where = f"{path}:{one.line}: {room} (floor {floor}) imports"
            if top == "qcompiler" and not target:
                found.append(f"{where} the public face of qcompiler; import from the room that defines it")
            elif top == "qcompiler" and target != room and FLOOR.get(target, 99) >= floor:
                found.append(f"{where} {one.name} (floor {FLOOR.get(target, '?')})")
            elif top in {"kernels", "passes"}:
                found.append(f"{where} {one.name}; its name is qcompiler.{one.name}")
            elif top == "onnx" and room not in KNOWS_ONNX:
                found.append(f"{where} onnx; only {', '.join(sorted(KNOWS_ONNX))} may")
            elif one.when == "load" and (
                any(one.name.startswith(f"{home}.") and not inside(module, home) for home in LOADS.values())
                or (top in OPTIONAL and not inside(module, LOADS.get(top, "nowhere")))
            ):
                found.append(f"{where} {one.name} when it is loaded; import it in the function that needs it")
    return found


def test_imports_run_downward(root: Path, modules: dict[str, Path]) -> None:
    sources = {name: (path, (root / path).read_text("utf-8")) for name, path in modules.items()}
    found = complaints(sources)
    assert not found, f"{len(found)} imports break the rules of the house:\n" + "\n".join(found)


def test_no_room_is_on_two_floors() -> None:
    assert len(FLOOR) == sum(len(rooms.split()) for rooms in FLOORS.values())


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("qcompiler.ir.graph", "from qcompiler.ops import TABLE", "ir (floor 3) imports qcompiler.ops (floor 4)"),
        ("qcompiler.ir.graph", "from ..ops import TABLE", "imports qcompiler.ops (floor 4)"),
        ("qcompiler.ir.graph", "from .. import ops", "imports qcompiler.ops (floor 4)"),
        ("qcompiler.ir.graph", "from qcompiler import errors, ops", "imports qcompiler.ops (floor 4)"),
        ("qcompiler.ir.graph", "def f():\n    import qcompiler.ops", ":2: ir (floor 3) imports qcompiler.ops"),
        ("qcompiler.ir.graph", "if TYPE_CHECKING:\n    from qcompiler.ops import T", "imports qcompiler.ops (floor 4)"),
        ("qcompiler.ir.graph", "m = importlib.import_module('qcompiler.ops')", "imports qcompiler.ops (floor 4)"),
        ("qcompiler.ir.graph", "import qcompiler as qc", "the public face"),
        ("qcompiler.ir.graph", "from qcompiler import compile", "the public face"),
        ("qcompiler.ir.graph", "import qcompiler.cellar", "imports qcompiler.cellar (floor ?)"),
        ("qcompiler.passes.prune", "from qcompiler.search import plan", "passes (floor 8) imports qcompiler.search"),
        ("qcompiler.lower.base", "from passes import prune", "its name is qcompiler.passes"),
        ("qcompiler.search.plan", "def f():\n    import onnx.helper", "only lower, onnx_io, plugins, testing may"),
        ("qcompiler.kernels.gemm", "try:\n    import triton\nexcept ImportError: ...", "triton when it is loaded"),
        ("qcompiler.data.images", "class C:\n    from PIL import Image", "PIL when it is loaded"),
        ("qcompiler.training.loop", "import sklearn", "sklearn when it is loaded"),
        ("qcompiler.kernels.matmul", "import qcompiler.kernels.triton.matmul", "triton.matmul when it is loaded"),
        (
            "qcompiler.passes.prune",
            "from qcompiler.training.loop import train",
            "qcompiler.training.loop when it is loaded",
        ),
        ("qcompiler.attic", "", "attic has no floor"),
        ("qcompiler.ir.graph", "import os\nimport", "it.py:2: "),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str, complaint: str) -> None:
    (found,) = complaints({module: (Path("it.py"), source)})
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qcompiler.ir.graph", "from .tensor import Tensor\nfrom qcompiler.ir import text\nimport qcompiler.errors"),
        ("qcompiler.ir.graph", "from .. import errors\nfrom ..dtypes import DataType"),
        ("qcompiler.lower.base", "import onnx\nimport numpy as np"),
        ("qcompiler.kernels.gemm", "def launch():\n    import triton"),
        (
            "qcompiler.kernels.triton.conv",
            "import triton.language as tl\nfrom qcompiler.kernels.triton.matmul import f",
        ),
        ("qcompiler.data.images", "if TYPE_CHECKING:\n    from PIL import Image"),
        ("qcompiler.training.loop", "import torch\nfrom qcompiler.training.module import GraphModule"),
        ("qcompiler.passes.recover", "from qcompiler.training import Settings"),
        ("qcompiler.passes.recover", "def f():\n    from qcompiler.training.loop import train"),
        ("qcompiler", "from qcompiler.cli import main"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert complaints({module: (Path("it.py"), source)}) == []
