"""What is in a built engine: its layers, the nodes that each stands for, and the element types at its ends.

A serialized engine of the compiler inside TensorRT (Myelin) carries its program as text: descriptors of tensors, then
instructions with their operands. That can be read on a machine that cannot run the engine. Where the engine can be
loaded, TensorRT's own inspector says the same as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qcompiler.errors import LoweringError

__all__ = ["Layer", "layers_of_inspector", "layers_of_plan"]

_TOKEN = re.compile(r'"[^"]*"|[{}=]|[^\s{}="]+')
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_MOVES = re.compile(r"__myl_(Cast|Move|Tran|Copy|Resh)+")  # a kernel is named after what it does, four letters each
_TYPES = {"half": "float16", "bf16": "bfloat16", "fp8_e4m3": "float8"}
_FORMATS = {"int8": "int8", "int4": "int4", "fp8": "float8", "fp16": "float16", "half": "float16", "bf16": "bfloat16",
            "fp32": "float", "int32": "int32", "int64": "int64", "bool": "bool"}  # fmt: skip
_PRODUCTS = re.compile(r"corrltn|deconvolution|fully_connected|gemm|Fc|Conv")


@dataclass(frozen=True)
class Layer:
    """One launch.

    ``nodes`` are names of nodes of the ONNX file, ``reads`` and ``gives`` element types (int8, float16, float, ...) of
    activations and weights. ``multiplies`` is true for products and convolutions, ``moves`` for what only changes
    layout or type.
    """

    name: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    multiplies: bool
    moves: bool

    @property
    def in_8_bits(self) -> bool:
        """True for a product that multiplies in 8 bits: both of its factors are int8 or float8."""
        return self.multiplies and self.reads[:2] in (("int8", "int8"), ("float8", "float8"))


def layers_of_plan(plan: bytes) -> list[Layer]:
    """The layers of a serialized engine, in order. Raises LoweringError where no program can be read in it."""
    try:
        found = _layers(plan)
    except (ValueError, KeyError, IndexError, TypeError):
        found = []
    if not found:
        raise LoweringError("the engine holds no program that could be read", hint="load it where there is a card")
    return found


def _layers(plan: bytes) -> list[Layer]:
    found: list[Layer] = []
    programs = list(re.finditer(rb"descriptors \{\n", plan))
    for start in programs:
        text = plan[start.start() : plan.find(b"\0", start.start())].decode("utf-8", "replace")
        head, _, body = text.partition("\nmain {\n")
        types = {item["name"]: item["type"] for kind, item in _records(head) if kind in ("tensor", "sub_tensor")}
        made = (_layer(kind, item, types) for kind, item in _records(body) if "layers" in item)
        found += [layer for layer in made if layer.reads or layer.gives]  # the others wait for one another
    return found


def _layer(kind: str, item: Mapping[str, Any], types: Mapping[str, str]) -> Layer:
    reads, gives = (
        tuple(_TYPES.get(types[name], types[name]) for name in _first(item, *keys) if name in types)
        for keys in (("input_args", "input", "args"), ("output_args", "output"))
    )
    name = str(item.get("name", kind))
    multiplies = _PRODUCTS.search(kind if kind not in ("function", "runtime_fusion") else name) is not None
    moves = kind == "function" and _MOVES.fullmatch(name) is not None
    return Layer(name, tuple(dict.fromkeys(_NODE.findall(item["layers"]))), reads, gives, multiplies, moves)


def _first(item: Mapping[str, Any], *keys: str) -> list[str]:
    found: str | list[str] = next((item[key] for key in keys if key in item), [])
    return [found] if isinstance(found, str) else found


def _records(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries ``KIND={ key=value ... }`` of a block. A value is a word, a text or a list in braces."""
    tokens = _TOKEN.findall(text)
    place = 0
    while place + 2 < len(tokens):
        if tokens[place + 1] == "=" and tokens[place + 2] == "{" and place + 4 < len(tokens):
            kind, place = tokens[place], place + 3
            item: dict[str, Any] = {}
            while place < len(tokens) and tokens[place] != "}":
                if place + 2 >= len(tokens) or tokens[place + 1] != "=":
                    place += 1
                    continue
                key, value, place = tokens[place], tokens[place + 2], place + 3
                if value == "{":
                    close = tokens.index("}", place)
                    item[key], place = [each.strip('"') for each in tokens[place:close]], close + 1
                else:
                    item[key] = value.strip('"')
            yield kind, item
        place += 1


def layers_of_inspector(text: str) -> list[Layer]:
    """The layers of what ``IEngineInspector.get_engine_information`` gives as JSON, of an engine that was built with
    detailed profiling. Raises LoweringError for text that is something else."""
    try:
        entries = json.loads(text)["Layers"]
        return [_inspected(entry) for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoweringError(f"what the inspector says cannot be read: {error}") from None


def _inspected(entry: Mapping[str, Any]) -> Layer:
    reads, gives = (
        tuple(_format(_said(tensor, "Datatype", "DataType", "Format/Datatype")) for tensor in entry.get(key, ()))
        for key in ("Inputs", "Outputs")
    )
    kind = str(entry.get("LayerType", "")).lower()
    multiplies = any(word in kind for word in ("conv", "gemm", "matmul", "matrixmultiply", "fullyconnected"))
    if multiplies and len(reads) == 1:  # constant weights are no inputs there
        weights = entry.get("Weights")
        reads = (*reads, _format(str(weights["Type"])) if isinstance(weights, dict) and "Type" in weights else reads[0])
    nodes = tuple(dict.fromkeys(_NODE.findall(str(entry.get("Metadata", "")))))
    return Layer(str(entry.get("Name", "")), nodes, reads, gives, multiplies, kind in ("reformat", "noop", "shuffle"))


def _said(tensor: Mapping[str, Any], *keys: str) -> str:
    return next((str(tensor[key]) for key in keys if key in tensor), "")


def _format(text: str) -> str:
    lowered = text.lower()
    return next((short for word, short in _FORMATS.items() if word in lowered), lowered)
