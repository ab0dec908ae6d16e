"""qcompiler rewrites ONNX models for a named target, and proves what it did.

    import qcompiler as qc
    result = qc.compile("model.onnx", data="calib.npz")
    result.save("build/")

Names are loaded when they are first used, so that importing costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcompiler import testing
    from qcompiler.compiler import Result, compile, distill
    from qcompiler.errors import QCompilerError
    from qcompiler.ir import Graph, Model, Node, Value
    from qcompiler.lower import Target
    from qcompiler.onnx_io import load, save
    from qcompiler.pipeline import Pass, PassContext, Pipeline
    from qcompiler.plugins import surgeon_pass
    from qcompiler.rewrite import Match, Rewriter, any_of, const, maybe, op, rest, rule, skip

_HOMES = {
    "Graph": "ir",
    "Match": "rewrite",
    "Model": "ir",
    "Node": "ir",
    "Pass": "pipeline",
    "PassContext": "pipeline",
    "Pipeline": "pipeline",
    "QCompilerError": "errors",
    "Result": "compiler",
    "Rewriter": "rewrite",
    "Target": "lower",
    "Value": "ir",
    "any_of": "rewrite",
    "compile": "compiler",
    "const": "rewrite",
    "distill": "compiler",
    "load": "onnx_io",
    "maybe": "rewrite",
    "op": "rewrite",
    "rest": "rewrite",
    "rule": "rewrite",
    "save": "onnx_io",
    "skip": "rewrite",
    "surgeon_pass": "plugins",
}

__all__ = [
    "Graph",
    "Match",
    "Model",
    "Node",
    "Pass",
    "PassContext",
    "Pipeline",
    "QCompilerError",
    "Result",
    "Rewriter",
    "Target",
    "Value",
    "any_of",
    "compile",
    "const",
    "distill",
    "load",
    "maybe",
    "op",
    "rest",
    "rule",
    "save",
    "skip",
    "surgeon_pass",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module("qcompiler.testing")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'qcompiler' has no attribute {name!r}")
    return getattr(importlib.import_module(f"qcompiler.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "testing"])
