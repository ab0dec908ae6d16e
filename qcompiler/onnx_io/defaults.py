"""What an attribute is where a node does not say it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import onnx

__all__ = ["attribute_defaults"]


@functools.cache
def attribute_defaults(op_type: str, domain: str, version: int) -> Mapping[str, Any]:
    """The defaults of integers, floats and strings of an operator, by attribute; empty where onnx knows none of it."""
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return {}
    found: dict[str, Any] = {}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if default.type in (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.STRING):
            value = onnx.helper.get_attribute_value(default)
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found
