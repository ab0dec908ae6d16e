"""The child process of :mod:`qcompiler.kernels.building`: ``python -m qcompiler.kernels.compiling ORDER ANSWER``.

Reads specializations, compiles each by Triton for an architecture that need not be there, and leaves a file for each.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

from qcompiler.kernels.registry import triton_module

__all__ = ["compile_one"]


def compile_one(wanted: dict[str, Any], capability: int) -> dict[str, Any]:
    """The record of one cubin. Raises what Triton raises."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, _, name = wanted["function"].partition(":")
    function: Any = getattr(importlib.import_module(triton_module(module)), name)
    names = list(inspect.signature(function.fn).parameters)
    signature = {
        **dict(zip(names, wanted["types"], strict=False)),
        **dict.fromkeys(names[len(wanted["types"]) :], "constexpr"),
    }
    aligned = [place for place, kind in enumerate(wanted["types"]) if kind.startswith("*")] + wanted["divisible"]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs={(names.index(key),): value for key, value in wanted["constants"].items()},
        attrs={(place,): [["tt.divisibility", 16]] for place in aligned},
    )
    options = {
        "num_warps": wanted["warps"],
        "num_stages": wanted["stages"],
        "enable_fp_fusion": False,
        "ptx_version": 87,
    }
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = made.asm["ptx"]
    entry = ptx[ptx.index(".entry") : ptx.index(")", ptx.index(".entry"))]
    return {
        "cubin": made.asm["cubin"].hex(),
        "entry": made.metadata.name,
        "shared": made.metadata.shared,
        "warps": made.metadata.num_warps,
        "hidden": entry.count(".param") - len(wanted["types"]),
        "ptx": ptx,
    }


def main(order: Path, answer: Path) -> None:
    """Do what ``order`` says; leave ``INDEX.json`` for each in ``answer``."""
    said = json.loads(order.read_text())
    answer.mkdir()
    for index, wanted in enumerate(said["wanted"]):
        try:
            found = compile_one(wanted, said["capability"])
        except Exception as error:  # Triton and its LLVM raise what they like
            lines = str(error).strip().splitlines() or [""]
            found = {"problem": f"{type(error).__name__}: {lines[-1]}"}
        (answer / f"{index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
