"""Raising the version of the standard operators that a model is written in, so that passes need to know one only.

A model is raised as a whole or not at all. From opset to opset, an operator either has not changed, or its new
version takes everything that the old one took and means the same by it, or a rule says what to do.
"""

from __future__ import annotations

from functools import cache

import onnx

from qcompiler.ir import Graph, Model, Node, TensorType, Value, clone_model
from qcompiler.onnx_io.inference import infer_types
from qcompiler.onnx_io.opset_draft import Draft, Refusal
from qcompiler.onnx_io.opset_rules import RULES, SAME, Rule

__all__ = ["CANONICAL", "upgrade_opset"]

CANONICAL = 17
"""The opset that passes are written for."""


def upgrade_opset(model: Model, version: int = CANONICAL) -> str:
    """Rewrite ``model`` in place for opset ``version`` of the standard domain; the reason why not, empty when done.

    Subgraphs and the bodies of functions go with it. Inputs, outputs and every value that a node gives stay the
    same objects under the same names; ``ir_version`` rises where the opset needs it. A model at ``version`` or
    beyond, or without standard operators, is done. Where one node cannot be rewritten, nothing is.
    """
    bodies = [(model.graph, model.opset), *((f.graph, f.opsets.get("", 0)) for f in model.functions.values())]
    if model.opset >= version or not any(_standard(graph) for graph, _ in bodies):
        return ""
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        return f"onnx {onnx.__version__} knows opsets up to {newest}, not {version}"
    if model.carried.get("training_info"):
        return "the model has graphs for training, which are written in its opset"
    types = _Types(model)
    drafts: list[Draft] = []
    for graph, present in bodies:
        if present >= version:
            continue
        for node in graph.all_nodes():
            try:
                draft = None if node.domain else _draft(node, present, version, types)
            except Refusal as reason:
                label = node.name or next((value.name for value in node.outputs if value.name), "")
                return f"{node.op_type} '{label}' cannot go from opset {present} to {version}: {reason}"
            if draft is not None:
                drafts.append(draft)
    for draft in drafts:
        draft.apply()
    for opsets in (model.opsets, *(function.opsets for function in model.functions.values())):
        if 0 < opsets.get("", 0) < version:
            opsets[""] = version
    needed: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", version)])
    model.ir_version = max(model.ir_version, needed)
    return ""


def _standard(graph: Graph) -> bool:
    return any(not node.domain for node in graph.all_nodes())


def _draft(node: Node, present: int, version: int, types: _Types) -> Draft | None:
    """What ``node`` becomes between two opsets; None when it stays as it is. Raises Refusal."""
    schema = _schema(node.op_type, present)
    if schema is None:
        raise Refusal(f"opset {present} has no such operator")
    if schema.deprecated:
        raise Refusal(f"it is deprecated in opset {present}")
    draft: Draft | None = None
    op_type = node.op_type
    for opset in range(present + 1, version + 1):
        step = _step(op_type, opset)
        if isinstance(step, str):
            raise Refusal(f"{step} in opset {opset}")
        if step is not None or (opset == 6 and "consumed_inputs" in node.attrs):
            if not schema.min_input <= len(node.inputs) <= schema.max_input:
                raise Refusal(f"it has {len(node.inputs)} inputs")
            draft = draft or Draft(node, version, types)
            draft.attrs.pop("consumed_inputs", None)  # a hint for memory, gone in opset 6
            if step is not None:
                step(draft)
            op_type = draft.op_type
    return draft


@cache
def _step(op_type: str, opset: int) -> Rule | str | None:
    """What takes a node to ``opset`` from the one before: nothing (None), a rule, or the reason why nothing can."""
    old, new = _schema(op_type, opset - 1), _schema(op_type, opset)
    if old is None or new is None or new.since_version < opset or (op_type, opset) in SAME:
        return None
    return RULES.get((op_type, opset)) or _difference(old, new) or None


@cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _difference(old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> str:
    """Why a node of the version ``old`` may not be read as one of ``new``; empty when it may."""
    if new.deprecated and not old.deprecated:
        return "the operator was deprecated"
    option = onnx.defs.OpSchema.FormalParameterOption
    for kind, before, after in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        if len(before) > len(after):
            return f"{kind}s went"
        for one, other in zip(before, after, strict=False):
            if one.name != other.name or not set(one.types) <= set(other.types):
                return f"{kind} {one.name} changed"
            if one.option != other.option and (one.option, other.option) != (option.Single, option.Optional):
                return f"{kind} {one.name} changed"
        if any(other.option != option.Optional for other in after[len(before) :]):
            return f"{kind}s were added"
    for name, attribute in old.attributes.items():
        if name not in new.attributes:
            if name != "consumed_inputs":
                return f"attribute {name} went"
            continue
        later = new.attributes[name]
        if attribute.type != later.type or attribute.default_value != later.default_value:
            return f"attribute {name} changed"
        if later.required and not attribute.required:
            return f"attribute {name} became required"
    if any(attribute.required for name, attribute in new.attributes.items() if name not in old.attributes):
        return "attributes were added"
    return ""


class _Types:
    """The types of values: what the model says, else what inference finds in a copy of it, which is made once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._copies: dict[Value, Value] | None = None

    def __call__(self, value: Value) -> TensorType | None:
        type = value.type
        if not isinstance(type, TensorType) or type.dtype is None or type.shape is None:
            if self._copies is None:
                self._copies = {}
                infer_types(clone_model(self._model, self._copies))
            type = self._copies.get(value, value).type
        return type if isinstance(type, TensorType) else None
